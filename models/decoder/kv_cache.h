#pragma once
// What a decoder remembers of the texts that it continues: each layer's keys and values.

#include <cstdint>
#include <vector>

#include <ATen/core/Tensor.h>

#include "models/decoder/causal_attention.h"
#include "models/decoder/decoder_config.h"
#include "models/packing.h"

namespace drystone::models {

/// Memory for `rows` texts of up to `capacity` tokens, allocated once. One thread.
class KvCache {
 public:
  /// @param options  dtype and device of the model
  KvCache(const DecoderConfig& config, std::int64_t rows, std::int64_t capacity,
          const at::TensorOptions& options);

  std::int64_t rows() const { return static_cast<std::int64_t>(lengths_.size()); }
  std::int64_t capacity() const { return capacity_; }
  /// How many tokens of each text are in the cache.
  const std::vector<std::int64_t>& lengths() const { return lengths_; }

  /// The keys (turned) and values of whole texts, [tokens, kv heads, head size].
  void fill(std::size_t layer, const at::Tensor& k, const at::Tensor& v, const Packing& packing);
  /// After all layers: the packing's lengths hold.
  void end_fill(const Packing& packing);

  /// Before one token more for every text.
  void begin_step();
  /// This token's attention to its text and itself. @param q  [rows, heads, head size]; k and v
  /// [rows, kv heads, head size] enter the cache   @return [rows, heads · head size]
  at::Tensor attend(std::size_t layer, const at::Tensor& q, const at::Tensor& k,
                    const at::Tensor& v, const CausalSpec& spec);
  void end_step();

  /// Goes on with these rows only, in this order.
  void keep(const std::vector<std::int64_t>& rows);

 private:
  /// [rows, 1, longest] to be added to scores; undefined: every key is visible.
  const at::Tensor& mask(std::int64_t window);
  /// [rows · kv heads, longest, head size], a view.
  at::Tensor visible(const at::Tensor& cache) const;

  std::int64_t capacity_;
  std::int64_t longest_ = 0;  ///< the step's token included
  std::vector<std::int64_t> lengths_;
  std::vector<at::Tensor> keys_;    ///< a layer: [rows, kv heads, capacity, head size]
  std::vector<at::Tensor> values_;  ///< the same
  at::Tensor places_;               ///< [rows · kv heads]: where the step's token goes
  std::vector<std::pair<std::int64_t, at::Tensor>> masks_;  ///< the step's, by window
};

}  // namespace drystone::models
