#pragma once
// A tiny encoder for tests: embedding, mean over tokens, two linears with slots, a head.

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include <ATen/TensorOperators.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/cross_entropy_loss.h>
#include <ATen/ops/embedding.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/mse_loss.h>
#include <ATen/ops/ones.h>
#include <ATen/ops/relu.h>
#include <ATen/ops/zeros.h>

#include "core/seed.h"
#include "models/device.h"
#include "models/model.h"
#include "models/quantized/nf4.h"

namespace drystone::test {

/// Standard normal values, times `scale`; double precision numbers rounded to fp32.
inline at::Tensor keyed_normal(std::uint64_t seed, at::IntArrayRef shape, double scale = 1.0) {
  core::SplitMix64 random(seed);
  at::Tensor values = at::empty(shape, at::kFloat);
  float* data = values.mutable_data_ptr<float>();
  for (std::int64_t i = 0; i < values.numel(); ++i) {
    data[i] = static_cast<float>(scale * random.normal());
  }
  return values;
}

/// logits = W_h · relu(L2(relu(L1(mean embedding)))) + b_h, with dropout on the mean while
/// training.
class ToyModel final : public models::Model {
 public:
  static constexpr std::int64_t kVocabulary = 20;
  static constexpr std::int64_t kWidth = 12;
  double own_dropout = 0.1;

  explicit ToyModel(std::uint64_t seed = 1, std::int64_t classes = 3,
                    models::Task task = models::Task::Classification)
      : task_(task), embedding_(keyed_normal(seed, {kVocabulary, kWidth})) {
    first_.name = "encoder.layer.0.attention.query";
    first_.weight = keyed_normal(seed + 1, {16, kWidth}, 0.4);
    first_.bias = keyed_normal(seed + 2, {16}, 0.1);
    second_.name = "encoder.layer.1.output.dense";
    second_.weight = keyed_normal(seed + 3, {10, 16}, 0.4);
    head_.name = "classifier";
    head_.weight = keyed_normal(seed + 4, {classes, 10}, 0.2);
    head_.bias = at::zeros({classes});
  }

  at::Tensor logits(const models::Batch& batch) override {
    at::Tensor x = at::embedding(embedding_, models::send(batch.input_ids, embedding_.device()));
    const at::Tensor mask =
        models::send(batch.pad_mask, embedding_.device()).to(at::kFloat).unsqueeze(-1);
    x = (x * mask).sum(1) / mask.sum(1);
    if (training_ && own_dropout > 0.0) x = x * dropout_mask(x);
    x = at::relu(first_.forward(first_.quantized ? x : x.to(first_.weight.scalar_type())));
    x = at::relu(second_.forward(x));
    return head_.forward(x.to(at::kFloat));
  }
  at::Tensor loss(const at::Tensor& logits, const models::Batch& batch) const override {
    const at::Tensor labels = models::send(batch.labels, logits.device());
    if (task_ == models::Task::Regression) return at::mse_loss(logits.squeeze(-1), labels);
    return at::cross_entropy_loss(logits, labels);
  }
  std::vector<models::Linear*> linears() override { return {&first_, &second_}; }
  std::map<std::string, at::Tensor*> dense() override {
    return {{"classifier.weight", &head_.weight}, {"classifier.bias", &head_.bias}};
  }
  std::vector<models::Linear*> heads() override { return {&head_}; }
  bool has_dropout() const override { return own_dropout > 0.0; }
  /// Of the two linears.
  void set_dtype(at::ScalarType dtype) {
    first_.weight = first_.weight.to(dtype);
    first_.bias = first_.bias.to(dtype);
    second_.weight = second_.weight.to(dtype);
  }
  void move(at::Device device) {
    for (at::Tensor* const tensor :
         {&embedding_, &first_.weight, &first_.bias, &second_.weight, &head_.weight, &head_.bias}) {
      *tensor = tensor->to(device);
    }
  }
  /// Both linears in 4 bits.
  void quantize() {
    for (models::Linear* linear : linears()) {
      const at::Device device = linear->weight.device();
      linear->quantized =
          c10::make_intrusive<models::Nf4Weight>(linear->weight.to(at::kCPU))->to(device);
      linear->weight = at::Tensor();
    }
  }
  void set_training(bool on, std::uint64_t seed) override {
    training_ = on;
    masks_ = core::SplitMix64(seed);
  }

 private:
  at::Tensor dropout_mask(const at::Tensor& like) {
    at::Tensor mask = at::empty(like.sizes(), at::kFloat);
    float* values = mask.mutable_data_ptr<float>();
    for (std::int64_t i = 0; i < mask.numel(); ++i) {
      const bool drops = masks_.uniform() < own_dropout;
      values[i] = drops ? 0.0F : static_cast<float>(1.0 / (1.0 - own_dropout));
    }
    return mask.to(like.device());
  }

  models::Task task_;
  at::Tensor embedding_;
  models::Linear first_;
  models::Linear second_;
  models::Linear head_;
  bool training_ = false;
  core::SplitMix64 masks_{0};
};

/// A learnable batch: the label is the first token modulo the number of classes.
inline models::Batch toy_batch(std::uint64_t seed, std::int64_t rows = 8, std::int64_t tokens = 5,
                               std::int64_t classes = 3) {
  core::SplitMix64 random(seed);
  models::Batch batch;
  batch.input_ids = at::zeros({rows, tokens}, at::kLong);
  batch.pad_mask = at::ones({rows, tokens}, at::kBool);
  batch.labels = at::zeros({rows}, at::kLong);
  for (std::int64_t row = 0; row < rows; ++row) {
    const auto token = static_cast<std::int64_t>(random.below(ToyModel::kVocabulary));
    batch.input_ids[row].fill_(token);
    batch.labels[row] = token % classes;
  }
  return batch;
}

inline models::Batch moved(models::Batch batch, at::Device device) {
  batch.input_ids = models::send(batch.input_ids, device);
  batch.pad_mask = models::send(batch.pad_mask, device);
  batch.labels = models::send(batch.labels, device);
  return batch;
}

}  // namespace drystone::test
