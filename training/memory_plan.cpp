#include "training/memory_plan.h"

#include <algorithm>
#include <functional>
#include <string>

#include "core/error.h"
#include "core/text.h"
#include "models/product_form.h"

namespace drystone::training {

namespace {

constexpr std::int64_t kFloat = sizeof(float);
/// LibTorch, the program, its tokenizer, compiled kernels (docs/memory.md).
constexpr std::int64_t kProgramBytes = 190'000'000;
/// Of a device's memory: its context and kernels.
constexpr std::int64_t kDeviceBytes = 600'000'000;
/// Value, gradient and two moments; a method's copies; the temporaries of a step.
constexpr std::int64_t kParameterCopies = 6;
/// What the heap leaves between the pieces, in per cent of a pass.
constexpr std::int64_t kHeapPercent = 45;
/// Products are at full speed from about so many rows.
constexpr std::int64_t kGoodTokens = 128;
/// The same where weights have to be decoded for every pass.
constexpr std::int64_t kGoodQuantizedTokens = 512;

std::int64_t num_bytes(const tensors::Factors& factors) {
  if (!factors.b.defined()) return 0;
  return (factors.b.numel() + factors.a.numel()) * kFloat;
}

/// The largest of 0 … most for which `fits` holds; it holds below wherever it holds.
std::int64_t largest(std::int64_t most, const std::function<bool(std::int64_t)>& fits) {
  std::int64_t good = 0;
  for (std::int64_t bad = most + 1; bad - good > 1;) {
    const std::int64_t middle = good + (bad - good) / 2;
    (fits(middle) ? good : bad) = middle;
  }
  return good;
}

std::string megabytes(std::int64_t bytes) {
  return core::format_bytes(static_cast<std::uint64_t>(std::max<std::int64_t>(bytes, 0)));
}

[[noreturn]] void refuse(const core::TrainingConfig& training, const PassLimits& limits,
                         const MemoryFixed& fixed, std::int64_t pass) {
  throw core::ConfigError(
      "training.memory_limit: " + megabytes(training.memory_limit) +
      " are not enough: one row of " + std::to_string(limits.row_tokens) + " tokens needs " +
      megabytes(fixed.total() + pass) + " with checkpointing (base model " +
      megabytes(fixed.base + fixed.rounded) + ", published versions " + megabytes(fixed.versions) +
      ", adapter " + megabytes(fixed.adapter) + ", one pass " + megabytes(pass) +
      "); use model.quantization = \"nf4\", a lower model.max_length or training.rank, or a higher "
      "limit");
}

}  // namespace

std::int64_t MemoryFixed::total() const {
  return kProgramBytes + base + rounded + versions + adapter + data;
}

MemoryFixed fixed_memory(models::Model& model, const Examples& examples, std::int64_t base_bytes,
                         std::int64_t parameter_bytes) {
  MemoryFixed fixed{.base = base_bytes, .adapter = kParameterCopies * parameter_bytes};
  for (const models::Linear* linear : model.linears()) {
    const std::int64_t size = linear->out_features() * linear->in_features();
    if (base_bytes == 0) {
      fixed.base += linear->quantized ? linear->quantized->num_bytes()
                                      : static_cast<std::int64_t>(linear->weight.nbytes());
    }
    if (linear->rounded.defined()) fixed.rounded += size * 2;
    if (linear->quantized) {
      fixed.versions += 2 * num_bytes(linear->side);
    } else if (linear->adapter != nullptr) {
      fixed.versions += size * kFloat;  // the sum with what was published, from round 2 on
      fixed.next_version += size * kFloat;
    }
  }
  constexpr std::int64_t kTokenBytes = 8;  // id and label
  fixed.data = static_cast<std::int64_t>(examples.dataset.num_tokens()) * kTokenBytes;
  const bool is_device = !model.linears().front()->device().is_cpu();
  if (is_device) fixed.data = kDeviceBytes - kProgramBytes;
  return fixed;
}

PassLimits pass_limits(const Examples& examples, std::int64_t batch_size) {
  std::size_t longest = 1;
  for (std::size_t i = 0; i < examples.dataset.size(); ++i) {
    longest = std::max(longest, examples.dataset.length(i));
  }
  const auto num_rows = static_cast<std::int64_t>(examples.dataset.size());
  const auto sample = static_cast<std::int64_t>(longest);
  return {.rows = std::clamp<std::int64_t>(num_rows, 1, batch_size),
          .row_tokens = std::max(sample, examples.pack_to),
          .longest = sample};
}

std::int64_t pass_memory(models::Model& model, const core::TrainingConfig& training,
                         const PassLimits& limits, std::int64_t rows, bool checkpointing,
                         bool keeps_logits) {
  const std::int64_t tokens = rows * limits.row_tokens;
  std::int64_t adapted = 0;
  std::int64_t widest = 0;
  std::int64_t effective = 0;  // W + B·A for the time of a product, of the largest
  for (const models::Linear* linear : model.linears()) {
    if (linear->adapter == nullptr) continue;
    ++adapted;
    widest = std::max(widest, linear->in_features());
    if (!linear->quantized && models::prefers_effective_weight({.tokens = tokens,
                                                                .in = linear->in_features(),
                                                                .out = linear->out_features(),
                                                                .rank = training.rank})) {
      effective = std::max(effective, linear->in_features() * linear->out_features() * kFloat);
    }
  }
  std::int64_t bytes =
      model.activation_bytes({.tokens = tokens,
                              .longest = limits.longest,
                              .rows = (tokens + limits.longest - 1) / limits.longest,
                              .checkpointing = checkpointing,
                              .keeps_logits = keeps_logits});
  const std::int64_t thin = tokens * training.rank * kFloat;
  bytes += checkpointing ? 3 * thin : (adapted + 2) * thin;
  bytes += training.dropout > 0.0 ? 2 * tokens * widest * kFloat : effective;
  return bytes / 100 * (100 + kHeapPercent);
}

MemoryPlan plan_memory(models::Model& model, const core::TrainingConfig& training,
                       const PassLimits& limits, const MemoryFixed& fixed, bool keeps_logits) {
  const std::int64_t room = training.memory_limit - fixed.total();
  const auto need = [&](std::int64_t rows, bool checkpointing) {
    return std::max(fixed.next_version,
                    pass_memory(model, training, limits, rows, checkpointing, keeps_logits));
  };
  const auto most_rows = [&](bool checkpointing) {
    return largest(limits.rows,
                   [&](std::int64_t rows) { return need(rows, checkpointing) <= room; });
  };
  const bool decodes = model.linears().front()->quantized.defined();
  const std::int64_t good_tokens = decodes ? kGoodQuantizedTokens : kGoodTokens;
  const std::int64_t good_rows =
      std::min(limits.rows, (good_tokens + limits.row_tokens - 1) / limits.row_tokens);

  MemoryPlan plan{.rows = training.checkpointing ? 0 : most_rows(false)};
  if (plan.rows < good_rows) {
    const std::int64_t rows = most_rows(true);
    if (rows == 0) refuse(training, limits, fixed, need(1, true));
    if (rows > plan.rows) plan = {.rows = rows, .checkpointing = true};
  }
  plan.max_tokens = plan.rows * limits.row_tokens;
  plan.pass_bytes = need(plan.rows, plan.checkpointing);
  plan.total_bytes = fixed.total() + plan.pass_bytes;
  return plan;
}

std::int64_t evaluation_rows(models::Model& model, std::int64_t memory_limit,
                             const PassLimits& limits, const MemoryFixed& fixed) {
  if (memory_limit == 0) return limits.rows;
  const core::TrainingConfig none;
  const std::int64_t room = memory_limit - fixed.total();
  const std::int64_t rows = largest(limits.rows, [&](std::int64_t count) {
    return pass_memory(model, none, limits, count, false, false) <= room;
  });
  return std::max<std::int64_t>(rows, 1);
}

}  // namespace drystone::training
