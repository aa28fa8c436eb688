// Models on another device compute what they compute on the CPU: on a GPU where there is one, and
// everywhere on the pretended device, which also tells when a pass would wait for it.

#include <csignal>
#include <deque>
#include <functional>
#include <map>
#include <string>

#include <ATen/TensorOperators.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/ones.h>
#include <ATen/ops/zeros.h>
#include <doctest/doctest.h>
#include <sys/wait.h>
#include <unistd.h>

#include "core/text.h"
#include "models/device.h"
#include "models/load.h"
#include "tests/models/decoder_oracle.h"
#include "tests/models/encoder_oracle.h"
#include "tests/pretend_device.h"

namespace drystone::models {
namespace {

Batch two_rows(Task task) {
  Batch batch{.input_ids = at::arange(20, at::kLong).remainder_(16).add_(3).reshape({2, 10}),
              .pad_mask = at::ones({2, 10}, at::kBool)};
  batch.pad_mask[1].narrow(0, 6, 4).fill_(false);
  batch.labels = task == Task::CausalLm
                     ? batch.input_ids.masked_fill(batch.pad_mask.logical_not(), -100)
                     : at::arange(2, at::kLong);
  return batch;
}

/// Adds a trained number.
struct Shift final : LinearAdapter {
  explicit Shift(at::Device device) : leaf(at::zeros({1}, device).set_requires_grad(true)) {}
  at::Tensor forward(const Linear& base, const LayerInput& x) override {
    return base.plain(x.value) + leaf;
  }
  at::Tensor leaf;
};

/// Loss, logits and the gradients of all dense float32 weights and of a number added behind each
/// linear layer, on the CPU.
std::map<std::string, at::Tensor> results(ModelSpec spec, at::Device device, bool bfloat16,
                                          bool checkpointing) {
  spec.device = device;
  const auto model = load_model(spec);
  model->set_bfloat16(bfloat16);
  model->set_checkpointing(checkpointing);
  std::map<std::string, at::Tensor> found;
  std::map<std::string, at::Tensor> weights;
  std::deque<Shift> shifts;
  for (Linear* const linear : model->linears()) {
    linear->adapter = &shifts.emplace_back(device);
    weights[linear->name + " shift"] = shifts.back().leaf;
    if (!linear->weight.defined() || bfloat16) continue;
    weights[linear->name] = linear->weight.detach().clone().set_requires_grad(true);
    linear->weight = weights[linear->name];
  }
  const at::Tensor loss = model->batch_loss(two_rows(spec.task));
  loss.backward();
  found["loss"] = loss.detach().to(at::kCPU);
  found["logits"] = model->logits(two_rows(spec.task)).detach().to(at::kCPU);
  for (const auto& [name, weight] : weights) {
    if (weight.grad().defined()) found[name] = weight.grad().to(at::kCPU);
  }
  return found;
}

struct Way {
  Quantization quantization = Quantization::None;
  bool bfloat16 = false;
  bool checkpointing = false;
};

std::vector<Way> all_ways() {
  std::vector<Way> ways;
  for (const auto quantization : {Quantization::None, Quantization::Nf4, Quantization::Int8}) {
    for (const bool bfloat16 : {false, true}) {
      for (const bool checkpointing : {false, true}) {
        ways.push_back({quantization, bfloat16, checkpointing});
      }
    }
  }
  return ways;
}

void compare(ModelSpec spec, at::Device device) {
  for (const Way& way : all_ways()) {
    spec.quantization = way.quantization;
    CAPTURE(static_cast<int>(way.quantization));
    CAPTURE(way.bfloat16);
    CAPTURE(way.checkpointing);
    const auto expected = results(spec, at::kCPU, way.bfloat16, way.checkpointing);
    const auto actual = results(spec, device, way.bfloat16, way.checkpointing);
    REQUIRE(actual.size() == expected.size());
    for (const auto& [name, tensor] : actual) {
      CAPTURE(name);
      const at::Tensor& truth = expected.at(name);
      const double error = (tensor - truth).norm().item<double>();
      const double rounding = name.ends_with("shift") ? 0.12 : 0.03;  // sums that cancel
      const double tolerance = way.bfloat16 ? rounding : 1e-4;
      CHECK(error <= tolerance * (0.5 + truth.norm().item<double>()));
    }
  }
}

void for_each_model(const std::function<void(const ModelSpec&)>& body) {
  for (const std::string family :
       {"gemma", "gemma2", "gemma3_text", "gpt2", "llama", "mistral", "phi3", "qwen2", "qwen3"}) {
    CAPTURE(family);
    body({.folder = test::kDecoderFixtures / family, .task = Task::CausalLm});
  }
  for (const std::string family : {"bert_tiny", "roberta", "deberta_v3", "deberta_own"}) {
    CAPTURE(family);
    body({.folder = test::kModelFixtures / family, .num_labels = 3});
  }
}

TEST_CASE("a GPU computes losses, logits and gradients of the CPU") {
  if (!parse_device("auto").is_cuda()) {
    MESSAGE("no GPU: nothing to compare");
    return;
  }
  for_each_model([](const ModelSpec& spec) { compare(spec, at::kCUDA); });
}

TEST_CASE("another device computes losses, logits and gradients of the CPU") {
  for_each_model([](const ModelSpec& spec) { compare(spec, test::pretend_device()); });
}

TEST_CASE("the pretended device closes its memory, refuses the CPU's tensors and notes waits") {
  const at::Tensor x = at::ones({3}, test::pretend_device());
  const pid_t child = fork();  // although LibTorch has threads: the child only reads and exits
  if (child == 0) {
    std::signal(SIGSEGV, SIG_DFL);
    _exit(static_cast<int>(*static_cast<const volatile float*>(x.const_data_ptr())));
  }
  int status = 0;
  REQUIRE(waitpid(child, &status, 0) == child);
  CHECK((WIFSIGNALED(status) && WTERMSIG(status) == SIGSEGV));
  CHECK_THROWS_AS(x + at::ones({3}), c10::Error);
  test::take_waits();
  CHECK((x * 2.0).sum().item<float>() == 6.0F);
  CHECK(x.to(at::kCPU).sum().item<float>() == 3.0F);
  x.copy_(at::ones({3}));
  x.copy_(at::ones({3}), /*non_blocking=*/true);
  x.masked_select(x > 0.0);
  x.index({x > 0.0});
  CHECK(core::join(test::take_waits()) ==
        "item, copy to the CPU, copy from the CPU, aten::masked_select, aten::nonzero");
}

TEST_CASE("no pass waits for the device") {
  for_each_model([](ModelSpec spec) {
    spec.device = test::pretend_device();
    for (const Way& way : all_ways()) {
      spec.quantization = way.quantization;
      CAPTURE(static_cast<int>(way.quantization));
      CAPTURE(way.bfloat16);
      CAPTURE(way.checkpointing);
      const auto model = load_model(spec);
      model->set_bfloat16(way.bfloat16);
      model->set_checkpointing(way.checkpointing);
      model->set_training(true, 5);
      for (const auto& [name, tensor] : model->dense()) tensor->set_requires_grad(true);
      Shift shift(spec.device);
      for (Linear* const linear : model->linears()) linear->adapter = &shift;
      test::take_waits();
      model->batch_loss(two_rows(spec.task)).backward();
      CHECK(core::join(test::take_waits()) == "");
    }
  });
}

}  // namespace
}  // namespace drystone::models
