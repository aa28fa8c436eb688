#include <fstream>
#include <string>
#include <utility>
#include <vector>

#include <ATen/ops/equal.h>
#include <ATen/ops/full.h>
#include <ATen/ops/zeros.h>
#include <doctest/doctest.h>

#include "aggregation/rules.h"
#include "aggregation/update_norms.h"
#include "core/error.h"
#include "tensors/factor_set_io.h"
#include "tests/aggregation/random_updates.h"
#include "tests/temporary_folder.h"

namespace drystone::aggregation {
namespace {

constexpr int64_t kOut = 30;
constexpr int64_t kIn = 24;

core::AggregationConfig config_of(const std::string& rule,
                                  const std::string& compaction = "lossless") {
  core::AggregationConfig config;
  config.rule = rule;
  config.compaction = compaction;
  return config;
}

std::vector<std::string> names_of_rules() {
  std::vector<std::string> names;
  for (const Rule& rule : rules()) names.emplace_back(rule.name);
  return names;
}

std::string content(const std::filesystem::path& file) {
  return std::string(core::as_text(core::MappedFile(file).bytes()));
}

/// Clients' payloads in a folder, and the dense float64 mean that a rule is compared with.
class Round {
 public:
  void add(const std::string& client, std::uint64_t num_examples, tensors::FactorSet update) {
    const auto path = folder_ / (client + ".safetensors");
    tensors::write_factor_set(path, update);
    job_.updates.push_back({client, num_examples, path});
    updates_.push_back(std::move(update));
  }
  /// As many clients as there are ranks.
  void add_random(std::uint64_t seed, const std::vector<int64_t>& ranks) {
    for (std::size_t k = 0; k < ranks.size(); ++k) {
      const std::string client = "client-" + std::to_string(k);
      tensors::FactorSet update;
      update.modules["m.k"] = test::random_factors(seed, client + "k", kOut, kIn, ranks[k], 0.1);
      update.modules["m.q"] = test::random_factors(seed, client + "q", kIn, kOut, ranks[k]);
      update.dense["bias"] = test::random_tensor(seed, client, {5});
      add(client, 10 * (k + 1), std::move(update));
    }
  }
  AggregationReport run(const core::AggregationConfig& config, const std::string& output = "out") {
    job_.output = folder_ / output;
    job_.carry_out = folder_ / (output + ".carry");
    return make_rule(config)->aggregate(job_);
  }
  tensors::FactorSet result(const std::string& output = "out") const {
    return tensors::read_factor_set(folder_ / output);
  }
  at::Tensor mean(const std::string& module) const {
    std::vector<WeightedFactors> clients;
    for (std::size_t k = 0; k < updates_.size(); ++k) {
      clients.push_back(
          {updates_[k].modules.at(module), static_cast<double>(job_.updates[k].num_examples)});
    }
    return test::weighted_mean_delta(clients);
  }
  /// Σ examples · ΔW over the clients that adapt the module, in float64.
  at::Tensor sum(const std::string& module) const {
    at::Tensor sum;
    for (std::size_t k = 0; k < updates_.size(); ++k) {
      const auto found = updates_[k].modules.find(module);
      if (found == updates_[k].modules.end()) continue;
      const double weight = static_cast<double>(job_.updates[k].num_examples);
      const at::Tensor term = test::dense(found->second) * weight;
      sum = sum.defined() ? sum + term : term;
    }
    return sum;
  }
  AggregationJob& job() { return job_; }
  std::filesystem::path file(const std::string& name) const { return folder_ / name; }

