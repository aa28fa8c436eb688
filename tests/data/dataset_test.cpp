#include "data/dataset.h"

#include <doctest/doctest.h>

#include "core/error.h"
#include "data/labelled_encoder.h"
#include "data/record_reader.h"
#include "tests/text/files.h"
#include "text/wordpiece.h"

using namespace drystone::data;
using namespace drystone::text;
using drystone::core::ConfigError;
using drystone::test::contains;
using drystone::test::message_of;
using drystone::test::TemporaryFolder;
using drystone::test::write_file;
using Ids = std::vector<drystone::text::TokenId>;

namespace {

const drystone::text::Tokenizer& tokenizer() {
  static const drystone::text::WordPieceTokenizer instance = [] {
    drystone::text::WordPieceSpec spec;
    spec.vocabulary = {{"[UNK]", 0}, {"a", 1}, {"b", 2}, {"[CLS]", 3}, {"[SEP]", 4}};
    spec.prefix = {3};
    spec.suffix = {4};
    return drystone::text::WordPieceTokenizer(std::move(spec));
  }();
  return instance;
}

Ids ids_of(const Dataset& dataset, std::size_t example) {
  const auto ids = dataset.ids(example);
  return {ids.begin(), ids.end()};
}

Dataset encoded(std::string_view content, LabelledOptions options) {
  const TemporaryFolder folder;
  options.remedy = "set data.labels";
  RecordReader reader(write_file(folder, "a.jsonl", content), {});
  const LabelledEncoder encoder(tokenizer(), std::move(options));
  Dataset dataset;
  for (Record record; reader.next(record);) encoder.add(record, record.where.str(), dataset);
  return dataset;
}

std::string refusal(std::string_view content, const LabelledOptions& options) {
  return message_of<ConfigError>([&] { encoded(content, options); });
}

drystone::core::DataConfig train_config(const std::filesystem::path& file) {
  drystone::core::DataConfig config;
  config.train = file;
  return config;
}

std::vector<std::string> found_labels(std::string_view content) {
  const TemporaryFolder folder;
  return resolve_labels(train_config(write_file(folder, "a.jsonl", content))).names();
}

}  // namespace

TEST_CASE("dataset: texts and ready ids of a classification file") {
  const LabelMap classes({"no", "yes"});
  const Dataset dataset = encoded(
      "{\"text\": \"a b a\", \"label\": \"yes\"}\n"
      "{\"input_ids\": [3, 2, 2, 2, 2, 4], \"label\": \"no\"}\n",
      {.max_length = 4, .classes = &classes, .remedy = {}});
  REQUIRE(dataset.size() == 2);
  CHECK(ids_of(dataset, 0) == Ids{3, 1, 2, 4});
  CHECK(ids_of(dataset, 1) == Ids{3, 2, 2, 2});  // ready ids are cut as they are
  CHECK(dataset.label(0) == 1);
  CHECK(dataset.label(1) == 0);
  CHECK(dataset.num_tokens() == 8);
}

TEST_CASE("dataset: regression targets") {
  const Dataset dataset =
      encoded("{\"text\": \"a\", \"label\": 4.75}\n{\"text\": \"b\", \"label\": 3}\n", {});
  CHECK(dataset.target(0) == 4.75F);
  CHECK(dataset.target(1) == 3.0F);
}

TEST_CASE("dataset: subset keeps the order that it is given") {
  Dataset dataset;
  for (int i = 0; i < 5; ++i) dataset.add(Ids(static_cast<std::size_t>(i), i), i, 0.5F);
  const Dataset part = dataset.subset(std::vector<std::size_t>{4, 0, 2});
  REQUIRE(part.size() == 3);
  CHECK(ids_of(part, 0) == Ids{4, 4, 4, 4});
  CHECK(ids_of(part, 1).empty());
  CHECK(part.label(2) == 2);
  CHECK(part.target(2) == 0.5F);
  CHECK_THROWS_AS(dataset.subset(std::vector<std::size_t>{5}), drystone::core::InvalidArgument);
}

TEST_CASE("dataset: records that do not fit are refused with their line") {
  const LabelMap classes({"no", "yes"});
  const LabelledOptions options{.classes = &classes, .remedy = {}};
  const std::string good = "{\"text\": \"a\", \"label\": \"no\"}\n";
  CHECK(contains(refusal(good + "{\"text\": \"a\", \"label\": \"maybe\"}\n", options),
                 "a.jsonl:2: label \"maybe\" where one of the 2 classes was expected"));
  const std::string without = refusal(good + "{\"text\": \"a\"}\n", options);
  CHECK(contains(without, "a.jsonl:2: no label where one of the 2 classes was expected"));
  CHECK(contains(without, "set data.label_field, or model.task: "));
  CHECK(contains(refusal("{\"text\": \"a\"}\n", {}), "\"causal-lm\" for texts"));
  CHECK(contains(refusal("{\"input_ids\": [5], \"label\": \"no\"}\n", options),
                 "id 5 is outside the model's vocabulary of 5"));
  CHECK(contains(refusal(good, {}), "a.jsonl:1: label \"no\" where a number was expected"));
}

TEST_CASE("labels: a number is the id where no name is one") {
  const LabelMap named({"no", "yes"});
  CHECK(named.id(std::int64_t{1}) == 1);
  CHECK(named.id(std::string("0")) == 0);
  CHECK_FALSE(named.id(std::int64_t{2}));
  CHECK_FALSE(named.id(std::int64_t{-1}));
  const LabelMap numbers({"5", "3"});
  CHECK(numbers.id(std::int64_t{3}) == 1);
  CHECK_FALSE(numbers.id(std::int64_t{0}));
}

TEST_CASE("labels: found ones are sorted, by number where all are integers") {
  CHECK(found_labels("{\"text\": \"\", \"label\": \"b\"}\n{\"text\": \"\", \"label\": \"a\"}\n") ==
        std::vector<std::string>{"a", "b"});
  CHECK(found_labels("{\"text\": \"\", \"label\": 10}\n{\"text\": \"\", \"label\": 9}\n"
                     "{\"text\": \"\", \"label\": -1}\n") ==
        std::vector<std::string>{"-1", "9", "10"});
  CHECK(found_labels("{\"text\": \"\", \"label\": 10}\n{\"text\": \"\", \"label\": \"9x\"}\n") ==
        std::vector<std::string>{"10", "9x"});
}

TEST_CASE("labels: a configured list decides the ids") {
  drystone::core::DataConfig config;
  config.labels = {"z", "a"};
  const LabelMap classes = resolve_labels(config);  // reads no file
  CHECK(classes.id(Label(std::string("z"))) == 0);
  CHECK(classes.id(Label(std::string("a"))) == 1);
  CHECK_FALSE(classes.id(Label(std::string("b"))).has_value());
}

TEST_CASE("labels: lists and files that cannot be classes are refused") {
  CHECK_THROWS_AS(LabelMap({"a"}), ConfigError);
  CHECK_THROWS_AS(LabelMap({"a", "b", "a"}), ConfigError);
  const auto refused = [](std::string_view content) {
    return message_of<ConfigError>([&] { found_labels(content); });
  };
  CHECK(contains(refused("{\"text\": \"\", \"label\": 0.5}\n"), "a.jsonl:1: no class"));
  CHECK(contains(refused("{\"text\": \"\"}\n"), "set data.label_field"));
  CHECK(contains(refused("{\"text\": \"\", \"label\": 1}\n"), "1 class(es) found"));
}
