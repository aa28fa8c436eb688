// The engine's short cuts change no gradient: both forms of the low-rank product, the head's cross
// entropy in pieces, labelled positions only, packing, checkpointing and NF4 against plain_model.h.

#include <array>
#include <memory>
#include <string>
#include <vector>

#include <ATen/TensorOperators.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/cross_entropy_loss.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/equal.h>
#include <ATen/ops/full.h>
#include <ATen/ops/full_like.h>
#include <ATen/ops/zeros.h>
#include <doctest/doctest.h>

#include "adapters/registry.h"
#include "models/device.h"
#include "models/load.h"
#include "models/quantized/int8_weight.h"
#include "models/quantized/nf4.h"
#include "models/weights.h"
#include "plain_model.h"
#include "tests/pretend_device.h"

namespace drystone::adapters {
namespace {

using models::ProductForm;
using models::Quantization;
using test::PlainShape;

constexpr std::array kBases = {Quantization::None, Quantization::Nf4, Quantization::Int8};
constexpr double kTolerance = 1e-5;  // float32 beside float64, norm of the difference to norm
const std::vector<std::int64_t> kLengths = {13, 22, 9, 31, 17};

enum class Family { Llama, Bert, Roberta };

struct Case {
  Family family = Family::Llama;
  ProductForm form = ProductForm::SidePath;
  std::int64_t rank = 8;
  models::Quantization base = models::Quantization::None;
  bool published = false;  ///< beside a quantised base
  std::vector<std::string> targets = {"all-linear"};
  bool checkpointing = false;
  bool packed = false;  ///< several samples in a row
  bool bfloat16 = false;
  at::Device device = at::kCPU;
};

std::string config_of(Family family) {
  const auto number = [](std::int64_t value) { return std::to_string(value); };
  const std::string sizes =
      R"(","vocab_size":)" + number(PlainShape::kVocab) + R"(,"hidden_size":)" +
      number(PlainShape::kHidden) + R"(,"num_hidden_layers":)" + number(PlainShape::kLayers) +
      R"(,"num_attention_heads":)" + number(PlainShape::kHeads) + R"(,"intermediate_size":)" +
      number(PlainShape::kWide) + R"(,"max_position_embeddings":)" + number(PlainShape::kPositions);
  switch (family) {
    case Family::Llama:
      return R"({"model_type":"llama)" + sizes + R"(,"rms_norm_eps":1e-6,"num_key_value_heads":)" +
             number(PlainShape::kKvHeads) + "}";
    case Family::Bert: return R"({"model_type":"bert)" + sizes + "}";
    case Family::Roberta: return R"({"model_type":"roberta)" + sizes + R"(,"pad_token_id":1})";
  }
  return {};
}

std::string prefix_of(Family family) { return family == Family::Bert ? "bert." : "roberta."; }

struct Sample {
  at::Tensor ids;     ///< [tokens]
  at::Tensor labels;  ///< of a language model: [tokens], the first third is a prompt
};

std::vector<Sample> make_samples() {
  core::SplitMix64 random(9);
  std::vector<Sample> samples;
  for (const std::int64_t length : kLengths) {
    at::Tensor ids = at::empty({length}, at::kLong);
    for (std::int64_t t = 0; t < length; ++t) {
      ids[t] = 2 + static_cast<std::int64_t>(random.below(PlainShape::kVocab - 2));
    }
    at::Tensor labels = ids.clone();
    labels.narrow(0, 0, length / 3).fill_(models::kIgnoredLabel);
    samples.push_back({.ids = ids, .labels = labels});
  }
  return samples;
}

/// Rows of the samples with these numbers, padded on the right.
models::Batch make_batch(const std::vector<Sample>& samples,
                         const std::vector<std::vector<std::size_t>>& rows, std::int64_t width,
                         Family family) {
  const auto count = static_cast<std::int64_t>(rows.size());
  const at::Tensor places = at::zeros({count, width}, at::kLong);
  models::Batch batch{.input_ids = places.clone(),
                      .pad_mask = places.to(at::kBool),
                      .labels = at::full_like(places, models::kIgnoredLabel),
                      .segments = places.clone()};
  for (std::int64_t row = 0; row < count; ++row) {
    std::int64_t begin = 0;
    std::int64_t segment = 0;
    for (const std::size_t number : rows[static_cast<std::size_t>(row)]) {
      const Sample& sample = samples[number];
      const std::int64_t length = sample.ids.size(0);
      batch.input_ids[row].narrow(0, begin, length).copy_(sample.ids);
      batch.pad_mask[row].narrow(0, begin, length).fill_(true);
      batch.labels[row].narrow(0, begin, length).copy_(sample.labels);
      batch.segments[row].narrow(0, begin, length).fill_(segment++);
      begin += length;
    }
  }
  if (family != Family::Llama) {
    batch.labels = at::arange(count, at::kLong).remainder(PlainShape::kClasses);
  }
  if (rows.size() == samples.size()) batch.segments = at::Tensor();
  return batch;
}

