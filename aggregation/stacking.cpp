#include "aggregation/stacking.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <type_traits>
#include <vector>

#include <ATen/Parallel.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/empty.h>

#include "core/check.h"

namespace drystone::aggregation {
namespace {

bool is_pair(const tensors::Factors& factors) {
  return factors.b.defined() && factors.a.defined() && factors.b.dim() == 2 &&
         factors.a.dim() == 2 && factors.b.size(1) == factors.a.size(0);
}

/// One term's B as it lies in memory, and where its columns go.
template <typename Source>
struct Columns {
  const Source* data;
  int64_t count;
  int64_t position;
};

template <typename Target, typename Source>
void copy_run(const Source* from, int64_t count, Target* to) {
  if constexpr (std::is_same_v<Source, Target>) {
    std::memcpy(to, from, static_cast<std::size_t>(count) * sizeof(Target));
  } else {
    for (int64_t i = 0; i < count; ++i) to[i] = static_cast<Target>(from[i]);
  }
}

/// Writes every row of the stack in one go: sequential writes, one short run read from each client.
/// Few rows at a time keep the pages of all sources and of the target in the TLB.
template <typename Target, typename Source>
void copy_columns(const std::vector<Columns<Source>>& terms, Target* target, int64_t rows,
                  int64_t width) {
  constexpr int64_t kRowsPerBlock = 16;
  at::parallel_for(0, rows, 64, [&](int64_t first, int64_t last) {
    for (int64_t block = first; block < last; block += kRowsPerBlock) {
      const int64_t end = std::min(block + kRowsPerBlock, last);
      for (const Columns<Source>& term : terms) {
        for (int64_t row = block; row < end; ++row) {
          copy_run(term.data + row * term.count, term.count, target + row * width + term.position);
        }
      }
    }
  });
}

/// target = scale · source; in float64 without rounding the product to float32 first.
void copy_scaled(const at::Tensor& source, double scale, at::Tensor target) {
  target.copy_(source);
  if (scale != 1.0) target.mul_(scale);
}

template <typename Source>
void copy_b(const std::vector<at::Tensor>& blocks, at::Tensor& target) {
  std::vector<Columns<Source>> terms;
  int64_t position = 0;
  for (const at::Tensor& block : blocks) {
    terms.push_back({block.const_data_ptr<Source>(), block.size(1), position});
    position += block.size(1);
  }
  if (target.scalar_type() == at::kFloat) {
    copy_columns(terms, target.mutable_data_ptr<float>(), target.size(0), target.size(1));
  } else {
    copy_columns(terms, target.mutable_data_ptr<double>(), target.size(0), target.size(1));
  }
}

}  // namespace

at::Tensor StackBuffer::reserve(at::Tensor& storage, int64_t rows, int64_t columns) {
  const int64_t count = rows * columns;
  if (!storage.defined() || storage.numel() < count) {
    storage = at::empty({count}, at::TensorOptions().dtype(dtype_));
  }
  return storage.narrow(0, 0, count).view({rows, columns});
}

tensors::Factors StackBuffer::fill(std::span<const ScaledFactors> terms) {
  core::require(!terms.empty(), "stack: no clients");
  const tensors::Factors& first = terms.front().factors;
  int64_t rank = 0;
  bool has_double = false;
  for (const auto& [factors, scale] : terms) {
    core::require(is_pair(factors), "stack: a client's factors are no B [out, r], A [r, in]");
    core::require(factors.same_module(first), "stack: clients disagree on the module");
    core::require(std::isfinite(scale), "stack: a scale is not finite");
    if (scale != 0.0) rank += factors.rank();
    has_double |= factors.b.scalar_type() == at::kDouble;
  }

  const at::NoGradGuard no_grad;  // thread-local, so it stands where the work is done
  tensors::Factors stack = {.b = reserve(b_, first.out_features(), rank),
                            .a = reserve(a_, rank, first.in_features())};
  std::vector<at::Tensor> b_blocks;
  int64_t position = 0;
  for (const auto& [factors, scale] : terms) {
    if (scale == 0.0) continue;
    b_blocks.push_back(factors.b.to(has_double ? at::kDouble : at::kFloat).contiguous());
    copy_scaled(factors.a, scale, stack.a.narrow(0, position, factors.rank()));
    position += factors.rank();
  }
  has_double ? copy_b<double>(b_blocks, stack.b) : copy_b<float>(b_blocks, stack.b);
  return stack;
}

tensors::Factors stack(std::span<const WeightedFactors> clients) {
  double total = 0.0;
  for (const auto& [factors, weight] : clients) {
    core::require(std::isfinite(weight) && weight >= 0.0, "stack: weight must be finite and >= 0");
    total += weight;
  }
  core::require(clients.empty() || (total > 0.0 && std::isfinite(total)),
                "stack: all weights are zero, or their sum overflows");
  std::vector<ScaledFactors> terms;
  for (const auto& [factors, weight] : clients) terms.push_back({factors, weight / total});
  return StackBuffer().fill(terms);
}

}  // namespace drystone::aggregation
