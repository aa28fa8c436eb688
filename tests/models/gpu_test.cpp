// A decoder on a GPU computes what it computes on the CPU. Skipped where there is none.

#include <map>
#include <string>

#include <ATen/Functions.h>
#include <ATen/TensorOperators.h>
#include <doctest/doctest.h>

#include "models/device.h"
#include "models/load.h"
#include "tests/models/tiny_decoder.h"
#include "tests/temporary_folder.h"

namespace drystone::models {
namespace {

Batch two_rows() {
  Batch batch{.input_ids = at::arange(20, at::kLong).reshape({2, 10}).add_(3),
              .pad_mask = at::ones({2, 10}, at::kBool)};
  batch.pad_mask[1].narrow(0, 6, 4).fill_(false);
  batch.labels = batch.input_ids.masked_fill(batch.pad_mask.logical_not(), -100);
  return batch;
}

/// Loss, logits and, of float32 products, the gradients of all weights, on the CPU.
std::map<std::string, at::Tensor> results(ModelSpec spec, at::Device device, bool bfloat16,
                                          bool checkpointing) {
  spec.device = device;
  const auto model = load_model(spec);
  model->set_bfloat16(bfloat16);
  model->set_checkpointing(checkpointing);
  std::map<std::string, at::Tensor> found;
  std::map<std::string, at::Tensor> weights;
  for (Linear* const linear : model->linears()) {
    if (!linear->weight.defined() || bfloat16) continue;
    weights[linear->name] = linear->weight.detach().clone().set_requires_grad(true);
    linear->weight = weights[linear->name];
  }
  const at::Tensor loss = model->batch_loss(two_rows());
  if (loss.requires_grad()) loss.backward();
  found["loss"] = loss.detach().to(at::kCPU);
  found["logits"] = model->logits(two_rows()).detach().to(at::kCPU);
  for (const auto& [name, weight] : weights) {
    if (weight.grad().defined()) found[name] = weight.grad().to(at::kCPU);
  }
  return found;
}

TEST_CASE("a GPU computes losses, logits and gradients of the CPU") {
  if (!parse_device("auto").is_cuda()) {
    MESSAGE("no GPU: nothing to compare");
    return;
  }
  for (const std::string type : {"llama", "mistral", "qwen2", "qwen3"}) {
    const test::TemporaryFolder folder;
    test::write_tiny_decoder(folder.path(), type);
    for (const Quantization quantization :
         {Quantization::None, Quantization::Nf4, Quantization::Int8}) {
      const ModelSpec spec{
          .folder = folder.path(), .task = Task::CausalLm, .quantization = quantization};
      for (const bool bfloat16 : {false, true}) {
        for (const bool checkpointing : {false, true}) {
          CAPTURE(type);
          CAPTURE(bfloat16);
          CAPTURE(checkpointing);
          const double tolerance = bfloat16 ? 3e-2 : 1e-4;
          const auto expected = results(spec, at::kCPU, bfloat16, checkpointing);
          for (const auto& [name, tensor] : results(spec, at::kCUDA, bfloat16, checkpointing)) {
            CAPTURE(name);
            const at::Tensor& truth = expected.at(name);
            const double error = (tensor - truth).norm().item<double>();
            CHECK(error <= tolerance * (1.0 + truth.norm().item<double>()));
          }
        }
      }
    }
  }
}

}  // namespace
}  // namespace drystone::models
