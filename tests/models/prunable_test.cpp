// Heads and channels as groups: which there are, and that masking them is removing them.

#include "models/prunable.h"

#include <set>

#include <ATen/TensorOperators.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/allclose.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/equal.h>
#include <ATen/ops/ones.h>
#include <ATen/ops/remainder.h>
#include <ATen/ops/zeros_like.h>
#include <doctest/doctest.h>

#include "core/error.h"
#include "models/load.h"
#include "tests/models/decoder_oracle.h"
#include "tests/models/tiny_decoder.h"
#include "tests/temporary_folder.h"

using namespace drystone;
using models::PrunableBlock;

namespace {

const std::set<std::string> kSeparate = {"gemma",   "gemma2", "gemma3_text", "llama",
                                         "mistral", "qwen2",  "qwen3"};
const std::filesystem::path kFixtures =
    std::filesystem::path(DRYSTONE_SOURCE_DIR) / "tests/models/fixtures";

models::Batch some_tokens() {
  return {.input_ids = (at::arange(24, at::kLong) * 7).remainder(13).view({3, 8}) + 3,
          .pad_mask = {}};
}

at::Tensor logits_of(models::Model& model) {
  const at::NoGradGuard no_grad;
  return model.logits(some_tokens());
}

/// Every block loses its groups 0, 3, 6 …; a block of one group stays whole.
tensors::KeptGroups every_third_goes(models::Model& model) {
  tensors::KeptGroups kept;
  for (const PrunableBlock& block : models::prunable_blocks(model)) {
    if (block.groups > 1) kept[block.name] = at::arange(block.groups).remainder(3).ne(0);
  }
  return kept;
}

/// What masking must equal: outputs of pruned rows and what reads them are gone from the weights.
void remove_from_weights(models::Model& model, const tensors::KeptGroups& kept) {
  std::map<std::string, models::Linear*> linears;
  for (models::Linear* linear : model.linears()) linears[linear->name] = linear;
  for (const PrunableBlock& block : models::prunable_blocks(model)) {
    if (!kept.contains(block.name)) continue;
    const at::Tensor mask = kept.at(block.name).to(at::kFloat);
    for (const std::string& row : block.rows) {
      models::Linear& linear = *linears.at(row);
      const at::Tensor rows = mask.repeat_interleave(linear.out_features() / block.groups);
      linear.weight = linear.weight * rows.unsqueeze(1);
      if (linear.bias.defined()) linear.bias = linear.bias * rows;
    }
    models::Linear& columns = *linears.at(block.columns);
    columns.weight = columns.weight * mask.repeat_interleave(columns.in_features() / block.groups);
  }
}

void check_masking(models::Model& masked, models::Model& removed) {
  const at::Tensor whole = logits_of(masked);
  const tensors::KeptGroups kept = every_third_goes(masked);
  models::set_masks(masked, kept);
  remove_from_weights(removed, kept);
  const at::Tensor logits = logits_of(masked);
  CHECK_FALSE(at::allclose(logits, whole, 1e-3, 1e-3));
  CHECK(at::allclose(logits, logits_of(removed), 1e-5, 1e-6));
  models::set_masks(masked, {});
  CHECK(at::equal(logits_of(masked), whole));
}

}  // namespace

TEST_CASE("prunable: decoders by key-value heads and channels; fused projections have none") {
  for (const std::string& family : kSeparate) {
    CAPTURE(family);
    const auto model = models::load_model(
        {.folder = test::kDecoderFixtures / family, .task = models::Task::CausalLm});
    const auto blocks = models::prunable_blocks(*model);
    REQUIRE(blocks.size() >= 4);
    CHECK(blocks[0].name == "model.layers.0.heads");
    CHECK(blocks[0].groups == model->num_kv_heads());
    CHECK(blocks[0].rows.size() == 3);
    CHECK(blocks[1].name == "model.layers.0.channels");
    CHECK(blocks[1].rows.size() == 2);
    CHECK(blocks[2].layer == 1);
  }
  for (const char* family : {"gpt2", "phi3"}) {
    const auto model = models::load_model(
        {.folder = test::kDecoderFixtures / family, .task = models::Task::CausalLm});
    CHECK(models::prunable_blocks(*model).empty());
  }
}

TEST_CASE("prunable: layers are in their number's order") {
  std::map<std::string, models::LinearShape> modules;
  for (int layer = 0; layer < 12; ++layer) {
    const std::string base = "model.layers." + std::to_string(layer) + ".mlp.";
    modules[base + "gate_proj"] = {.out = 6, .in = 4};
    modules[base + "up_proj"] = {.out = 6, .in = 4};
    modules[base + "down_proj"] = {.out = 4, .in = 6};
  }
  const auto blocks = models::find_prunable(modules, 0);
  REQUIRE(blocks.size() == 12);
  for (std::size_t i = 0; i < 12; ++i) CHECK(blocks[i].layer == static_cast<std::int64_t>(i));
  modules.erase("model.layers.3.mlp.up_proj");
  CHECK(models::find_prunable(modules, 0).size() == 11);
}

TEST_CASE("prunable: a masked decoder is one without the heads and channels") {
  for (const char* family : {"llama", "mistral", "qwen2", "qwen3"}) {
    CAPTURE(family);
    const test::TemporaryFolder folder;
    test::write_tiny_decoder(folder.path(), family);
    const models::ModelSpec spec{.folder = folder.path(), .task = models::Task::CausalLm};
    const auto masked = models::load_model(spec);
    const auto removed = models::load_model(spec);
    check_masking(*masked, *removed);
  }
}

TEST_CASE("prunable: a masked encoder is one without the heads and channels") {
  for (const char* family : {"bert_tiny", "roberta", "deberta_v3"}) {
    CAPTURE(family);
    const models::ModelSpec spec{.folder = kFixtures / family, .num_labels = 3};
    const auto masked = models::load_model(spec);
    const auto removed = models::load_model(spec);
    check_masking(*masked, *removed);
  }
}

TEST_CASE("prunable: masks of another model are refused") {
  const auto model = models::load_model(
      {.folder = test::kDecoderFixtures / "llama", .task = models::Task::CausalLm});
  CHECK_THROWS_AS(models::set_masks(*model, {{"model.layers.9.heads", at::ones({2}, at::kBool)}}),
                  core::InvalidArgument);
  CHECK_THROWS_AS(models::set_masks(*model, {{"model.layers.0.heads", at::ones({7}, at::kBool)}}),
                  core::InvalidArgument);
}
