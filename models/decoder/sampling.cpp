#include "models/decoder/sampling.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <string>
#include <vector>

#include <ATen/TensorOperators.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/from_blob.h>
#include <ATen/ops/full_like.h>
#include <ATen/ops/tensor.h>
#include <ATen/ops/where.h>

#include "core/check.h"

namespace drystone::models {
namespace {

constexpr double kNever = -std::numeric_limits<double>::infinity();

void penalise_(at::Tensor& scores, std::span<const std::int64_t> text, double penalty) {
  const at::Tensor ids = at::tensor(at::ArrayRef(text.data(), text.size()), at::kLong);
  const at::Tensor seen = scores.index_select(0, ids);
  // A token that occurs twice is written twice, with the same number.
  scores.index_copy_(0, ids, at::where(seen < 0, seen * penalty, seen / penalty));
}

void keep_top_k_(at::Tensor& scores, std::int64_t k) {
  const at::Tensor least = std::get<0>(scores.topk(std::min(k, scores.size(0)))).min();
  scores.masked_fill_(scores < least, kNever);
}

void keep_top_p_(at::Tensor& scores, double p) {
  const at::Tensor candidates = scores.isfinite().nonzero().squeeze(1);
  const auto [sorted, order] = scores.index_select(0, candidates).sort(/*dim=*/0);
  const at::Tensor cumulated = sorted.softmax(0).cumsum(0);
  at::Tensor removed = cumulated <= 1.0 - p;
  removed.narrow(0, removed.size(0) - 1, 1).fill_(false);  // one stays in any case
  scores.index_fill_(0, candidates.index_select(0, order.masked_select(removed)), kNever);
}

}  // namespace

void Sampling::check() const {
  core::require(temperature >= 0.0 && std::isfinite(temperature), "temperature must be >= 0");
  core::require(top_k >= 0, "top_k must be >= 0");
  core::require(top_p > 0.0 && top_p <= 1.0, "top_p must be in (0, 1]");
  core::require(repetition_penalty > 0.0 && std::isfinite(repetition_penalty),
                "repetition_penalty must be > 0");
}

at::Tensor process_logits(const at::Tensor& logits, std::span<const std::int64_t> text,
                          const Sampling& sampling) {
  const at::NoGradGuard no_grad;
  at::Tensor scores = logits.to(at::kCPU, at::kFloat, /*non_blocking=*/false, /*copy=*/true);
  if (sampling.repetition_penalty != 1.0) penalise_(scores, text, sampling.repetition_penalty);
  if (sampling.is_greedy()) return scores;
  if (sampling.temperature != 1.0) scores.div_(sampling.temperature);
  if (sampling.top_k > 0) keep_top_k_(scores, sampling.top_k);
  if (sampling.top_p < 1.0) keep_top_p_(scores, sampling.top_p);
  return scores;
}

std::int64_t draw(const at::Tensor& processed, double uniform) {
  const at::Tensor p = processed.to(at::kDouble).softmax(0).contiguous();
  const double* const begin = p.const_data_ptr<double>();
  double cumulated = 0.0;
  std::int64_t last = 0;
  for (std::int64_t id = 0; id < p.size(0); ++id) {
    if (begin[id] == 0.0) continue;
    cumulated += begin[id];
    last = id;
    if (cumulated > uniform) break;
  }
  return last;
}

core::SplitMix64 token_stream(std::uint64_t seed, std::size_t prompt, std::size_t position) {
  const std::string purpose = "generate/" + std::to_string(prompt) + "/" + std::to_string(position);
  return core::SplitMix64(core::StreamKey{.seed = seed, .purpose = purpose});
}

}  // namespace drystone::models
