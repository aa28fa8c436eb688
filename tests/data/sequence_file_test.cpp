#include "data/sequence_file.h"

#include <doctest/doctest.h>

#include "core/error.h"
#include "core/seed.h"
#include "data/dataset.h"
#include "data/load_sequences.h"
#include "tests/text/files.h"
#include "tests/text/greedy_tokenizer.h"

using namespace drystone::data;
using namespace drystone::text;
using drystone::core::ConfigError;
using drystone::core::InvalidArgument;
using drystone::core::IoError;
using drystone::core::SplitMix64;
using drystone::test::contains;
using drystone::test::GreedyTokenizer;
using drystone::test::message_of;
using drystone::test::TemporaryFolder;
using drystone::test::write_file;

namespace {

constexpr Fingerprint kMade{{1, 2}};

std::filesystem::path sample_file(const TemporaryFolder& folder) {
  const std::filesystem::path file = folder / "made/a.sequences";
  SequenceFileWriter writer(file, kMade);
  writer.add(std::vector<TokenId>{1, 2, 3}, std::vector<TokenId>{kNoLabel, 2, 3});
  writer.add_key("king");
  writer.add_lost(5);
  writer.add(std::vector<TokenId>{4}, std::vector<TokenId>{4});
  writer.add_key("");
  writer.skip();
  writer.finish();
  return file;
}

std::vector<TokenId> copy(std::span<const TokenId> ids) { return {ids.begin(), ids.end()}; }

SequenceSource source_of(const std::filesystem::path& file) {
  return {.file = file,
          .fields = {.key = "who", .sequence = SequenceFields{}},
          .model_folder = file.parent_path()};
}

std::string lines(std::size_t count) {
  std::string text;
  for (std::size_t i = 0; i < count; ++i) {
    text += "{\"text\": \"line " + std::to_string(i * 7919 % 1000) + "\", \"who\": \"" +
            std::to_string(i % 3) + "\"}\n";
  }
  return text;
}

}  // namespace

TEST_CASE("sequence file: reads back what was written") {
  const TemporaryFolder folder;
  const SequenceFile file(sample_file(folder), kMade, 5);
  REQUIRE(file.size() == 2);
  CHECK(file.num_tokens() == 4);
  CHECK(copy(file.ids(0)) == std::vector<TokenId>{1, 2, 3});
  CHECK(copy(file.labels(0)) == std::vector<TokenId>{kNoLabel, 2, 3});
  CHECK(copy(file.ids(1)) == std::vector<TokenId>{4});
  CHECK(file.keys() == std::vector<std::string>{"king", ""});
  CHECK(file.num_skipped() == 1);
  CHECK(file.cut().examples() == 1);
  CHECK(file.cut().tokens() == 5);
}

TEST_CASE("sequence file: other data, a smaller vocabulary and unfinished files are refused") {
  const TemporaryFolder folder;
  const auto path = sample_file(folder);
  CHECK(contains(message_of<IoError>([&] { SequenceFile(path, Fingerprint{{1, 3}}, 5); }),
                 "made from other data"));
  CHECK(contains(message_of<IoError>([&] { SequenceFile(path, kMade, 4); }), "vocabulary"));
  {
    SequenceFileWriter abandoned(folder / "b.sequences", kMade);
  }
  CHECK(std::distance(std::filesystem::directory_iterator(folder.path()), {}) == 1);
}

TEST_CASE("sequence file: damage anywhere gives an error or the examples' own bytes") {
  const TemporaryFolder folder;
  const std::string good = folder.read(sample_file(folder).lexically_relative(folder.path()));
  const auto survives = [&](const std::string& bytes) {
    const auto path = folder.write("damaged", bytes);
    try {
      const SequenceFile file(path, kMade, 5);
      for (std::size_t i = 0; i < file.size(); ++i) CHECK(file.ids(i).size() == file.length(i));
      file.keys();
    } catch (const IoError&) {
    }
  };
  for (std::size_t size = 0; size < good.size(); ++size) survives(good.substr(0, size));
  SplitMix64 random(1);
  for (std::size_t at = 0; at < good.size(); ++at) {
    for (const int bit : {0, 3, 7}) {
      std::string bytes = good;
      bytes[at] = static_cast<char>(bytes[at] ^ (1 << bit));
      survives(bytes);
    }
    std::string bytes = good;
    for (int i = 0; i < 4; ++i) bytes[random.below(88)] = static_cast<char>(random.below(256));
    survives(bytes);
  }
  CHECK_THROWS_AS(SequenceFile(folder.write("longer", good + "x"), kMade, 5), IoError);
}

TEST_CASE("fingerprint: every byte and every border counts") {
  const auto of = [](std::initializer_list<std::string_view> pieces) {
    FingerprintMaker maker;
    for (const std::string_view piece : pieces) maker.add(piece);
    return maker.finish().hex();
  };
  CHECK(of({"ab", "c"}) == of({"ab", "c"}));
  CHECK(of({"ab", "c"}) != of({"a", "bc"}));
  CHECK(of({"a"}) != of({std::string_view("a\0", 2)}));
  CHECK(of({""}) != of({}));
  CHECK(of({"12345678"}) != of({"12345679"}));
  CHECK(of({"x"}).size() == 32);
}

