// Optimiser steps of local training on a Hugging Face folder, without files or network around it:
// what bench/engine_step.py runs in turn with transformers and PEFT. Prints one JSON line.

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <ctime>
#include <fstream>
#include <sstream>
#include <string>
#include <vector>

#include <ATen/ops/full.h>
#include <ATen/ops/zeros.h>

#include "adapters/registry.h"
#include "core/error.h"
#include "core/metrics.h"
#include "core/seed.h"
#include "models/device.h"
#include "models/gemm.h"
#include "models/load.h"
#include "tensors/process.h"
#include "tensors/threads.h"

namespace {

using namespace drystone;

double cpu_ms() {
  timespec now{};
  clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
  return 1e3 * static_cast<double>(now.tv_sec) + 1e-6 * static_cast<double>(now.tv_nsec);
}

double wall_ms() {
  const auto now = std::chrono::steady_clock::now().time_since_epoch();
  return std::chrono::duration<double, std::milli>(now).count();
}

/// A line of /proc/self/status in MB: "VmRSS:", "RssFile:" …
double status_mb(const std::string& key) {
  std::ifstream status("/proc/self/status");
  for (std::string line; std::getline(status, line);) {
    if (line.starts_with(key)) return std::stod(line.substr(key.size())) * 1024.0 / 1e6;
  }
  return 0.0;
}

/// The fastest of a few large products by the library that linear layers use, in GFLOP/s of
/// processor time (of a GPU, of time): what a step could reach at most.
double peak_gflops(at::ScalarType dtype, at::Device device) {
  const at::TensorOptions options = at::TensorOptions(device).dtype(dtype);
  const std::int64_t rows = device.is_cpu() ? 1024 : 8192;
  double best = 0.0;
  for (const std::int64_t size : {rows / 4 * 3, rows, rows * 2}) {
    const at::Tensor x = at::full({rows, size}, 0.5, options);
    const at::Tensor weight = at::full({size, size}, 0.25, options);
    const double flops = 2.0 * static_cast<double>(rows * size * size);
    for (int i = 0; i < 12; ++i) {
      const double begin = device.is_cpu() ? cpu_ms() : wall_ms();
      const at::Tensor y = models::linear_forward(x, weight, {});
      if (!device.is_cpu()) y.narrow(0, 0, 1).narrow(1, 0, 1).item();  // waits
      const double end = device.is_cpu() ? cpu_ms() : wall_ms();
      best = std::max(best, flops / (end - begin) / 1e6);
    }
  }
  return best;
}

double median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return values[values.size() / 2];
}

std::vector<std::string> split(const std::string& text) {
  std::vector<std::string> parts;
  std::istringstream stream(text);
  for (std::string part; std::getline(stream, part, ',');) parts.push_back(part);
  return parts;
}

models::ProductForm parse_form(const std::string& text) {
  if (text == "side") return models::ProductForm::SidePath;
  return text == "effective" ? models::ProductForm::EffectiveWeight
                             : models::ProductForm::Automatic;
}

/// Random tokens in rows of the given lengths, padded on the right.
models::Batch make_batch(const std::vector<std::int64_t>& lengths, std::int64_t vocab,
                         models::Task task) {
  const auto rows = static_cast<std::int64_t>(lengths.size());
  const std::int64_t width = *std::max_element(lengths.begin(), lengths.end());
  core::SplitMix64 random(1);
  models::Batch batch{.input_ids = at::zeros({rows, width}, at::kLong),
                      .pad_mask = at::zeros({rows, width}, at::kBool),
                      .labels = {},
                      .segments = {}};
  auto* const ids = batch.input_ids.mutable_data_ptr<std::int64_t>();
  auto* const mask = batch.pad_mask.mutable_data_ptr<bool>();
  for (std::int64_t row = 0; row < rows; ++row) {
    for (std::int64_t t = 0; t < lengths[static_cast<std::size_t>(row)]; ++t) {
      ids[row * width + t] =
          3 + static_cast<std::int64_t>(random.below(static_cast<std::uint64_t>(vocab - 3)));
      mask[row * width + t] = true;
    }
  }
  batch.labels = task == models::Task::CausalLm ? batch.input_ids : at::zeros({rows}, at::kLong);
  return batch;
}

