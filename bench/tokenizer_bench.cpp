// Encodes the texts of a JSON-lines file: prints the ids (--ids), or the least CPU time of five
// runs as one JSON object. tokenizer_bench.py compares both with Hugging Face's tokenizers.
//
//     tokenizer_timer MODEL_FOLDER FILE MAX_LENGTH [--ids]

#include <algorithm>
#include <cstdio>
#include <ctime>
#include <limits>
#include <string_view>

#include "core/error.h"
#include "data/record_reader.h"
#include "data/tokenizer.h"

namespace {

using drystone::data::Record;
using drystone::data::TokenId;
using drystone::data::Tokenizer;

double cpu_seconds() { return static_cast<double>(std::clock()) / CLOCKS_PER_SEC; }

void print_ids(const Tokenizer& tokenizer, const std::vector<Record>& records,
               std::int64_t max_length) {
  for (const Record& record : records) {
    for (const TokenId id : tokenizer.encode(record.text, max_length)) std::printf("%d ", id);
    std::printf("\n");
  }
}

void print_speed(const Tokenizer& tokenizer, const std::vector<Record>& records,
                 std::int64_t max_length) {
  std::vector<TokenId> ids;
  std::size_t num_ids = 0;
  double best = std::numeric_limits<double>::infinity();
  for (int run = 0; run < 5; ++run) {
    num_ids = 0;
    const double start = cpu_seconds();
    for (const Record& record : records) {
      ids.clear();
      tokenizer.encode_into(record.text, max_length, /*add_special=*/true, ids);
      num_ids += ids.size();
    }
    best = std::min(best, cpu_seconds() - start);
  }
  std::printf("{\"texts\": %zu, \"ids\": %zu, \"seconds\": %.6f}\n", records.size(), num_ids, best);
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 4) {
    std::fprintf(stderr, "usage: tokenizer_timer MODEL_FOLDER FILE MAX_LENGTH [--ids]\n");
    return 2;
  }
  try {
    const auto tokenizer = drystone::data::load_tokenizer(argv[1]);
    const auto records = drystone::data::read_records(argv[2], {});
    const std::int64_t max_length = std::stoll(argv[3]);
    const bool wants_ids = argc > 4 && std::string_view(argv[4]) == "--ids";
    (wants_ids ? print_ids : print_speed)(*tokenizer, records, max_length);
    return 0;
  } catch (const std::exception& error) {
    std::fprintf(stderr, "tokenizer_timer: error: %s\n", error.what());
    return 1;
  }
}
