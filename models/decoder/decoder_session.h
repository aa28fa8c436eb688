#pragma once
// Texts that a decoder continues token by token.

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include <ATen/core/Tensor.h>

#include "models/decoder/decoder.h"
#include "models/decoder/kv_cache.h"

namespace drystone::models {

/// Several texts of any lengths at once, without padding in the prompts' pass. Adapters work as in
/// training. One thread; the decoder must not be used otherwise meanwhile.
class DecoderSession {
 public:
  /// @param decoder   borrowed; of task causal LM
  /// @param capacity  tokens that each text may have in the end
  /// @throws core::InvalidArgument  no texts, an empty one, one above the capacity, or learned
  ///                                positions for fewer
  DecoderSession(Decoder& decoder, std::vector<std::vector<std::int64_t>> texts,
                 std::int64_t capacity);

  std::int64_t rows() const { return static_cast<std::int64_t>(texts_.size()); }
  const std::vector<std::int64_t>& text(std::size_t row) const { return texts_[row]; }

  /// The whole texts at once. @return  logits after the last token of each, [rows, vocab]
  at::Tensor prefill();
  /// One token more for each text, after `prefill`. @return [rows, vocab]
  at::Tensor step(std::span<const std::int64_t> tokens);
  /// Goes on with these rows only, in this order.
  void keep(const std::vector<std::int64_t>& rows);

 private:
  /// A text grows beyond what short-text frequencies serve: all its keys turn otherwise (LongRoPE).
  bool changes_rotation() const;

  Decoder& decoder_;
  std::vector<std::vector<std::int64_t>> texts_;
  KvCache cache_;
};

}  // namespace drystone::models
