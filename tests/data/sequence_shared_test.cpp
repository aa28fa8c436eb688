// The data sets under ../shared/data, in every form, through a real tokenizer. Skipped without it.
#include <algorithm>
#include <filesystem>

#include <doctest/doctest.h>

#include "data/load_sequences.h"
#include "data/packing.h"
#include "data/record_reader.h"
#include "tests/text/files.h"

using namespace drystone::data;
using namespace drystone::text;
using drystone::test::contains;

namespace {

const std::filesystem::path kShared = DRYSTONE_SOURCE_DIR "/../shared/data";

struct Case {
  const char* file;
  const char* prompt_template;
  const char* answer_field;
  const char* text_field;
  std::size_t num_records;
};

SequenceSource source_of(const Case& given, const std::filesystem::path& model) {
  RecordFields fields{.text = given.text_field};
  fields.sequence = sequence_fields(given.prompt_template, given.answer_field);
  return {.file = kShared / "datasets" / given.file, .fields = fields, .model_folder = model};
}

/// Pieces of the tokens, decoded one run at a time.
std::string learnt_text(const Tokenizer& tokenizer, const Dataset& dataset, std::size_t example) {
  std::vector<TokenId> learnt;
  for (const TokenId label : dataset.token_labels(example)) {
    if (label != kNoLabel) learnt.push_back(label);
  }
  return tokenizer.decode(learnt);
}

}  // namespace

TEST_CASE("shared data: every form loads, and answers are what is learnt") {
  const std::filesystem::path model = kShared / "tokenizers/tiny-llama3-style";
  if (!std::filesystem::exists(model) || !std::filesystem::exists(kShared / "datasets")) {
    MESSAGE("no shared data: skipped");
    return;
  }
  const auto tokenizer = load_tokenizer(model);
  for (const Case& given :
       {Case{"dolly-15k-fed10/global_test.jsonl.gz", "dolly", "", "text", 80},
        Case{"gsm8k/test.jsonl.gz", "auto", "", "text", 1319},
        Case{"instruction/llms_from_scratch_1100.jsonl.gz", "alpaca", "", "text", 1100},
        Case{"instruction/wikisql_mlx_test.jsonl.gz", "plain", "", "text", 100},
        Case{"e2e-nlg/test.jsonl.gz", "{mr}\n", "text", "text", 4693},
        Case{"shakespeare/by_role.jsonl.gz", "plain", "", "speeches", 7095}}) {
    const std::string name = given.file;
    CAPTURE(name);
    const SequenceEncoder encoder(*tokenizer, nullptr,
                                  {.prompt_template = given.prompt_template,
                                   .answer_field = given.answer_field,
                                   .max_length = 4096});
    const SequenceSource source = source_of(given, model);
    const LoadedSequences loaded = load_sequences(source, encoder);
    MESSAGE(name << ": " << loaded.examples.size() << " examples, " << loaded.examples.num_tokens()
                 << " tokens, " << loaded.num_skipped << " left out");
    CHECK(loaded.examples.size() + loaded.num_skipped == given.num_records);
    CHECK(loaded.examples.size() > given.num_records * 9 / 10);
  }
}

TEST_CASE("shared data: of Dolly exactly the answers are learnt, and packing leaves few gaps") {
  const std::filesystem::path model = kShared / "tokenizers/tiny-llama3-style";
  if (!std::filesystem::exists(model) || !std::filesystem::exists(kShared / "datasets")) return;
  const auto tokenizer = load_tokenizer(model);
  const SequenceEncoder encoder(*tokenizer, nullptr,
                                {.prompt_template = "dolly", .max_length = 8192});
  const SequenceSource source =
      source_of({"dolly-15k-fed10/global_test.jsonl.gz", "dolly", "", "text", 80}, model);
  const LoadedSequences loaded = load_sequences(source, encoder);
  const std::vector<Record> records = read_records(source.file, source.fields);
  REQUIRE(records.size() == loaded.examples.size());
  for (std::size_t i = 0; i < records.size(); ++i) {
    CAPTURE(i);
    CHECK(learnt_text(*tokenizer, loaded.examples, i) ==
          records[i].fields.at("output") + "\n\n### End");
  }
  const PackedRows rows = pack_rows(loaded.examples, 8192);
  MESSAGE("packed: " << loaded.examples.num_tokens() << " tokens in " << rows.size()
                     << " rows of 8192");
  CHECK((rows.size() - 1) * 8192 <= loaded.examples.num_tokens() * 11 / 9);
}
