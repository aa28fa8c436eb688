// Federations of every method: exact whatever is mixed, ranks that do not grow, a truncation that
// happens once.

#include <algorithm>
#include <fstream>
#include <map>
#include <set>
#include <sstream>

#include <ATen/TensorOperators.h>
#include <ATen/ops/mm.h>
#include <doctest/doctest.h>

#include "adapters/registry.h"
#include "cli/verify.h"
#include "core/error.h"
#include "simulation/simulator.h"
#include "tensors/factor_set_io.h"
#include "tests/simulation/tiny_federation.h"

using namespace drystone;
using test::TinyFederation;
namespace fs = std::filesystem;

namespace {

simulation::SimulationOutcome run(const TinyFederation& tiny,
                                  const std::vector<std::string>& overrides = {}) {
  return simulation::simulate(tiny.config(overrides),
                              {.run_dir = tiny.path() / "run", .device = "cpu", .stop = {}}, {});
}

/// As core::list_clients names them.
std::string client_name(int client, int count = 1) {
  const bool pads = count > 9 && client < 10;
  return std::string(pads ? "client-0" : "client-") + std::to_string(client);
}

fs::path version_folder(const TinyFederation& tiny, int version) {
  return tiny.path() / "run/versions" / ("000" + std::to_string(version));
}

tensors::FactorSet update_of(const TinyFederation& tiny, int version, const std::string& client) {
  return tensors::read_factor_set(version_folder(tiny, version) / "updates" /
                                  (client + ".safetensors"));
}

std::int64_t largest_rank(const tensors::FactorSet& update) {
  std::int64_t rank = 0;
  for (const auto& [name, factors] : update.modules) rank = std::max(rank, factors.rank());
  return rank;
}

std::string entry(const std::string& method, int rank, const std::string& options = "") {
  std::string text =
      "[[clients]]\nmethod = \"" + method + "\"\nrank = " + std::to_string(rank) + "\n";
  if (!options.empty()) text += "options = {" + options + "}\n";
  return text;
}

/// Share of each client in a version, by its number of examples.
std::vector<double> shares(const TinyFederation& tiny, int version, int clients) {
  std::ostringstream text;
  text << std::ifstream(version_folder(tiny, version) / "version.json").rdbuf();
  const std::string json = text.str();
  std::vector<double> weights;
  double total = 0.0;
  for (int client = 1; client <= clients; ++client) {
    const auto at = json.find("\"client\": \"" + client_name(client, clients) + "\"");
    weights.push_back(std::stod(json.substr(json.find("\"num_examples\": ", at) + 16, 12)));
    total += weights.back();
  }
  for (double& weight : weights) weight /= total;
  return weights;
}

/// What the clients that hold the shared base, or a member of an ensemble, weigh together.
std::map<std::string, double> totals_by_scope(const TinyFederation& tiny, int version,
                                              const std::vector<double>& weights) {
  std::map<std::string, double> totals;
  const int count = static_cast<int>(weights.size());
  for (int client = 1; client <= count; ++client) {
    std::set<std::string> scopes;
    for (const auto& [name, pair] : update_of(tiny, version, client_name(client, count)).modules) {
      scopes.emplace(tensors::scope_of(name));
    }
    for (const std::string& scope : scopes) {
      totals[scope] += weights[static_cast<std::size_t>(client - 1)];
    }
  }
  return totals;
}

}  // namespace

