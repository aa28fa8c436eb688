// Federations of LoRA ensembles: exact per member, forked, in clusters, beside ordinary clients.

#include <fstream>
#include <map>
#include <set>
#include <sstream>

#include <ATen/TensorOperators.h>
#include <ATen/ops/allclose.h>
#include <ATen/ops/equal.h>
#include <ATen/ops/mm.h>
#include <ATen/ops/zeros.h>
#include <doctest/doctest.h>
#include <nlohmann/json.hpp>

#include "cli/inspection.h"
#include "cli/verify.h"
#include "coordinator/observer.h"
#include "core/error.h"
#include "evaluation/evaluate.h"
#include "evaluation/evaluate_ensemble.h"
#include "simulation/simulator.h"
#include "tensors/factor_set_io.h"
#include "tensors/member_names.h"
#include "tensors/peft_io.h"
#include "tests/simulation/tiny_federation.h"

using namespace drystone;
using test::TinyFederation;
namespace fs = std::filesystem;

namespace {

simulation::SimulationOutcome run(const TinyFederation& tiny,
                                  const std::vector<std::string>& overrides = {},
                                  const std::vector<coordinator::Observer*>& observers = {}) {
  return simulation::simulate(tiny.config(overrides),
                              {.run_dir = tiny.path() / "run", .device = "cpu", .stop = {}},
                              observers);
}

std::string entry(const std::string& options, int rank = 2) {
  return "[[clients]]\nmethod = \"lora-ensemble\"\nrank = " + std::to_string(rank) +
         "\noptions = {" + options + "}\n";
}

fs::path version_folder(const TinyFederation& tiny, int version) {
  return tiny.path() / "run/versions" / ("000" + std::to_string(version));
}

tensors::FactorSet factors_of(const TinyFederation& tiny, int version) {
  return tensors::read_factor_set(version_folder(tiny, version) / "factors.safetensors");
}

struct Upload {
  double examples = 0.0;
  tensors::FactorSet update;
};

std::vector<Upload> uploads(const TinyFederation& tiny, int version) {
  const auto record =
      nlohmann::json::parse(std::ifstream(version_folder(tiny, version) / "version.json"));
  std::vector<Upload> all;
  for (const auto& update : record.at("updates")) {
    const std::string client = update.at("client").get<std::string>();
    all.push_back({update.at("num_examples").get<double>(),
                   tensors::read_factor_set(version_folder(tiny, version) / "updates" /
                                            (client + ".safetensors"))});
  }
  return all;
}

bool holds(const tensors::FactorSet& update, std::string_view scope) {
  return std::any_of(update.modules.begin(), update.modules.end(),
                     [&](const auto& part) { return tensors::scope_of(part.first) == scope; });
}

/// Every published module and dense part is the weighted mean over those that hold its scope.
void check_exact(const TinyFederation& tiny, int version) {
  CAPTURE(version);
  const auto all = uploads(tiny, version);
  const tensors::FactorSet published = factors_of(tiny, version);
  std::set<std::string> names;
  for (const Upload& upload : all) {
    for (const auto& [name, pair] : upload.update.modules) names.insert(name);
  }
  REQUIRE(names.size() == published.modules.size());
  const auto share = [&](const Upload& upload, std::string_view scope) {
    double total = 0.0;
    for (const Upload& other : all) total += holds(other.update, scope) ? other.examples : 0.0;
    return holds(upload.update, scope) ? upload.examples / total : 0.0;
  };
  for (const auto& [name, factors] : published.modules) {
    CAPTURE(name);
    at::Tensor sum = at::zeros({factors.out_features(), factors.in_features()}, at::kDouble);
    for (const Upload& upload : all) {
      const auto own = upload.update.modules.find(name);
      if (own == upload.update.modules.end()) continue;
      sum += at::mm(own->second.b.to(at::kDouble), own->second.a.to(at::kDouble)) *
             share(upload, tensors::scope_of(name));
    }
    const at::Tensor actual = at::mm(factors.b.to(at::kDouble), factors.a.to(at::kDouble));
    CHECK(((actual - sum).norm() / sum.norm()).item<double>() < 1e-6);
  }
  for (const auto& [name, part] : published.dense) {
    CAPTURE(name);
    at::Tensor sum = at::zeros(part.sizes(), at::kDouble);
    for (const Upload& upload : all) {
      const auto own = upload.update.dense.find(name);
      if (own == upload.update.dense.end()) continue;
      sum += own->second.to(at::kDouble) * share(upload, tensors::scope_of(name));
    }
    CHECK(at::allclose(part.to(at::kDouble), sum, 1e-5, 1e-7));
  }
}

/// What the evaluator reported, by version.
struct Evaluations final : coordinator::Observer {
  void on_evaluated(std::uint64_t version, const coordinator::Metrics& metrics) override {
    for (const auto& [name, value] : metrics) seen[version][name] = value;
  }
  std::map<std::uint64_t, std::map<std::string, double>> seen;
};

}  // namespace

