#include "data/text_encoder.h"

#include <fstream>

#include <doctest/doctest.h>
#include <nlohmann/json.hpp>

#include "core/error.h"
#include "data/batches.h"
#include "data/cut_texts.h"
#include "data/dataset.h"
#include "data/lost_tokens.h"
#include "tests/text/files.h"
#include "tests/text/greedy_tokenizer.h"

using namespace drystone::data;
using namespace drystone::text;
using drystone::test::GreedyTokenizer;
using drystone::test::TemporaryFolder;
using drystone::test::write_file;
using nlohmann::json;
using Ids = std::vector<TokenId>;

TEST_CASE("text pairs: ids and types of every family as from tokenizers, at every length") {
  std::ifstream stream(DRYSTONE_SOURCE_DIR "/tests/data/text_pair_cases.json");
  const json families = json::parse(stream);
  int compared = 0;
  for (const auto& [family, given] : families.items()) {
    const TemporaryFolder folder;
    write_file(folder, "tokenizer.json", given.at("tokenizer").dump());
    write_file(folder, "tokenizer_config.json", given.at("config").dump());
    const auto tokenizer = load_tokenizer(folder.path());
    const TextEncoder encoder(*tokenizer);
    for (const json& expected : given.at("cases")) {
      const std::string name = family + ": " + expected.dump();
      CAPTURE(name);
      const auto pair = encoder.encode_pair(expected.at(0).get<std::string>(),
                                            expected.at(1).get<std::string>(), expected.at(2));
      CHECK(pair.ids == expected.at(3).get<Ids>());
      // A second text that is empty and the type of its [SEP] are told alike.
      CHECK(pair.second_start == expected.at(4).get<std::size_t>());
      ++compared;
    }
  }
  MESSAGE(compared << " pairs compared");
}

TEST_CASE("text pairs: single texts, ready ids and a length without room") {
  const GreedyTokenizer tokenizer;
  const TextEncoder encoder(tokenizer);
  CHECK(encoder.encode({.text = "ab"}, 0).ids == tokenizer.encode("ab"));
  CHECK(encoder.encode({.input_ids = {5, 6, 7}}, 2).ids == Ids{5, 6});
  CHECK(encoder.encode({.text = "a", .text_pair = "b"}, 0).ids.size() == 4);
  CHECK_THROWS_AS(encoder.encode_pair("a", "b", 1), drystone::core::InvalidArgument);
}

TEST_CASE("cut texts: what max_length takes from texts, pairs, ready ids and sequences") {
  const GreedyTokenizer tokenizer;
  const TextEncoder encoder(tokenizer);
  CutTexts cut;
  for (const Record& record :
       {Record{.text = "abcdef"}, Record{.text = "abcd", .text_pair = "efgh"},
        Record{.input_ids = {1, 2, 3, 4, 5}}}) {
    const auto whole = static_cast<std::int64_t>(encoder.encode(record, 0).ids.size());
    for (const std::int64_t lost : {0, 2}) {
      const std::size_t length = encoder.encode(record, whole - lost).ids.size();
      CHECK(num_lost(encoder, record, length, whole - lost) == static_cast<std::size_t>(lost));
      cut.add(num_lost(encoder, record, length, whole - lost));
    }
  }
  CHECK(cut.examples() == 3);
  CHECK(cut.tokens() == 6);

  const SequenceEncoder bound(tokenizer, nullptr, {.max_length = 6});
  const SequenceEncoder any(tokenizer, nullptr, unbound(bound.options()));
  const auto lost = [&](const Record& record) {
    return num_lost(any, record, bound.encode(record, "")->ids.size(), 6);
  };
  CHECK(lost({.text = "abcdefgh"}) == 4);  // of BOS, 8 letters, EOS
  CHECK(lost({.text = "abcd"}) == 0);
  CHECK(lost({.text = "a"}) == 0);
}

TEST_CASE("text pairs: batches tell the types, data sets without pairs tell none") {
  Dataset dataset;
  dataset.add(Ids{1, 2, 3}, 0, 0.0F);
  dataset.add(Ids{1, 2, 3, 4}, 0, 0.0F, 2);
  dataset.add(Ids{1}, 0, 0.0F);
  EncodedBatch batch;
  fill_batch(dataset.subset(std::vector<std::size_t>{2, 1, 0}), std::vector<std::size_t>{0, 1, 2},
             0, batch);
  CHECK(batch.type_ids == std::vector<std::int64_t>{0, 0, 0, 0, 0, 0, 1, 1, 0, 0, 0, 0});
  fill_batch(dataset.subset(std::vector<std::size_t>{0, 2}), std::vector<std::size_t>{0, 1}, 0,
             batch);
  CHECK(batch.type_ids.empty());
}