 private:
  test::TemporaryFolder folder_;
  AggregationJob job_;
  std::vector<tensors::FactorSet> updates_;
};

void check_close(const at::Tensor& actual, const at::Tensor& expected, double tolerance = 1e-6) {
  CHECK(test::norm(actual - expected) <= tolerance * test::norm(expected));
}

/// ‖cut‖ / ‖kept + cut‖ over all modules.
double share_cut(const tensors::FactorSet& kept, const tensors::FactorSet& cut) {
  double cut_squares = 0.0;
  double all_squares = 0.0;
  for (const auto& [name, factors] : kept.modules) {
    at::Tensor all = test::dense(factors);
    if (const auto tail = cut.modules.find(name); tail != cut.modules.end()) {
      cut_squares += std::pow(test::norm(test::dense(tail->second)), 2);
      all = all + test::dense(tail->second);
    }
    all_squares += std::pow(test::norm(all), 2);
  }
  return std::sqrt(cut_squares / all_squares);
}

TEST_CASE("flora: publishes the weighted mean of mixed ranks, compacted without loss") {
  for (const char* compaction : {"lossless", "none"}) {
    CAPTURE(compaction);
    Round round;
    round.add_random(1, {6, 4, 2, 1});
    const AggregationReport report = round.run(config_of("flora", compaction));
    const tensors::FactorSet result = round.result();
    for (const char* module : {"m.k", "m.q"}) {
      check_close(test::dense(result.modules.at(module)), round.mean(module));
    }
    CHECK(report.stack_rank == 13);
    CHECK(report.compact_rank == 13);
    CHECK(report.exactness == "exact");
    CHECK(report.relative_error <= 1.2e-7);
    CHECK_FALSE(report.carries);
    CHECK_FALSE(std::filesystem::exists(round.file("out.carry")));
  }
}

TEST_CASE("every rule: homogeneous identical clients give any one client's product") {
  for (const std::string& rule : names_of_rules()) {
    CAPTURE(rule);
    Round round;
    tensors::FactorSet one;
    one.modules["m"] = test::random_factors(1, "m", kOut, kIn, 4);
    one.dense["bias"] = test::random_tensor(1, "bias", {5});
    for (const char* client : {"a", "b", "c"}) {
      round.add(client, 7, {.modules = {{"m", one.modules.at("m")}}, .dense = one.dense});
    }
    const AggregationReport report = round.run(config_of(rule));
    check_close(test::dense(round.result().modules.at("m")), test::dense(one.modules.at("m")));
    check_close(round.result().dense.at("bias"), one.dense.at("bias"));
    CHECK(report.compact_rank == 4);  // identical clients stack to rank 12, which is numerically 4
    CHECK(report.stack_rank == 12);
  }
}

TEST_CASE("every rule: the order of arrival does not change one bit") {
  for (const std::string& rule : names_of_rules()) {
    CAPTURE(rule);
    Round round;
    round.add_random(2, {3, 3, 3, 3, 3});
    round.run(config_of(rule), "first");
    core::SplitMix64 random(1);
    for (int trial = 0; trial < 5; ++trial) {
      core::shuffle(round.job().updates, random);
      round.run(config_of(rule), "again");
      CHECK(content(round.file("first")) == content(round.file("again")));
    }
  }
}

TEST_CASE("every rule: a client without examples changes nothing, not one bit") {
  for (const std::string& rule : names_of_rules()) {
    CAPTURE(rule);
    Round round;
    round.add_random(3, {3, 3, 3});
    round.run(config_of(rule), "without");
    tensors::FactorSet idle;
    idle.modules["m.k"] = test::random_factors(8, "k", kOut, kIn, 3);
    idle.modules["m.q"] = test::random_factors(8, "q", kIn, kOut, 3);
    idle.dense["bias"] = test::random_tensor(8, "bias", {5});
    round.add("client-0a", 0, idle);
    round.run(config_of(rule), "with");
    CHECK(content(round.file("without")) == content(round.file("with")));
  }
}

TEST_CASE("flora: a client split in two of half the examples each changes nothing") {
  Round whole;
  whole.add_random(4, {4, 2, 3});
  whole.run(config_of("flora"));
  Round split;
  split.add_random(4, {4, 2, 3});
  split.job().updates[1].num_examples = 10;  // of 20
  UpdateFile half = split.job().updates[1];
  half.client = "client-1b";
  split.job().updates.push_back(half);
  const AggregationReport report = split.run(config_of("flora"));
  check_close(test::dense(split.result().modules.at("m.q")),
              test::dense(whole.result().modules.at("m.q")));
  CHECK(report.stack_rank == 11);
  CHECK(report.compact_rank == 9);
}

TEST_CASE("every rule: shares are of the accepted updates only") {
  for (const std::string& rule : names_of_rules()) {
    CAPTURE(rule);
    Round all;
    all.add_random(5, {3, 3, 3});
    all.job().updates.pop_back();  // the third came too late
    all.run(config_of(rule));
    Round two;
    two.add_random(5, {3, 3});
    two.run(config_of(rule));
    CHECK(content(all.file("out")) == content(two.file("out")));
  }
}

TEST_CASE("flora: truncation with carry loses nothing over the rounds") {
  for (const char* compaction : {"tolerance", "rank"}) {
    CAPTURE(compaction);
    core::AggregationConfig config = config_of("flora", compaction);
    config.tolerance = 0.4;
    config.rank = 3;
    at::Tensor wanted = at::zeros({kOut, kIn}, at::kDouble);
    at::Tensor published = at::zeros({kOut, kIn}, at::kDouble);
    const test::TemporaryFolder carries;
    double last_gap = 0.0;
    for (std::uint64_t number = 1; number <= 8; ++number) {
      Round round;
      round.add_random(number, {2, 1, 2});
      if (number > 1) round.job().carry_in = carries / "carry";
      const AggregationReport report = round.run(config);
      REQUIRE(report.carries);
      CHECK(report.exactness.starts_with(
          std::string(compaction) == "rank" ? "truncated, rank=3, " : "truncated, tol=0.4, "));
      CHECK(report.exactness.ends_with(" % carried over"));
      CHECK(report.relative_error > 0.0);
      if (config.compaction == "tolerance") CHECK(report.relative_error <= 0.4);
      if (config.compaction == "rank") CHECK(report.compact_rank == 3);
      std::filesystem::copy_file(round.file("out.carry"), carries / "carry",
                                 std::filesystem::copy_options::overwrite_existing);
      CHECK(report.relative_error ==
            doctest::Approx(share_cut(round.result(), tensors::read_factor_set(carries / "carry")))
                .epsilon(1e-5));
      wanted += round.mean("m.k");
      published += test::dense(round.result().modules.at("m.k"));
      const at::Tensor carried =
          test::dense(tensors::read_factor_set(carries / "carry").modules.at("m.k"));
      check_close(published + carried, wanted);  // delayed, not lost
      last_gap = test::norm(published - wanted);
    }
    CHECK(last_gap > 0.0);
    // One more round without new content closes the gap when it is the last, whatever the rule.
    Round last;
    tensors::FactorSet nothing;
    nothing.modules["m.k"] = {.b = at::zeros({kOut, 1}), .a = at::zeros({1, kIn})};
    nothing.modules["m.q"] = {.b = at::zeros({kIn, 1}), .a = at::zeros({1, kOut})};
    last.add("idle", 1, nothing);
    last.job().carry_in = carries / "carry";
    last.job().is_last = true;
    const AggregationReport report = last.run(config);
    CHECK_FALSE(report.carries);
    CHECK(report.exactness == "exact");
    check_close(published + test::dense(last.result().modules.at("m.k")), wanted);
  }
}

TEST_CASE("every rule: an update far above the round's median weighs less, and is named") {
  for (const std::string& rule : names_of_rules()) {
    CAPTURE(rule);
    core::AggregationConfig config = config_of(rule);
    config.max_norm = 10.0;
    Round round;
    round.add_random(9, {3, 3, 3, 3});
    CHECK(round.run(config, "within").lowered.empty());
    tensors::FactorSet huge;  // a million times the others', as the gate would let through
    for (const char* module : {"m.k", "m.q"}) {
      const bool is_k = std::string(module) == "m.k";
      huge.modules[module] =
          test::random_factors(9, module, is_k ? kOut : kIn, is_k ? kIn : kOut, 3, 1e6);
    }
    huge.dense["bias"] = test::random_tensor(9, "bias", {5});
    round.add("attacker", 20, huge);
    const AggregationReport report = round.run(config);
    REQUIRE(report.lowered.size() == 1);
    CHECK(report.lowered.at("attacker") < 1e-3);
    CHECK(report.lowered.at("attacker") > 0.0);
    const double without = test::norm(test::dense(round.result("within").modules.at("m.q")));
    CHECK(test::norm(test::dense(round.result().modules.at("m.q"))) < 20.0 * without);
    core::AggregationConfig open = config;
    open.max_norm = 0.0;
    CHECK(round.run(open).lowered.empty());
    CHECK(test::norm(test::dense(round.result().modules.at("m.q"))) > 1e3 * without);
  }
}

TEST_CASE("a rule: norms that are known are not measured again, and make no other bytes") {
  core::AggregationConfig config = config_of("flora");
  config.max_norm = 2.0;
  Round round;
  round.add_random(9, {3, 3, 3});
  round.add("large", 20, [] {
    tensors::FactorSet update;
    update.modules["m.q"] = test::random_factors(9, "large", kIn, kOut, 3, 50.0);
    update.dense["bias"] = test::random_tensor(9, "bias", {5});
    return update;
  }());
  const auto measured = round.run(config, "measured").lowered;
  REQUIRE(measured.contains("large"));
  for (UpdateFile& update : round.job().updates) {
    update.norms = norms_of(tensors::FactorSetFile(update.payload));
  }
  CHECK(round.run(config, "known").lowered == measured);
  CHECK(content(round.file("known")) == content(round.file("measured")));
  round.job().updates.front().norms->modules *= 1e3;
  CHECK(round.run(config).lowered.contains(round.job().updates.front().client));
}

TEST_CASE("flora: the same job gives the same bytes") {
  Round round;
  round.add_random(6, {8, 4, 2, 2});
  round.run(config_of("flora"), "first");
  round.run(config_of("flora"), "second");
  CHECK(content(round.file("first")) == content(round.file("second")));
}

TEST_CASE("rules: payloads are not changed") {
  Round round;
  round.add_random(7, {3, 3});
  const std::string before = content(round.file("client-0.safetensors"));
  for (const std::string& rule : names_of_rules()) round.run(config_of(rule));
  CHECK(content(round.file("client-0.safetensors")) == before);
}

TEST_CASE("zero-pad and fedit: averages, which are labelled inexact") {
  Round round;
  round.add_random(8, {4, 2, 1});
  const AggregationReport report = round.run(config_of("zero-pad"));
  CHECK(report.compact_rank == 4);
  CHECK(report.stack_rank == 7);
  CHECK(report.exactness == "inexact, factors averaged");
  CHECK_THROWS_WITH_AS(round.run(config_of("fedit")), doctest::Contains("'client-1' has 2"),
                       core::InvalidArgument);
  CHECK_FALSE(std::filesystem::exists(round.file("out.data")));
}

TEST_CASE("flora: a client that leaves a module out changes nothing there, and keeps its share") {
  for (const char* compaction : {"lossless", "none"}) {
    CAPTURE(compaction);
    Round round;
    round.add_random(21, {3, 2});
    tensors::FactorSet partial;
    partial.modules["m.k"] = test::random_factors(21, "partial", kOut, kIn, 4);
    partial.modules["m.v"] = test::random_factors(21, "alone", kOut, kIn, 1);
    partial.dense["bias"] = at::zeros({5});
    round.add("client-9", 30, partial);
    round.run(config_of("flora", compaction));
    const tensors::FactorSet result = round.result();
    const double total = 10.0 + 20.0 + 30.0;
    check_close(test::dense(result.modules.at("m.k")), round.mean("m.k"));
    check_close(test::dense(result.modules.at("m.v")),
                test::dense(partial.modules.at("m.v")) * (30.0 / total));
    check_close(test::dense(result.modules.at("m.q")), round.sum("m.q") / total);
  }
}

TEST_CASE("every rule: a statistic is the weighted mean, and zero where it is absent") {
  for (const char* rule : {"flora", "zero-pad"}) {
    Round round;
    round.add_random(23, {2, 2});
    tensors::FactorSet counted;
    counted.modules["m.k"] = test::random_factors(23, "k", kOut, kIn, 2);
    counted.modules["m.q"] = test::random_factors(23, "q", kIn, kOut, 2);
    counted.dense["bias"] = at::zeros({5});
    counted.dense["statistics/count"] = at::full({2}, 8.0);
    round.add("client-9", 90, counted);
    round.run(config_of(rule));
    CHECK(at::equal(round.result().dense.at("statistics/count"), at::full({2}, 6.0)));
  }
}

TEST_CASE("flora: a member's share is among the clients that trained it") {
  Round round;
  round.add_random(24, {2});  // 10 examples, none of them for a member
  for (const auto& [client, examples] : {std::pair("client-8", 30), std::pair("client-9", 90)}) {
    tensors::FactorSet update;
    update.modules["member-0/m.k"] = test::random_factors(24, client, kOut, kIn, 2);
    update.dense["bias"] = at::zeros({5});
    update.dense["member-0/bias"] = at::full({5}, client == std::string("client-8") ? 4.0 : 8.0);
    round.add(client, static_cast<std::uint64_t>(examples), update);
  }
  round.run(config_of("flora"));
  const tensors::FactorSet result = round.result();
  check_close(test::dense(result.modules.at("member-0/m.k")), round.sum("member-0/m.k") / 120.0);
  check_close(test::dense(result.modules.at("m.k")), round.sum("m.k") / 130.0);
  CHECK(at::equal(result.dense.at("member-0/bias"), at::full({5}, 7.0)));
}

TEST_CASE("flora: clients of members alone leave the shared base to the others") {
  Round round;
  round.add_random(25, {2});  // 10 examples, the base
  tensors::FactorSet update;
  update.modules["member-3/m.k"] = test::random_factors(25, "client-9", kOut, kIn, 2);
  update.dense["member-3/bias"] = at::full({5}, 2.0);
  round.add("client-9", 90, update);
  round.run(config_of("flora"));
  const tensors::FactorSet result = round.result();
  check_close(test::dense(result.modules.at("m.k")), round.sum("m.k") / 10.0);
  check_close(test::dense(result.modules.at("member-3/m.k")), round.sum("member-3/m.k") / 90.0);
  CHECK(at::equal(result.dense.at("member-3/bias"), at::full({5}, 2.0)));
  tensors::FactorSet headless;
  headless.modules["m.k"] = update.modules.at("member-3/m.k");
  round.add("client-8", 10, headless);
  CHECK_THROWS_WITH_AS(round.run(config_of("flora")), doctest::Contains("client-8"),
                       core::InvalidArgument);
}

TEST_CASE("averages refuse a client that leaves a module out") {
  for (const char* rule : {"fedit", "zero-pad"}) {
    Round round;
    round.add_random(22, {2, 2});
    tensors::FactorSet partial;
    partial.modules["m.k"] = test::random_factors(22, "partial", kOut, kIn, 2);
    partial.dense["bias"] = at::zeros({5});
    round.add("client-9", 30, partial);
    CHECK_THROWS_WITH_AS(round.run(config_of(rule)), doctest::Contains("'client-9' does not adapt"),
                         core::InvalidArgument);
  }
}

TEST_CASE("flora: what was cut of a module that nobody adapts any more is published") {
  Round round;
  round.add_random(23, {2});
  tensors::FactorSet carried;
  carried.modules["m.v"] = test::random_factors(23, "carried", kOut, kIn, 3);
  tensors::write_factor_set(round.file("carry"), carried);
  round.job().carry_in = round.file("carry");
  round.run(config_of("flora"));
  check_close(test::dense(round.result().modules.at("m.v")),
              test::dense(carried.modules.at("m.v")));
}

TEST_CASE("every rule: updates with indices publish the bits that their dense forms do") {
  for (const std::string& rule : names_of_rules()) {
    for (const char* compaction : {"lossless", "none"}) {
      CAPTURE(rule);
      CAPTURE(compaction);
      Round round;
      for (int client = 0; client < 3; ++client) {
        const std::string name = "client-" + std::to_string(client);
        tensors::FactorSet update;
        update.modules["m.k"] = test::random_factors(31, name + "k", kOut, kIn, 4);
        update.modules["m.k"].a = at::zeros({4, kIn});
        update.modules["m.q"] = test::random_factors(31, name + "q", kOut, kIn, 4);
        update.modules["m.q"].b = at::zeros({kOut, 4});
        for (int64_t i = 0; i < 4; ++i) {
          update.modules["m.k"].a[i][3 * i] = 1.0;
          update.modules["m.q"].b[5 * i][i] = 1.3;  // alpha / r
        }
        update.dense["bias"] = test::random_tensor(31, name, {5});
        round.add(name, 10, update);
      }
      round.run(config_of(rule, compaction), "dense");
      for (const UpdateFile& update : round.job().updates) {
        const auto bytes = tensors::update_to_bytes(tensors::read_factor_set(update.payload));
        CHECK(bytes.size() < content(update.payload).size());
        std::ofstream(update.payload, std::ios::binary) << core::as_text(bytes);
      }
      round.run(config_of(rule, compaction), "indices");
      CHECK(content(round.file("indices")) == content(round.file("dense")));
    }
  }
}

TEST_CASE("rules: uniform weights") {
  core::AggregationConfig config = config_of("flora");
  config.weights = "uniform";
  Round round;
  round.add_random(9, {3, 2});
  round.run(config);
  for (auto& update : round.job().updates) update.num_examples = 1;  // what mean() then uses
  check_close(test::dense(round.result().modules.at("m.k")), round.mean("m.k"));
}

TEST_CASE("rules: refuse an empty round, a client twice, unlike updates and unreadable files") {
  Round round;
  CHECK_THROWS_AS(round.run(config_of("flora")), core::InvalidArgument);
  round.add_random(10, {2, 2});
  round.job().updates.push_back(round.job().updates.front());
  CHECK_THROWS_WITH_AS(round.run(config_of("flora")), doctest::Contains("'client-0' counts twice"),
                       core::InvalidArgument);
  round.job().updates.pop_back();
  tensors::FactorSet other;
  other.modules["m.k"] = test::random_factors(1, "k", kOut, kIn, 2);
  round.add("other", 1, other);  // no dense part
  CHECK_THROWS_WITH_AS(round.run(config_of("flora")), doctest::Contains("'other'"),
                       core::InvalidArgument);
  other.dense["bias"] = at::zeros({5});
  other.modules["m.k"] = test::random_factors(1, "k", kOut, kIn + 1, 2);
  round.job().updates.pop_back();
  round.add("wide", 1, other);
  CHECK_THROWS_WITH_AS(round.run(config_of("flora")), doctest::Contains("another size"),
                       core::InvalidArgument);
  round.job().updates.pop_back();
  round.job().updates.push_back({"gone", 1, round.file("gone")});
  CHECK_THROWS_AS(round.run(config_of("flora")), core::IoError);
  CHECK_FALSE(std::filesystem::exists(round.file("out")));
  round.job().updates.pop_back();
  round.job().carry_in = round.job().updates.front().payload;
  CHECK_THROWS_AS(round.run(config_of("fedit")), core::InvalidArgument);
}

TEST_CASE("make_rule: an unknown name is refused with those that exist") {
  CHECK_THROWS_WITH_AS(make_rule(config_of("fedavg")), doctest::Contains("flora, fedit, zero-pad"),
                       core::ConfigError);
  core::AggregationConfig config;
  config.robust = "krum";
  CHECK_THROWS_AS(make_rule(config), core::ConfigError);
}

}  // namespace
}  // namespace drystone::aggregation