models::Batch make_batch(const std::vector<Sample>& samples, const Case& shape) {
  if (shape.packed) return make_batch(samples, {{0, 1}, {2, 3}, {4}}, 40, shape.family);
  return make_batch(samples, {{0}, {1}, {2}, {3}, {4}}, 31, shape.family);
}

models::QuantizedPtr quantized(const at::Tensor& weight, Quantization kind) {
  if (kind == Quantization::Nf4) return c10::make_intrusive<models::Nf4Weight>(weight);
  return c10::make_intrusive<models::Int8Weight>(weight);
}

/// A model with LoRA, B away from 0.
struct Subject {
  explicit Subject(const Case& shape)
      : base{.config = models::HfConfig::parse(config_of(shape.family), "config.json"),
             .weights = shape.family == Family::Llama
                            ? test::PlainWeights::llama()
                            : test::PlainWeights::encoder(prefix_of(shape.family)),
             .quantized = {},
             .files = {}} {
    const bool is_decoder = shape.family == Family::Llama;
    base.weights = models::to_device(base.weights, shape.device);
    model =
        models::build({.folder = {},
                       .task = is_decoder ? models::Task::CausalLm : models::Task::Classification,
                       .num_labels = PlainShape::kClasses,
                       .device = shape.device},
                      base);
    std::uint64_t seed = 2000;
    for (models::Linear* const linear : model->linears()) {
      if (shape.base == models::Quantization::None) break;
      linear->quantized = quantized(linear->weight.to(at::kCPU), shape.base)->to(shape.device);
      linear->weight.reset();
      if (!shape.published) continue;
      linear->side.b = test::keyed_normal(++seed, {linear->out_features(), 5}, 0.05);
      linear->side.a = test::keyed_normal(++seed, {5, linear->in_features()}, 0.05);
    }
    adapter = make_adapter(
        *model,
        {.rank = shape.rank, .alpha = 16.0, .target_modules = shape.targets, .form = shape.form},
        {.seed = 1, .client = "c"});
    const at::NoGradGuard no_grad;
    seed = 1000;
    for (const Parameter& parameter : adapter->parameters()) {
      if (parameter.name.ends_with("lora_B")) {
        parameter.tensor.copy_(test::keyed_normal(++seed, parameter.tensor.sizes(), 0.02));
      }
    }
  }

  models::Base base;
  std::unique_ptr<models::Model> model;
  std::unique_ptr<Adapter> adapter;
};

/// The plain model with dense effective weights; returns its leaves by the adapter's names.
TensorMap make_plain(Subject& subject, const Case& shape, test::PlainModel& plain) {
  TensorMap leaves;
  for (const Parameter& parameter : subject.adapter->parameters()) {
    leaves[parameter.name] =
        parameter.tensor.detach().to(at::kCPU, at::kDouble).clone().set_requires_grad(true);
  }
  for (const auto& [name, tensor] : subject.base.weights) {
    plain.weights[name] = tensor.to(at::kCPU, at::kDouble);
  }
  for (models::Linear* const linear : subject.model->linears()) {
    at::Tensor& weight = plain.weights.at(linear->name + ".weight");
    if (linear->quantized) weight = linear->quantized->dequantize(at::kDouble).to(at::kCPU);
    if (linear->side.b.defined()) {
      weight = weight + linear->side.b.to(at::kDouble).mm(linear->side.a.to(at::kDouble));
    }
    if (!leaves.contains(linear->name + ".lora_B")) continue;
    weight = weight + leaves.at(linear->name + ".lora_B").mm(leaves.at(linear->name + ".lora_A")) *
                          (16.0 / static_cast<double>(shape.rank));
  }
  return leaves;
}

at::Tensor plain_loss(const test::PlainModel& plain, const std::vector<Sample>& samples,
                      Family family) {
  std::vector<at::Tensor> losses;
  for (const Sample& sample : samples) {
    if (family == Family::Llama) {
      const std::int64_t last = sample.ids.size(0) - 1;
      losses.push_back(at::cross_entropy_loss(plain.llama_logits(sample.ids).narrow(0, 0, last),
                                              sample.labels.narrow(0, 1, last), {},
                                              /*reduction=*/0)
                           .masked_select(sample.labels.narrow(0, 1, last).ge(0)));
    } else {
      const auto label = static_cast<std::int64_t>(losses.size()) % PlainShape::kClasses;
      losses.push_back(at::cross_entropy_loss(plain.encoder_logits(sample.ids, prefix_of(family)),
                                              at::full({1}, label, at::kLong))
                           .view({1}));
    }
  }
  return at::cat(losses).mean();
}

struct Errors {
  double loss = 0.0;
  double gradients = 0.0;  ///< the worst leaf's
};