TEST_CASE("ensemble federation: exact per member over two rounds, by seed, mixed ranks") {
  const TinyFederation tiny(entry("members = 3", 1) + entry("members = 3", 4) +
                            entry("members = 3, of = \"rslora\"", 2));
  const auto outcome = run(tiny);
  REQUIRE_FALSE(outcome.failure.has_value());
  REQUIRE(outcome.report.rounds.size() == 2);
  for (int version = 1; version <= 2; ++version) {
    check_exact(tiny, version);
    const auto split = tensors::split_members(factors_of(tiny, version));
    CHECK(split.shared.modules.empty());
    CHECK(split.members.size() == 3);
  }
  CHECK(cli::verify_run(tiny.path() / "run").is_sound());
}

TEST_CASE("ensemble federation: simulation.group leaves ensembles as they are") {
  const std::string entries = entry("members = 2", 2) + entry("members = 2", 2);
  const TinyFederation alone(entries);
  const TinyFederation grouped(entries);
  CHECK(run(alone).report.head == run(grouped, {"simulation.group=2"}).report.head);
}

TEST_CASE("ensemble federation: clusters beside an ordinary client, whose base all members share") {
  const std::string cluster = "members = 2, assign = \"cluster\", member = ";
  const TinyFederation tiny(entry(cluster + "0") + entry(cluster + "1") + entry(cluster + "1", 3) +
                            "[[clients]]\nmethod = \"lora\"\nrank = 3\n");
  const auto outcome = run(tiny);
  REQUIRE_FALSE(outcome.failure.has_value());
  for (int version = 1; version <= 2; ++version) {
    check_exact(tiny, version);
    const auto split = tensors::split_members(factors_of(tiny, version));
    CHECK_FALSE(split.shared.modules.empty());
    CHECK(split.members.size() == 2);
  }
  CHECK(cli::verify_run(tiny.path() / "run").is_sound());
  const tensors::FactorSet shared = tensors::read_peft(tiny.path() / "run/global");
  const tensors::FactorSet member = tensors::read_peft(tiny.path() / "run/global/member-1");
  for (const auto& [name, pair] : shared.modules) {  // the whole adapter: base and member
    at::Tensor sum = pair.product();
    for (int version = 1; version <= 2; ++version) {
      sum = sum + factors_of(tiny, version).modules.at("member-1/" + name).product();
    }
    CHECK(at::allclose(member.modules.at(name).product(), sum, 1e-4, 1e-6));
  }
}

TEST_CASE("ensemble federation: one shared chain until the fork") {
  const std::string options = "members = 2, start_round = 2";
  const TinyFederation tiny(entry(options) + entry(options, 4));
  Evaluations evaluations;
  REQUIRE_FALSE(run(tiny, {}, {&evaluations}).failure.has_value());
  CHECK(tensors::split_members(factors_of(tiny, 1)).members.empty());
  const auto forked = tensors::split_members(factors_of(tiny, 2));
  CHECK(forked.shared.modules.empty());
  CHECK(forked.members.size() == 2);
  check_exact(tiny, 1);
  check_exact(tiny, 2);
  CHECK_FALSE(evaluations.seen.at(1).contains("uncertainty_total"));
  CHECK(evaluations.seen.at(2).contains("uncertainty_total"));
}

