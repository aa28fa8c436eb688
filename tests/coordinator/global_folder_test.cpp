// global/ of sums that have more than one shared adapter in them.

#include "coordinator/global_folder.h"

#include <ATen/ops/arange.h>
#include <ATen/ops/equal.h>
#include <ATen/ops/full.h>
#include <doctest/doctest.h>
#include <nlohmann/json.hpp>

#include "tensors/factor_set_io.h"
#include "tensors/member_names.h"
#include "tensors/peft_io.h"
#include "tensors/safetensors.h"
#include "tests/temporary_folder.h"

using namespace drystone;
namespace fs = std::filesystem;

namespace {

tensors::Factors constant(double value) { return {at::full({6, 1}, value), at::full({1, 4}, 1.0)}; }

float largest(const tensors::FactorSet& adapter) {
  return adapter.modules.at("layer.0.query").product().max().item<float>();
}

/// global/ of one version.
class Global {
 public:
  explicit Global(const tensors::FactorSet& version) {
    tensors::write_factor_set(dir_ / "payload", version);
    aggregation::add_version({.before = {}, .payload = dir_ / "payload", .after = dir_ / "sum"});
    core::Config config;
    config.model.max_length = 64;
    coordinator::write_global(folder(), {.config = config, .base_model = "base"},
                              aggregation::PublishedSum(dir_ / "sum"));
  }
  fs::path folder() const { return dir_ / "made" / "global"; }
  nlohmann::json json(const std::string& name) const {
    return nlohmann::json::parse(dir_.read("made/global/" + name));
  }

 private:
  test::TemporaryFolder dir_;
};

}  // namespace

TEST_CASE("global/: statistics have a file of their own, under their own names") {
  const at::Tensor scores = at::arange(5, at::kFloat);
  const Global global(
      {.modules = {{"layer.0.query", constant(0.5)}},
       .dense = {{"statistics/scores", scores}, {"classifier.weight", at::full({3, 4}, 2.0)}}});
  const tensors::SafetensorsFile statistics(global.folder() / "statistics.safetensors");
  CHECK(statistics.header().tensors.size() == 1);
  CHECK(at::equal(statistics.tensor("scores"), scores));
  const tensors::FactorSet adapter = tensors::read_peft(global.folder());
  CHECK(largest(adapter) == 0.5F);
  CHECK(adapter.dense.size() == 1);
}

TEST_CASE("global/: what there is nothing of has no file") {
  const Global global({.modules = {{"layer.0.query", constant(0.5)}}, .dense = {}});
  for (const char* const file : {"ensemble.json", "statistics.safetensors", "pruning.json",
                                 "labels.json", "posterior.json", "posterior.safetensors"}) {
    CAPTURE(file);
    CHECK_FALSE(fs::exists(global.folder() / file));
  }
  CHECK(global.json("evaluation.json").at("max_length") == 64);
}

TEST_CASE("global/: each member of an ensemble is a whole adapter: what all share, and its own") {
  tensors::FactorSet version{.modules = {{"layer.0.query", constant(0.5)}},
                             .dense = {{"classifier.weight", at::full({3, 4}, 2.0)}}};
  tensors::add_member(version, 0, {.modules = {{"layer.0.query", constant(0.25)}}, .dense = {}});
  tensors::add_member(version, 2,
                      {.modules = {}, .dense = {{"classifier.weight", at::full({3, 4}, 1.0)}}});
  const Global global(version);
  CHECK(global.json("ensemble.json").at("members") ==
        nlohmann::json::array({"member-0", "member-2"}));
  CHECK(global.json("ensemble.json").at("max_rank") == 0);
  const auto head_of = [](const tensors::FactorSet& adapter) {
    return adapter.dense.at("classifier.weight").max().item<float>();
  };
  const tensors::FactorSet shared = tensors::read_peft(global.folder());
  CHECK(largest(shared) == 0.5F);
  CHECK(head_of(shared) == 2.0F);
  const tensors::FactorSet first = tensors::read_peft(global.folder() / "member-0");
  CHECK(largest(first) == doctest::Approx(0.75));
  CHECK(head_of(first) == 2.0F);
  const tensors::FactorSet last = tensors::read_peft(global.folder() / "member-2");
  CHECK(largest(last) == 0.5F);
  CHECK(head_of(last) == 3.0F);
}