Errors errors_of(const Case& shape) {
  const std::vector<Sample> samples = make_samples();
  Subject subject(shape);
  test::PlainModel plain;
  const TensorMap leaves = make_plain(subject, shape, plain);
  subject.model->set_checkpointing(shape.checkpointing);
  subject.model->set_bfloat16(shape.bfloat16);
  const at::Tensor loss = subject.model->batch_loss(make_batch(samples, shape));
  const at::Tensor expected = plain_loss(plain, samples, shape.family);
  loss.backward();
  expected.backward();
  Errors errors{.loss = std::abs(loss.item<double>() / expected.item<double>() - 1.0)};
  for (const Parameter& parameter : subject.adapter->parameters()) {
    const at::Tensor& wanted = leaves.at(parameter.name).grad();
    const at::Tensor error =
        (parameter.tensor.grad().to(at::kCPU, at::kDouble) - wanted).norm() / wanted.norm();
    errors.gradients = std::max(errors.gradients, error.item<double>());
  }
  return errors;
}

void check_exact(const Case& shape) {
  CAPTURE(static_cast<int>(shape.family));
  CAPTURE(static_cast<int>(shape.form));
  CAPTURE(shape.rank);
  CAPTURE(static_cast<int>(shape.base));
  CAPTURE(shape.published);
  CAPTURE(shape.targets.front());
  CAPTURE(shape.device.str());
  CAPTURE(shape.checkpointing);
  CAPTURE(shape.packed);
  const Errors errors = errors_of(shape);
  CHECK(errors.loss < 1e-6);
  CHECK(errors.gradients < kTolerance);
}

TEST_CASE("fast paths: a decoder's gradients are those of plain operations") {
  for (const ProductForm form : {ProductForm::SidePath, ProductForm::EffectiveWeight}) {
    for (const Quantization base : kBases) {
      for (const bool packed : {false, true}) {
        check_exact({.form = form, .base = base, .packed = packed});
      }
    }
    check_exact({.form = form, .base = Quantization::Nf4, .published = true});
    check_exact({.form = form, .targets = {"q_proj", "v_proj"}, .packed = true});
  }
}

TEST_CASE("fast paths: checkpointing and higher ranks") {
  for (const ProductForm form : {ProductForm::SidePath, ProductForm::EffectiveWeight}) {
    check_exact({.form = form, .rank = 40, .checkpointing = true, .packed = true});
    check_exact({.form = form, .rank = 40, .base = Quantization::Nf4, .checkpointing = true});
  }
}

TEST_CASE("fast paths: encoders' gradients are those of plain operations") {
  for (const Family family : {Family::Bert, Family::Roberta}) {
    for (const ProductForm form : {ProductForm::SidePath, ProductForm::EffectiveWeight}) {
      check_exact({.family = family, .form = form});
      check_exact({.family = family, .form = form, .targets = {"query", "value"}});
      check_exact({.family = family,
                   .form = form,
                   .base = Quantization::Nf4,
                   .published = true,
                   .checkpointing = true});
    }
  }
}

TEST_CASE("fast paths: on another device, and on a GPU where there is one") {
  const at::Device gpu = models::parse_device("auto");
  for (const Family family : {Family::Llama, Family::Bert}) {
    for (const Quantization base : kBases) {
      check_exact({.family = family, .base = base, .device = test::pretend_device()});
      if (gpu.is_cuda()) check_exact({.family = family, .base = base, .device = gpu});
    }
  }
}

TEST_CASE("bfloat16: gradients within its rounding of the exact ones") {
  for (const at::Device device : {at::Device(at::kCPU), test::pretend_device()}) {
    for (const Family family : {Family::Llama, Family::Bert}) {
      for (const Quantization base : kBases) {
        const Errors errors =
            errors_of({.family = family, .base = base, .bfloat16 = true, .device = device});
        CAPTURE(static_cast<int>(base));
        MESSAGE("of the gradients' norm: " << errors.gradients);
        CHECK(errors.loss < 5e-3);
        CHECK(errors.gradients < 5e-2);
        CHECK(errors.gradients > 1e-4);  // it does round
      }
    }
  }
}

TEST_CASE("bfloat16: leaves and their gradients stay float32, and float32 comes back bit by bit") {
  const Case shape{.packed = true};
  const models::Batch batch = make_batch(make_samples(), shape);
  Subject subject(shape);
  const at::Tensor before = subject.model->batch_loss(batch);
  subject.model->set_bfloat16(true);
  const at::Tensor rounded = subject.model->batch_loss(batch);
  rounded.backward();
  for (const Parameter& parameter : subject.adapter->parameters()) {
    CHECK((parameter.tensor.grad().scalar_type() == at::kFloat));
  }
  CHECK((rounded.scalar_type() == at::kFloat));
  CHECK_FALSE(at::equal(before, rounded));
  subject.model->set_bfloat16(false);
  CHECK(at::equal(before, subject.model->batch_loss(batch)));
}

}  // namespace
}  // namespace drystone::adapters
