// Encodes the texts of a file that holds one JSON string a line: prints ids without and with
// special tokens and the decoded text (--ids), or the least CPU time of five runs as one JSON
// object. tokenizer_bench.py and tests/oracles/tokenizer_compare.py compare them with others'.
//
//     tokenizer_timer MODEL_FOLDER FILE MAX_LENGTH [--ids]

#include <algorithm>
#include <cstdio>
#include <ctime>
#include <filesystem>
#include <fstream>
#include <limits>
#include <string>
#include <string_view>
#include <vector>

#include <nlohmann/json.hpp>

#include "text/tokenizer.h"

namespace {

using drystone::text::TokenId;
using drystone::text::Tokenizer;

double cpu_seconds() { return static_cast<double>(std::clock()) / CLOCKS_PER_SEC; }

std::vector<std::string> read_texts(const std::filesystem::path& file) {
  std::ifstream stream(file, std::ios::binary);
  std::vector<std::string> texts;
  for (std::string line; std::getline(stream, line);) {
    texts.push_back(nlohmann::json::parse(line).get<std::string>());
  }
  return texts;
}

void print_ids(const Tokenizer& tokenizer, const std::vector<std::string>& texts,
               std::int64_t max_length) {
  for (const std::string& text : texts) {
    const auto ids = tokenizer.encode(text, max_length, /*add_special=*/false);
    const nlohmann::json row = {ids, tokenizer.encode(text, max_length), tokenizer.decode(ids)};
    std::printf("%s\n", row.dump().c_str());
  }
}

void print_speed(const Tokenizer& tokenizer, const std::vector<std::string>& texts,
                 std::int64_t max_length) {
  std::vector<TokenId> ids;
  std::size_t num_ids = 0;
  double best = std::numeric_limits<double>::infinity();
  for (int run = 0; run < 5; ++run) {
    num_ids = 0;
    const double start = cpu_seconds();
    for (const std::string& text : texts) {
      ids.clear();
      tokenizer.encode_into(text, max_length, /*add_special=*/true, ids);
      num_ids += ids.size();
    }
    best = std::min(best, cpu_seconds() - start);
  }
  std::printf("{\"texts\": %zu, \"ids\": %zu, \"seconds\": %.6f}\n", texts.size(), num_ids, best);
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 4) {
    std::fprintf(stderr, "usage: tokenizer_timer MODEL_FOLDER FILE MAX_LENGTH [--ids]\n");
    return 2;
  }
  try {
    const auto tokenizer = drystone::text::load_tokenizer(argv[1]);
    const auto texts = read_texts(argv[2]);
    const std::int64_t max_length = std::stoll(argv[3]);
    const bool wants_ids = argc > 4 && std::string_view(argv[4]) == "--ids";
    (wants_ids ? print_ids : print_speed)(*tokenizer, texts, max_length);
    return 0;
  } catch (const std::exception& error) {
    std::fprintf(stderr, "tokenizer_timer: error: %s\n", error.what());
    return 1;
  }
}