TEST_CASE("streaming: the mapped examples equal those in memory, in subsets too") {
  const TemporaryFolder folder;
  const GreedyTokenizer tokenizer({"line "});
  const SequenceEncoder encoder(tokenizer, nullptr, {.max_length = 8});
  const SequenceSource source = source_of(write_file(folder, "a.jsonl", lines(200)));
  const LoadedSequences in_memory = load_sequences(source, encoder);
  for (int round = 0; round < 2; ++round) {  // written, then found
    const LoadedSequences mapped = stream_sequences(source, encoder, folder / "cache");
    CHECK(mapped.keys == in_memory.keys);
    REQUIRE(mapped.examples.size() == 200);
    CHECK(mapped.examples.num_tokens() == in_memory.examples.num_tokens());
    const std::vector<std::size_t> some = {7, 199, 0, 7};
    const Dataset part = mapped.examples.subset(some).subset(std::vector<std::size_t>{1, 3, 2});
    const Dataset same = in_memory.examples.subset(std::vector<std::size_t>{199, 7, 0});
    REQUIRE(part.size() == 3);
    CHECK(part.num_tokens() == same.num_tokens());
    for (std::size_t i = 0; i < part.size(); ++i) {
      CHECK(copy(part.ids(i)) == copy(same.ids(i)));
      CHECK(copy(part.token_labels(i)) == copy(same.token_labels(i)));
    }
  }
  Dataset mapped = stream_sequences(source, encoder, folder / "cache").examples;
  CHECK_THROWS_AS(mapped.add_sequence(std::vector<TokenId>{1}, std::vector<TokenId>{1}),
                  InvalidArgument);
  CHECK_THROWS_AS(mapped.subset(std::vector<std::size_t>{200}), InvalidArgument);
}

TEST_CASE("streaming: other data or settings make another file, a damaged one is made anew") {
  const TemporaryFolder folder;
  const GreedyTokenizer tokenizer;
  const auto files = [&] {
    return std::distance(std::filesystem::directory_iterator(folder / "cache"), {});
  };
  const auto stream = [&](const std::string& content, std::int64_t max_length) {
    const SequenceEncoder encoder(tokenizer, nullptr, {.max_length = max_length});
    return stream_sequences(source_of(write_file(folder, "a.jsonl", content)), encoder,
                            folder / "cache");
  };
  stream(lines(5), 8);
  stream(lines(5), 8);
  CHECK(files() == 1);
  stream(lines(5), 9);
  CHECK(files() == 2);
  stream(lines(6), 8);
  CHECK(files() == 3);
  for (const auto& entry : std::filesystem::directory_iterator(folder / "cache")) {
    std::filesystem::resize_file(entry.path(), 100);
  }
  CHECK(stream(lines(6), 8).examples.size() == 6);
  CHECK(files() == 3);
}

TEST_CASE("streaming: an id that the model has no row for is named with its line") {
  const TemporaryFolder folder;
  const GreedyTokenizer tokenizer({"rare"});
  SequenceSource source =
      source_of(write_file(folder, "a.jsonl", "{\"text\": \"a\"}\n\n{\"text\": \"rare\"}\n"));
  source.fields.key.clear();
  const auto stream = [&](std::int64_t num_rows) {
    const SequenceEncoder encoder(tokenizer, nullptr, {.max_length = 8, .num_rows = num_rows});
    return message_of<ConfigError>([&] { stream_sequences(source, encoder, folder / "cache"); });
  };
  CHECK(stream(tokenizer.vocab_size()).empty());
  CHECK(contains(stream(tokenizer.vocab_size() - 1), "a.jsonl:3: token \"rare\" has id "));
}

TEST_CASE("streaming: files with nothing to learn are refused, records are counted") {
  const TemporaryFolder folder;
  const GreedyTokenizer tokenizer;
  const SequenceEncoder encoder(tokenizer, nullptr, {.prompt_template = "plain", .max_length = 4});
  SequenceSource source = source_of(write_file(
      folder, "a.jsonl", "{\"question\": \"abcdef\", \"answer\": \"g\"}\n{\"text\": \"x\"}\n"));
  source.fields = {.sequence = SequenceFields{"plain", {}}};
  CHECK(load_sequences(source, encoder).num_skipped == 1);
  CHECK(stream_sequences(source, encoder, folder / "cache").num_skipped == 1);
  source.file = write_file(folder, "b.jsonl", "{\"question\": \"abcdef\", \"answer\": \"g\"}\n");
  CHECK(contains(message_of<ConfigError>([&] { load_sequences(source, encoder); }),
                 "none of 1 records"));
  CHECK(contains(
      message_of<ConfigError>([&] { stream_sequences(source, encoder, folder / "cache"); }),
      "none of 1 records"));
  source.file = write_file(folder, "c.jsonl", "");
  CHECK(contains(message_of<ConfigError>([&] { load_sequences(source, encoder); }), "no records"));
}
