// What a round costs on the wire, against the bytes of the factors themselves.

#include <fstream>
#include <map>
#include <sstream>

#include <doctest/doctest.h>
#include <nlohmann/json.hpp>

#include "aggregation/rules.h"
#include "core/files.h"
#include "simulation/simulator.h"
#include "tensors/checkpoint.h"
#include "tensors/factor_set_io.h"
#include "tensors/random.h"
#include "tensors/safetensors_writer.h"
#include "tests/simulation/tiny_federation.h"

using namespace drystone;
using test::TinyFederation;
namespace fs = std::filesystem;

namespace {

// The fixture's architecture at MiniLM's width, where names weigh as little as they really do.
void widen(const fs::path& model) {
  const std::map<std::int64_t, std::int64_t> wider = {{12, 384}, {16, 1536}};
  const auto widened = [&](std::int64_t size) {
    return wider.contains(size) ? wider.at(size) : size;
  };
  std::map<std::string, at::Tensor> tensors;
  const auto checkpoint = tensors::open_checkpoint(model);
  for (const std::string& name : checkpoint.names()) {
    std::vector<std::int64_t> sizes;
    const at::Tensor tensor = checkpoint.tensor(name);
    for (const auto size : tensor.sizes()) sizes.push_back(widened(size));
    tensors[name] = tensors::random_normal({.seed = 1, .purpose = name}, sizes, 0.0, 0.05);
  }
  tensors::write_safetensors(model / "wide.safetensors", tensors);
  fs::rename(model / "wide.safetensors", model / "model.safetensors");
  std::ostringstream text;
  text << std::ifstream(model / "config.json").rdbuf();
  std::string config = text.str();
  const auto replace = [&](const std::string& from, const std::string& to) {
    config.replace(config.find(from), from.size(), to);
  };
  replace("\"hidden_size\": 12", "\"hidden_size\": 384");
  replace("\"intermediate_size\": 16", "\"intermediate_size\": 1536");
  std::ofstream(model / "config.json") << config;
}

}  // namespace

TEST_CASE("wire: a round sends at most 1.05 times the bytes of the factors, each way") {
  const TinyFederation tiny;
  widen(tiny.path() / "model");
  core::Config config = tiny.config({"training.max_steps=6"});
  config.clients = {{.count = 1, .training = config.training},
                    {.count = 1, .training = config.training}};
  config.clients[0].training.rank = 16;
  config.clients[1].training.rank = 4;
  const auto outcome =
      simulation::simulate(config, {.run_dir = tiny.path() / "run", .device = "cpu", .stop = {}});
  REQUIRE(outcome.report.rounds.size() == 2);
  const fs::path versions = tiny.path() / "run" / "versions";
  double up = 0.0;
  for (const char* client : {"client-1", "client-2"}) {
    const auto update = versions / "0001" / "updates" / (std::string(client) + ".safetensors");
    up += static_cast<double>(tensors::read_factor_set(update).num_bytes());
  }
  const double version = static_cast<double>(
      tensors::read_factor_set(versions / "0001" / "factors.safetensors").num_bytes());
  const double sent = static_cast<double>(outcome.report.rounds[0].bytes_up);
  CAPTURE(sent / up);
  CHECK(sent >= up);
  CHECK(sent <= 1.05 * up);
  // Between two publications both clients and the evaluator fetch version 1.
  const double fetched = static_cast<double>(outcome.report.rounds[1].bytes_down);
  CAPTURE(fetched / version);
  CHECK(fetched <= 1.05 * 3 * version);
  CHECK(fetched >= 2 * version);
}

TEST_CASE("wire: SBoRA's updates are half of their dense form, and publish the same bits") {
  for (const char* method : {"sbora-fa", "sbora-fb"}) {
    CAPTURE(method);
    const TinyFederation tiny("[[clients]]\ncount = 2\n");
    widen(tiny.path() / "model");
    core::Config config = tiny.config({"federation.rounds=1", "training.rank=8"});
    config.clients[0].training.method = method;
    const auto outcome =
        simulation::simulate(config, {.run_dir = tiny.path() / "run", .device = "cpu", .stop = {}});
    REQUIRE(outcome.report.rounds.size() == 1);
    const fs::path version = tiny.path() / "run" / "versions" / "0001";
    double sent = 0.0;
    double dense = 0.0;
    aggregation::AggregationJob job{
        .updates = {}, .carry_in = {}, .output = tiny.path() / "again", .carry_out = {}};
    const auto record = nlohmann::json::parse(std::ifstream(version / "version.json"));
    for (const auto& update : record.at("updates")) {
      const std::string client = update.at("client");
      const fs::path file = version / "updates" / (client + ".safetensors");
      const fs::path whole = tiny.path() / client;
      tensors::write_factor_set(whole, tensors::read_factor_set(file));
      sent += static_cast<double>(fs::file_size(file));
      dense += static_cast<double>(fs::file_size(whole));
      job.updates.push_back({client, update.at("num_examples"), whole});
    }
    CAPTURE(sent / dense);
    CHECK(sent < 0.55 * dense);
    (void)aggregation::make_rule(config.aggregation)->aggregate(job);
    CHECK(core::read_file(job.output, 1 << 24) ==
          core::read_file(version / "factors.safetensors", 1 << 24));
  }
}
