#include "data/jsonl_writer.h"

#include <limits>

#include <doctest/doctest.h>

#include "core/error.h"
#include "data/record_reader.h"
#include "tests/text/files.h"

using namespace drystone::data;
using namespace drystone::text;
using drystone::test::TemporaryFolder;

TEST_CASE("jsonl writer: records come back equal, types included") {
  const TemporaryFolder folder;
  const std::vector<Record> records = {
      {.text = "quotes \" \\ \n\t\x01 é 中 \xF0\x9F\x98\x80",
       .input_ids = {},
       .label = "x",
       .key = "k"},
      {.text = "", .input_ids = {}, .label = std::int64_t{-9223372036854775807}, .key = ""},
      {.text = "real", .input_ids = {}, .label = 0.1 + 0.2, .key = "k"},
      {.text = "whole", .input_ids = {}, .label = 5.0, .key = "k"},
      {.text = "", .input_ids = {101, 7, 102}, .label = {}, .key = "z"}};
  const RecordFields fields{.text = "sentence", .label = "score", .key = "role"};
  write_jsonl(folder.path() / "a.jsonl", records, fields);
  const auto back = read_records(folder.path() / "a.jsonl", fields);
  REQUIRE(back.size() == records.size());
  for (std::size_t i = 0; i < records.size(); ++i) {
    CAPTURE(i);
    CHECK(back[i].text == records[i].text);
    CHECK(back[i].input_ids == records[i].input_ids);
    CHECK(back[i].label == records[i].label);
    CHECK(back[i].key == records[i].key);
  }
}

TEST_CASE("jsonl writer: refuses what it could not read back") {
  const TemporaryFolder folder;
  JsonlWriter writer(folder.path() / "a.jsonl", {});
  using drystone::core::InvalidArgument;
  CHECK_THROWS_AS(writer.write({.text = "\xFF"}), InvalidArgument);
  const double infinity = std::numeric_limits<double>::infinity();
  CHECK_THROWS_AS(writer.write({.text = "a", .label = infinity}), InvalidArgument);
  CHECK_THROWS_AS(JsonlWriter(folder.path() / "none" / "a.jsonl", {}), drystone::core::IoError);
}

TEST_CASE("jsonl writer: a full disk is an error, not a short shard") {
  if (!std::filesystem::exists("/dev/full")) return;
  CHECK_THROWS_AS(write_jsonl("/dev/full", std::vector<Record>{{.text = "a"}}),
                  drystone::core::IoError);
}

TEST_CASE("jsonl writer: causal-LM records and pairs come back equal") {
  const TemporaryFolder folder;
  const std::vector<Record> records = {
      {.text = "t"},
      {.input_ids = {1, 2}, .token_labels = {-100, 2}},
      {.fields = {{"instruction", "q"}, {"input", ""}, {"output", "a"}}},
      {.messages = {{"user", "é\n"}, {"assistant", "", R"({"tool_calls":[{"name":"f"}],"a":1})"}}}};
  const RecordFields fields{.sequence = SequenceFields{}};
  write_jsonl(folder.path() / "a.jsonl", records, fields);
  const auto back = read_records(folder.path() / "a.jsonl", fields);
  REQUIRE(back.size() == records.size());
  for (std::size_t i = 0; i < records.size(); ++i) {
    CAPTURE(i);
    CHECK(back[i].text == records[i].text);
    CHECK(back[i].input_ids == records[i].input_ids);
    CHECK(back[i].token_labels == records[i].token_labels);
    CHECK(back[i].fields == records[i].fields);
    CHECK(back[i].messages == records[i].messages);
  }
  const RecordFields pair{.text = "a", .text_pair = "b"};
  write_jsonl(folder.path() / "b.jsonl", std::vector<Record>{{.text = "x", .text_pair = "y"}},
              pair);
  CHECK(read_records(folder.path() / "b.jsonl", pair).at(0).text_pair == "y");
}