TEST_CASE(
    "ensemble federation: the run's folders: members as PEFT adapters, evaluated as in rounds") {
  const TinyFederation tiny(entry("members = 3") + entry("members = 3"));
  Evaluations evaluations;
  REQUIRE_FALSE(run(tiny, {}, {&evaluations}).failure.has_value());
  const fs::path global = tiny.path() / "run/global";
  CHECK(evaluation::member_folders(global).size() == 3);
  CHECK(fs::exists(global / "member-2/head.safetensors"));
  CHECK(fs::exists(global / "member-2/labels.json"));
  const auto about = nlohmann::json::parse(std::ifstream(global / "ensemble.json"));
  CHECK(about.at("members").size() == 3);
  CHECK(about.at("relative_tail") == 0.0);

  evaluation::EvaluateOptions options;
  options.model = tiny.path() / "model";
  options.ensemble = global;
  options.data = tiny.path() / "test.jsonl";
  options.max_length = 8;
  options.device = "cpu";
  const evaluation::Measurement measured = evaluation::evaluate(options, {});
  const auto& in_round = evaluations.seen.at(2);
  for (const char* name : {"nll", "accuracy", "ece", "brier", "uncertainty_total",
                           "uncertainty_epistemic", "nll_member_0", "nll_members"}) {
    CAPTURE(name);
    CHECK(measured.metrics.at(name) == doctest::Approx(in_round.at(name)).epsilon(1e-4));
  }
  REQUIRE(measured.predictives.size() == 4);
  CHECK(measured.metrics.at("nll") <= measured.metrics.at("nll_members") + 1e-9);
  for (int m = 0; m < 3; ++m) {  // each is an adapter like any other
    evaluation::EvaluateOptions alone = options;
    alone.ensemble.clear();
    alone.adapter = global / ("member-" + std::to_string(m));
    const evaluation::Measurement own = evaluation::evaluate(alone, {});
    const auto& [name, listed] = measured.predictives[static_cast<std::size_t>(m) + 1];
    CHECK(name == "member-" + std::to_string(m));
    CHECK(own.metrics.at("nll") == doctest::Approx(listed.at("nll")).epsilon(1e-4));
    CHECK(own.metrics.at("accuracy") == listed.at("accuracy"));
  }
  const auto inspected = cli::inspect(tiny.path() / "run");
  CHECK(inspected.modules.front().name.starts_with("member-0/"));
  options.ensemble = tiny.path();
  CHECK_THROWS_WITH_AS(evaluation::evaluate(options, {}), doctest::Contains("member-<k>"),
                       core::ConfigError);
}

TEST_CASE("ensemble federation: a bound on the members' rank is kept, and its tail told") {
  const TinyFederation tiny(entry("members = 2, max_rank = 2") +
                            entry("members = 2, max_rank = 2"));
  const std::vector<std::string> federation = {"training.method=\"lora-ensemble\"",
                                               "training.options={max_rank = 2}"};
  REQUIRE_FALSE(run(tiny, federation).failure.has_value());
  const fs::path global = tiny.path() / "run/global";
  for (const auto& [name, pair] : tensors::read_peft(global / "member-0").modules) {
    CHECK(pair.rank() <= 2);
  }
  const auto about = nlohmann::json::parse(std::ifstream(global / "ensemble.json"));
  CHECK(about.at("relative_tail") > 0.0);
  const TinyFederation unbound(entry("members = 2, max_rank = 2"));
  CHECK_THROWS_WITH_AS(run(unbound), doctest::Contains("max_rank"), core::ConfigError);
}

TEST_CASE("ensemble federation: rules that average factors, and members that differ, are refused") {
  const TinyFederation tiny(entry("members = 2") + entry("members = 3"));
  CHECK_THROWS_WITH_AS(run(tiny), doctest::Contains("members"), core::ConfigError);
  const TinyFederation averaged(entry("members = 2"));
  CHECK_THROWS_WITH_AS(run(averaged, {"aggregation.rule=\"fedit\""}),
                       doctest::Contains("lora-ensemble"), core::ConfigError);
}
