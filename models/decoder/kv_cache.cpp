#include "models/decoder/kv_cache.h"

#include <algorithm>
#include <limits>
#include <utility>

#include <ATen/TensorOperators.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/bmm.h>
#include <ATen/ops/tensor.h>
#include <ATen/ops/zeros.h>

#include "core/check.h"
#include "models/gemm.h"

namespace drystone::models {

KvCache::KvCache(const DecoderConfig& config, std::int64_t rows, std::int64_t capacity,
                 const at::TensorOptions& options)
    : capacity_(capacity), lengths_(static_cast<std::size_t>(rows), 0) {
  for (std::size_t layer = 0; layer < config.layers.size(); ++layer) {
    for (auto* const cache : {&keys_, &values_}) {
      cache->push_back(at::zeros({rows, config.num_kv_heads, capacity, config.head_size}, options));
    }
  }
}

void KvCache::fill(std::size_t layer, const at::Tensor& k, const at::Tensor& v,
                   const Packing& packing) {
  core::require(packing.rows() == rows(), "KvCache: another number of texts");
  for (std::int64_t row = 0; row < rows(); ++row) {
    const std::int64_t begin = packing.offsets[static_cast<std::size_t>(row)];
    const std::int64_t length = packing.length(row);
    core::require(length <= capacity_, "KvCache: a text is longer than the capacity");
    const auto copy = [&](at::Tensor& cache, const at::Tensor& from) {
      cache.select(0, row)
          .narrow(1, 0, length)
          .copy_(from.narrow(0, begin, length).transpose(0, 1));
    };
    copy(keys_[layer], k);
    copy(values_[layer], v);
  }
}

void KvCache::end_fill(const Packing& packing) {
  for (std::int64_t row = 0; row < rows(); ++row) {
    lengths_[static_cast<std::size_t>(row)] = packing.length(row);
  }
}

void KvCache::begin_step() {
  longest_ = 1 + *std::max_element(lengths_.begin(), lengths_.end());
  core::require(longest_ <= capacity_, "KvCache: full");
  const std::int64_t heads = keys_.front().size(1);
  std::vector<std::int64_t> places;
  for (std::size_t row = 0; row < lengths_.size(); ++row) {
    for (std::int64_t head = 0; head < heads; ++head) {
      places.push_back((static_cast<std::int64_t>(row) * heads + head) * capacity_ + lengths_[row]);
    }
  }
  places_ = at::tensor(places, keys_.front().options().dtype(at::kLong));
  masks_.clear();
}

const at::Tensor& KvCache::mask(std::int64_t window) {
  const auto found = std::find_if(masks_.begin(), masks_.end(),
                                  [&](const auto& mask) { return mask.first == window; });
  if (found != masks_.end()) return found->second;
  at::Tensor added;
  const std::int64_t shortest = 1 + *std::min_element(lengths_.begin(), lengths_.end());
  if (shortest < longest_ || (window > 0 && window < longest_)) {
    const at::TensorOptions options = keys_.front().options();
    const at::Tensor places = at::tensor(lengths_, options.dtype(at::kLong)).view({-1, 1, 1});
    const at::Tensor behind = places - at::arange(longest_, options.dtype(at::kLong));
    at::Tensor hidden = behind < 0;
    if (window > 0) hidden = hidden | (behind >= window);
    added = at::zeros(hidden.sizes(), options)
                .masked_fill_(hidden, -std::numeric_limits<double>::infinity());
  }
  return masks_.emplace_back(window, std::move(added)).second;
}

at::Tensor KvCache::visible(const at::Tensor& cache) const {
  return cache.view({-1, capacity_, cache.size(3)}).narrow(1, 0, longest_);
}

at::Tensor KvCache::attend(std::size_t layer, const at::Tensor& q, const at::Tensor& k,
                           const at::Tensor& v, const CausalSpec& spec) {
  const std::int64_t size = spec.head_size;
  keys_[layer].view({-1, size}).index_copy_(0, places_, k.reshape({-1, size}));
  values_[layer].view({-1, size}).index_copy_(0, places_, v.reshape({-1, size}));
  const std::int64_t group = spec.num_heads / spec.num_kv_heads;
  const at::Tensor asking = q.reshape({-1, group, size});
  at::Tensor scores = at::bmm(asking, visible(keys_[layer]).transpose(1, 2)).mul_(spec.scale);
  if (spec.softcap > 0.0) scores.div_(spec.softcap).tanh_().mul_(spec.softcap);
  if (const at::Tensor& hidden = mask(spec.window); hidden.defined()) {
    scores.view({rows(), -1, longest_}).add_(hidden);
  }
  const at::Tensor p = at_least_float(scores).softmax(-1);
  return at::bmm(p.to(v.scalar_type()), visible(values_[layer])).view({rows(), -1});
}

void KvCache::end_step() {
  for (std::int64_t& length : lengths_) ++length;
}

void KvCache::keep(const std::vector<std::int64_t>& rows) {
  const at::Tensor index = at::tensor(rows, keys_.front().options().dtype(at::kLong));
  for (auto* const cache : {&keys_, &values_}) {
    for (at::Tensor& layer : *cache) layer = layer.index_select(0, index);
  }
  std::vector<std::int64_t> lengths;
  for (const std::int64_t row : rows) lengths.push_back(lengths_[static_cast<std::size_t>(row)]);
  lengths_ = std::move(lengths);
}

}  // namespace drystone::models