struct Times {
  std::vector<double> cpu, wall;  ///< of each step, ms
  double loss = 0.0;              ///< of the last
};

/// @param steps  timed, after two that are not
Times time_steps(models::Model& model, adapters::Adapter& adapter, const models::Batch& batch,
                 std::int64_t steps) {
  const auto optimizer = adapter.make_optimizer(adapter.parameters(), {});
  Times times;
  for (std::int64_t index = 0; index < steps + 2; ++index) {
    const double cpu_begin = cpu_ms();
    const double wall_begin = wall_ms();
    model.set_training(true, static_cast<std::uint64_t>(index));
    adapter.before_step({.index = index, .total = steps + 2});
    optimizer->zero_grad();
    const at::Tensor batch_loss = model.batch_loss(batch);
    batch_loss.backward();
    optimizer->step(1e-4);
    adapter.after_step({.index = index, .total = steps + 2});
    times.loss = batch_loss.item<double>();
    if (index < 2) continue;
    times.cpu.push_back(cpu_ms() - cpu_begin);
    times.wall.push_back(wall_ms() - wall_begin);
  }
  return times;
}

int run(const std::vector<std::string>& arguments) {
  tensors::use_threads(1);
  const auto optional = [&](std::size_t index, const char* fallback) {
    return arguments.size() > index ? arguments[index] : fallback;
  };
  if (!arguments.empty() && arguments[0] == "--peak") {
    std::printf("{\"gflops\": %.2f}\n", peak_gflops(models::parse_dtype(optional(1, "float32")),
                                                    models::parse_device(optional(2, "cpu"))));
    return 0;
  }
  if (arguments.size() < 9 || arguments.size() > 12) {
    std::fputs(
        "usage: step_timer MODEL TASK LENGTH,… VOCAB RANK MODULE,… STEPS none|nf4|int8 "
        "keep|recompute [auto|side|effective [float32|bfloat16|bfloat16-model [cpu|cuda]]]\n"
        "       step_timer --peak [float32|bfloat16 [cpu|cuda]]\n",
        stderr);
    return 2;
  }
  models::ModelSpec spec{.folder = arguments[0], .task = models::parse_task(arguments[1])};
  spec.quantization = models::parse_quantization(arguments[7]);
  const std::string precision = optional(10, "float32");
  if (precision == "bfloat16-model") spec.dtype = at::kBFloat16;
  spec.device = models::parse_device(optional(11, "cpu"));
  std::vector<std::int64_t> lengths;
  for (const std::string& length : split(arguments[2])) lengths.push_back(std::stoll(length));
  const models::Base base = models::load_base(spec);
  const double load_peak_mb = static_cast<double>(core::peak_rss_bytes()) / 1e6;
  const auto model = models::build(spec, base);
  const auto adapter = adapters::make_adapter(*model,
                                              {.rank = std::stoll(arguments[4]),
                                               .alpha = 16.0,
                                               .target_modules = split(arguments[5]),
                                               .form = parse_form(optional(9, "auto"))},
                                              {.seed = 1, .client = "bench"});
  model->set_checkpointing(arguments[8] == "recompute");
  model->set_bfloat16(precision == "bfloat16");
  const models::Batch batch = make_batch(lengths, std::stoll(arguments[3]), spec.task);
  const double before_mb = status_mb("VmRSS:");
  const Times times = time_steps(*model, *adapter, batch, std::stoll(arguments[6]));
  std::printf(
      "{\"cpu_ms\": %.2f, \"wall_ms\": %.2f, \"loss\": %.6f, \"load_peak_mb\": %.1f, "
      "\"before_mb\": %.1f, \"peak_mb\": %.1f, \"file_mb\": %.1f}\n",
      median(times.cpu), median(times.wall), times.loss, load_peak_mb, before_mb,
      static_cast<double>(models::peak_memory(spec.device)) / 1e6,
      spec.device.is_cpu() ? status_mb("RssFile:") : 0.0);
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  tensors::tune_process();
  try {
    return run({argv + 1, argv + argc});
  } catch (const core::Error& error) {
    std::fprintf(stderr, "step_timer: %s\n", error.what());
    return 1;
  }
}
