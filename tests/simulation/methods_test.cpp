// Federations of every method: exact whatever is mixed, ranks that do not grow, a truncation that
// happens once.

#include <algorithm>
#include <fstream>
#include <map>
#include <set>
#include <sstream>

#include <ATen/TensorOperators.h>
#include <ATen/ops/equal.h>
#include <ATen/ops/mm.h>
#include <ATen/ops/zeros_like.h>
#include <doctest/doctest.h>

#include "adapters/registry.h"
#include "cli/verify.h"
#include "core/error.h"
#include "simulation/simulator.h"
#include "tensors/factor_set_io.h"
#include "tests/simulation/stop_after_first_version.h"
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

TEST_CASE("methods: with a shared factor, averaging the trained one is the same as stacking") {
  for (const char* method : {"sbora-fa", "sbora-fb", "rac-lora"}) {
    CAPTURE(method);
    const bool shares_a = std::string(method) != "sbora-fb";
    const TinyFederation tiny(entry(method, 2) + entry(method, 4) + entry(method, 3));
    run(tiny, {"federation.rounds=1", "data.partition=\"iid\""});
    const std::vector<double> weights = shares(tiny, 1, 3);
    const tensors::FactorSet largest = update_of(tiny, 1, "client-2");
    const auto published =
        tensors::read_factor_set(version_folder(tiny, 1) / "factors.safetensors");
    for (const auto& [name, shared] : largest.modules) {
      CAPTURE(name);
      at::Tensor mean = at::zeros_like(shares_a ? shared.b : shared.a, at::kDouble);
      for (int client = 1; client <= 3; ++client) {
        const tensors::Factors own = update_of(tiny, 1, client_name(client)).modules.at(name);
        const double weight = weights[static_cast<std::size_t>(client - 1)];
        const std::int64_t rank = own.rank();
        if (shares_a) {
          CHECK(at::equal(own.a, shared.a.narrow(0, 0, rank)));
          mean.narrow(1, 0, rank).add_(own.b, weight);
        } else {
          const at::Tensor indices = shared.b.narrow(1, 0, rank);
          const double scale = (own.b.max() / shared.b.max()).item<double>();  // alpha / rank
          CHECK(at::equal(own.b, indices * scale));
          mean.narrow(0, 0, rank).add_(own.a, weight * scale);
        }
      }
      const at::Tensor central = shares_a ? at::mm(mean, shared.a.to(at::kDouble))
                                          : at::mm(shared.b.to(at::kDouble), mean);
      const at::Tensor actual = published.modules.at(name).product().to(at::kDouble);
      CHECK(published.modules.at(name).rank() == 4);
      CHECK(((actual - central).norm() / central.norm()).item<double>() < 1e-6);
    }
  }
}

TEST_CASE("methods: PiSSA's common start is subtracted once") {
  const TinyFederation tiny(entry("pissa", 2) + entry("pissa", 2) + entry("pissa", 2));
  const auto outcome = run(tiny, {"federation.rounds=1"});
  CHECK(outcome.report.rounds[0].stack_rank == 12);
  CHECK(outcome.report.rounds[0].compact_rank == 8);  // Σr + r
}

TEST_CASE("methods: LoRA-Pro's moments of W live on in the client's folder, also after a stop") {
  const auto federation = [](const char* options) {
    return TinyFederation(entry("lora-pro", 3, options) + entry("lora-pro", 2, options));
  };
  const TinyFederation keeps = federation("mode = \"full\", keep_moments = true");
  const auto whole = run(keeps, {"federation.rounds=3"});
  const fs::path own = keeps.path() / "run/state/memory/client-1";
  const fs::path memory = fs::directory_iterator(own)->path();  // of this federation
  CHECK(fs::exists(memory / "3.safetensors"));
  CHECK(fs::exists(memory / "2.safetensors"));
  CHECK_FALSE(fs::exists(memory / "1.safetensors"));

  test::StopAfterFirstVersion stopper;
  const simulation::SimulationOptions parts{
      .run_dir = keeps.path() / "parts", .device = "cpu", .stop = stopper.source.get_token()};
  const core::Config config = keeps.config({"federation.rounds=3"});
  CHECK(simulation::simulate(config, parts, {&stopper}).stopped);
  const auto resumed =
      simulation::simulate(config, {.run_dir = parts.run_dir, .device = "cpu", .stop = {}}, {});
  CHECK(resumed.report.head == whole.report.head);

  const auto forgets = run(federation("mode = \"full\""), {"federation.rounds=1"});
  CHECK(forgets.report.rounds[0].accepted == 2);
  CHECK_THROWS_WITH_AS(run(federation("keep_moments = true")), doctest::Contains("mode = \"full\""),
                       core::ConfigError);
}

TEST_CASE("methods: a parameterisation that cannot continue is refused with rules that average") {
  const TinyFederation tiny(entry("lora-rite", 2, "parameterisation = \"pissa\""));
  CHECK_THROWS_WITH_AS(run(tiny, {"aggregation.rule=\"zero-pad\""}), doctest::Contains("lora-rite"),
                       core::ConfigError);
  const TinyFederation plain(entry("lora-rite", 2) + entry("lora-pro", 2));
  CHECK(run(plain, {"aggregation.rule=\"zero-pad\""}).report.rounds[1].accepted == 2);
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
  CHECK(outcome.report.rounds[0].zero_updates == std::vector<std::string>{"client-2"});
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
