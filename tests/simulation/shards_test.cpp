// Many clients' texts: what they are dealt, and what they cost while nobody asks.

#include <fstream>

#include <doctest/doctest.h>

#include "client/federated_data.h"
#include "client/training_shards.h"
#include "core/client_list.h"
#include "core/error.h"
#include "simulation/simulator.h"
#include "tests/simulation/tiny_federation.h"
#include "training/model_classes.h"

using namespace drystone;
using test::TinyFederation;

namespace {

core::Config resolved(const TinyFederation& tiny, const std::vector<std::string>& overrides) {
  core::Config config = tiny.config(overrides);
  config.data.labels = training::resolve_classes(config);
  return config;
}

std::vector<std::vector<text::TokenId>> ids_of(const data::Dataset& examples) {
  std::vector<std::vector<text::TokenId>> ids;
  for (std::size_t i = 0; i < examples.size(); ++i) {
    ids.emplace_back(examples.ids(i).begin(), examples.ids(i).end());
  }
  return ids;
}

/// `count` one-word texts.
void write_texts(const std::filesystem::path& file, int count) {
  std::ofstream lines(file);
  for (int i = 0; i < count; ++i) {
    const char letter = static_cast<char>('a' + i % 3);
    lines << R"({"text": ")" << letter << R"(", "label": "class-)" << i % 3 << "\"}\n";
  }
}

}  // namespace

TEST_CASE("TrainingShards: each client gets the records that provision would write for it") {
  const TinyFederation tiny("[[clients]]\ncount = 7\n");
  for (const std::string partition : {"iid", "dirichlet", "shards", "by-key"}) {
    CAPTURE(partition);
    std::vector<std::string> overrides = {"data.partition=\"" + partition + "\"",
                                          "data.shards_per_client=2"};
    if (partition == "by-key") overrides.emplace_back("data.partition_key=\"text\"");
    const core::Config config = resolved(tiny, overrides);
    const core::NameList names = core::ClientList(config).names();
    training::Workbench workbench(client::workbench_config(config, "cpu"));
    const client::TrainingShards shards(workbench, config, names);
    const auto expected = client::split(config, client::load_train(config), names);
    for (std::size_t i = 0; i < names.size(); ++i) {
      const training::EncodedRecords encoded = workbench.encode(names[i], expected.at(names[i]));
      const data::Dataset shard = shards.shard(i);
      CHECK(ids_of(shard) == ids_of(encoded.dataset));
      CHECK(std::ranges::equal(shard.labels(), encoded.dataset.labels()));
      CHECK(shards.num_examples(i) == static_cast<std::int64_t>(shard.size()));
    }
    for (const std::size_t client : shards.largest(2, 5)) CHECK((2 <= client && client < 5));
  }
}

TEST_CASE("TrainingShards: more clients than texts are refused") {
  const TinyFederation tiny("[[clients]]\ncount = 121\n");
  const core::Config config = resolved(tiny, {"data.partition=\"iid\""});
  const training::Workbench workbench(client::workbench_config(config, "cpu"));
  CHECK_THROWS_WITH_AS(client::TrainingShards(workbench, config, core::ClientList(config).names()),
                       doctest::Contains("120 examples for 121 clients"), core::ConfigError);
}

TEST_CASE("simulate: a client is made when it is asked, and the result is nobody's order") {
  struct Heard final : coordinator::Observer {
    void on_joined(const std::string& client, const wire::Hello&) override {
      clients.push_back(client);
    }
    std::vector<std::string> clients;
  };
  const TinyFederation tiny("[[clients]]\ncount = 20000\n[[clients]]\nrank = 1\n");
  const std::string texts = (tiny.path() / "many.jsonl").string();
  write_texts(texts, 20'001);
  const std::vector<std::string> overrides = {"data.train=\"" + texts + "\"",
                                              "data.partition=\"iid\"", "federation.cohort=5",
                                              "federation.rounds=3"};
  const auto simulated = [&](const std::string& out, const std::string& workers, Heard& heard) {
    std::vector<std::string> all = overrides;
    all.push_back("simulation.workers=" + workers);
    return simulation::simulate(tiny.config(all), {.run_dir = tiny.path() / out, .device = "cpu"},
                                {&heard});
  };
  Heard first;
  Heard second;
  const auto one = simulated("one", "1", first);
  const auto three = simulated("three", "3", second);
  REQUIRE(one.report.rounds.size() == 3);
  CHECK(one.report.head == three.report.head);
  CHECK(first.clients.size() <= 3 * 5 + 1);  // and the evaluator
  CHECK(first.clients.size() > 3 * 5 - 2);   // hardly anybody is drawn twice
}