TEST_CASE("methods: one federation of all of them, ranks 1 to 8, is exact in every round") {
  std::string clients;
  int count = 0;
  for (const adapters::Method& method : adapters::methods()) {
    if (!method.trains) continue;
    clients += entry(std::string(method.name), 1 + (3 * count) % 8);
    ++count;
  }
  const TinyFederation tiny(clients);
  const auto outcome = run(tiny, {"federation.rounds=3", "data.partition=\"iid\""});
  REQUIRE_FALSE(outcome.failure.has_value());
  REQUIRE(outcome.report.rounds.size() == 3);
  for (int version = 1; version <= 3; ++version) {
    CAPTURE(version);
    const auto& round = outcome.report.rounds[static_cast<std::size_t>(version - 1)];
    CHECK(round.accepted == count);
    CHECK(round.exactness == "exact");
    const std::vector<double> weights = shares(tiny, version, count);
    std::map<std::string, at::Tensor> expected;
    const std::map<std::string, double> totals = totals_by_scope(tiny, version, weights);
    for (int client = 1; client <= count; ++client) {
      for (const auto& [name, factors] :
           update_of(tiny, version, client_name(client, count)).modules) {
        const double weight = weights[static_cast<std::size_t>(client - 1)] /
                              totals.at(std::string(tensors::scope_of(name)));
        const at::Tensor delta =
            at::mm(factors.b.to(at::kDouble), factors.a.to(at::kDouble)) * weight;
        expected[name] = expected.contains(name) ? expected[name] + delta : delta;
      }
    }
    const auto published =
        tensors::read_factor_set(version_folder(tiny, version) / "factors.safetensors");
    REQUIRE(published.modules.size() == expected.size());
    for (const auto& [name, sum] : expected) {
      CAPTURE(name);
      const at::Tensor actual = published.modules.at(name).product().to(at::kDouble);
      const double error = ((actual - sum).norm() / sum.norm()).item<double>();
      CHECK(error < 1e-6);
    }
  }
  CHECK(cli::verify_run(tiny.path() / "run").is_sound());
}

TEST_CASE("methods: shared indices and sketches keep the published rank at the largest client's") {
  for (const char* method : {"sbora-fa", "sbora-fb", "rac-lora"}) {
    CAPTURE(method);
    const TinyFederation tiny(entry(method, 4) + entry(method, 2) + entry(method, 3) +
                              entry(method, 4));
    const auto outcome = run(tiny);
    for (const auto& round : outcome.report.rounds) {
      CHECK(round.accepted == 4);
      CHECK(round.stack_rank == 13);
      CHECK(round.compact_rank == 4);
      CHECK(round.exactness == "exact");
    }
  }
}

TEST_CASE("methods: PiSSA's common start is subtracted once") {
  const TinyFederation tiny(entry("pissa", 2) + entry("pissa", 2) + entry("pissa", 2));
  const auto outcome = run(tiny, {"federation.rounds=1"});
  CHECK(outcome.report.rounds[0].stack_rank == 12);
  CHECK(outcome.report.rounds[0].compact_rank == 8);  // Σr + r
}

TEST_CASE("methods: KaSA truncates in the first round and never again") {
  const TinyFederation tiny(entry("kasa", 2) + entry("kasa", 3));
  const auto outcome = run(tiny, {"federation.rounds=3"});
  CHECK(outcome.report.rounds.size() == 3);
  for (int client = 1; client <= 2; ++client) {
    CAPTURE(client);
    CHECK(largest_rank(update_of(tiny, 1, client_name(client))) == 2 * (1 + client));
    CHECK(largest_rank(update_of(tiny, 2, client_name(client))) == 1 + client);
    CHECK(largest_rank(update_of(tiny, 3, client_name(client))) == 1 + client);
  }
}

TEST_CASE("methods: SoRA sends what its gates leave, module by module") {
  const TinyFederation tiny(entry("sora", 8, "xi = 0.3") + entry("sora", 8, "xi = 100") +
                            entry("lora", 2));
  CHECK_THROWS_WITH_AS(run(tiny), doctest::Contains("xi"), core::ConfigError);
  const TinyFederation closed(entry("sora", 8, "xi = 0.3") + entry("sora", 8, "xi = 9.0") +
                              entry("lora", 2));
  const auto outcome = run(closed, {"federation.rounds=1"});
  CHECK(outcome.report.rounds[0].accepted == 3);
  CHECK(outcome.report.rounds[0].exactness == "exact");
  const tensors::FactorSet open = update_of(closed, 1, "client-1");
  std::int64_t sum = 0;
  for (const auto& [name, factors] : open.modules) sum += factors.rank();
  CHECK(sum > 0);
  CHECK(sum < 8 * 12);
  CHECK(update_of(closed, 1, "client-2").modules.size() == 1);  // all closed: a component of zeros
}

TEST_CASE("methods: those that cannot continue from averaged factors are refused at the start") {
  const TinyFederation tiny(entry("lora", 2) + entry("kasa", 2));
  CHECK_THROWS_WITH_AS(run(tiny, {"aggregation.rule=\"zero-pad\""}), doctest::Contains("kasa"),
                       core::ConfigError);
}
