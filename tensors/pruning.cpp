#include "tensors/pruning.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <utility>

#include <ATen/TensorOperators.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/isfinite.h>
#include <ATen/ops/ones.h>
#include <nlohmann/json.hpp>

#include "core/check.h"
#include "core/error.h"
#include "core/files.h"
#include "core/json.h"

namespace drystone::tensors {

namespace {

constexpr std::int64_t kPlanSize = 5;
constexpr double kDigits = 1e6;  // of a share in float32
constexpr core::JsonLimits kMaskLimits{.max_bytes = 1 << 28, .max_values = std::size_t{1} << 25};

double share_of(float published) {
  return std::round(static_cast<double>(published) * kDigits) / kDigits;
}

/// Prunes the least of `scores` among those that are kept, until `count` are gone.
at::Tensor prune(const at::Tensor& kept, const at::Tensor& scores, std::int64_t count) {
  const at::Tensor values = scores.to(at::kCPU, at::kFloat).contiguous();
  const float* const score = values.const_data_ptr<float>();
  at::Tensor next = kept.clone();
  bool* const keeps = next.mutable_data_ptr<bool>();
  std::vector<std::int64_t> order(static_cast<std::size_t>(kept.numel()));
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(), [&](std::int64_t one, std::int64_t other) {
    if (keeps[one] != keeps[other]) return !keeps[one];  // those that are gone come first
    return keeps[one] && score[one] < score[other];
  });
  for (std::int64_t i = 0; i < count; ++i) keeps[order[static_cast<std::size_t>(i)]] = false;
  return next;
}

}  // namespace

double PruningPlan::sparsity(std::int64_t round) const {
  const auto total = static_cast<double>(rounds);
  const auto now = static_cast<double>(round);
  const double start = warmup * total;
  const double end = (1.0 - cooldown) * total;
  if (now <= start) return initial;
  if (now > end || end <= start) return ratio;
  const double left = 1.0 - (now - start) / (end - start);
  return ratio + (initial - ratio) * left * left * left;
}

at::Tensor to_tensor(const PruningPlan& plan) {
  at::Tensor tensor = at::empty({kPlanSize}, at::kFloat);
  float* const values = tensor.mutable_data_ptr<float>();
  values[0] = static_cast<float>(plan.rounds);
  values[1] = static_cast<float>(plan.ratio);
  values[2] = static_cast<float>(plan.initial);
  values[3] = static_cast<float>(plan.warmup);
  values[4] = static_cast<float>(plan.cooldown);
  return tensor;
}

PruningPlan read_plan(const at::Tensor& published) {
  const bool fits = published.dim() == 1 && published.numel() == kPlanSize &&
                    published.scalar_type() == at::kFloat;
  core::require(fits && at::isfinite(published).all().item<bool>(),
                "pruning: the published plan is not one");
  const at::Tensor own = published.contiguous();
  const float* const values = own.const_data_ptr<float>();
  return {.rounds = static_cast<std::int64_t>(values[0]),
          .ratio = share_of(values[1]),
          .initial = share_of(values[2]),
          .warmup = share_of(values[3]),
          .cooldown = share_of(values[4])};
}

std::int64_t num_pruned(std::int64_t groups, double sparsity) {
  constexpr double kSlack = 1e-9;  // 0.35 · 10 is a little less than 3.5
  const double exact = static_cast<double>(groups) * sparsity;
  const auto rounded = static_cast<std::int64_t>(std::floor(exact + 0.5 + kSlack));
  return std::clamp<std::int64_t>(rounded, 0, groups - 1);
}

KeptGroups next_mask(const KeptGroups& before, std::uint64_t version,
                     const std::map<std::string, at::Tensor>& statistics) {
  const auto plan = statistics.find(std::string(kPruningPlan));
  if (plan == statistics.end()) return before;
  const at::NoGradGuard no_grad;
  const double sparsity = read_plan(plan->second).sparsity(static_cast<std::int64_t>(version));
  KeptGroups next = before;
  for (const auto& [name, scores] : statistics) {
    if (!name.starts_with(kPruning) || name == kPruningPlan) continue;
    if (!(scores > 0).any().item<bool>() || !at::isfinite(scores).all().item<bool>()) continue;
    const std::int64_t groups = scores.numel();
    at::Tensor& kept =
        next.try_emplace(name.substr(kPruning.size()), at::ones({groups}, at::kBool)).first->second;
    core::require(kept.numel() == groups, "pruning: the groups of " + name + " have changed");
    kept = prune(kept, scores, num_pruned(groups, sparsity));
  }
  return next;
}

void add_statistic(std::map<std::string, at::Tensor>& sums, const std::string& name,
                   const at::Tensor& published) {
  const auto [sum, is_new] = sums.try_emplace(name, published);
  if (is_new) return;
  core::require(sum->second.sizes() == published.sizes(),
                "statistics: the published " + name + " has another shape");
  sum->second = sum->second.add(published);
}

void write_mask(const std::filesystem::path& file, const KeptGroups& kept) {
  nlohmann::ordered_json document = nlohmann::ordered_json::object();
  for (const auto& [block, groups] : kept) {
    std::vector<std::int64_t> pruned;
    for (std::int64_t group = 0; group < groups.numel(); ++group) {
      if (!groups.const_data_ptr<bool>()[group]) pruned.push_back(group);
    }
    document[block] = {{"groups", groups.numel()}, {"pruned", pruned}};
  }
  core::write_file_atomic(file, core::as_bytes(document.dump(1) + "\n"));
}

KeptGroups read_mask(const std::filesystem::path& file) {
  KeptGroups kept;
  try {
    const auto document = core::read_json(file, kMaskLimits);
    for (const auto& [block, entry] : document.items()) {
      const auto groups = entry.at("groups").get<std::int64_t>();
      core::require(groups > 0 && groups < (std::int64_t{1} << 32), "groups");
      at::Tensor mask = at::ones({groups}, at::kBool);
      for (const auto& pruned : entry.at("pruned")) {
        const auto group = pruned.get<std::int64_t>();
        core::require(group >= 0 && group < groups, "pruned");
        mask.mutable_data_ptr<bool>()[group] = false;
      }
      kept[block] = mask;
    }
  } catch (const nlohmann::json::exception& error) {
    throw core::IoError(file.string() + ": not a mask of pruned groups: " + error.what());
  } catch (const core::InvalidArgument& error) {
    throw core::IoError(file.string() + ": " + error.what() + " is out of range");
  }
  return kept;
}

}  // namespace drystone::tensors
