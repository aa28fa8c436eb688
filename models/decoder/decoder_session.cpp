#include "models/decoder/decoder_session.h"

#include <algorithm>
#include <utility>

#include <ATen/core/grad_mode.h>
#include <ATen/ops/tensor.h>
#include <ATen/ops/zeros.h>

#include "core/check.h"

namespace drystone::models {
namespace {

/// Padded on the right; `pack` takes the padding away.
Batch batch_of(const std::vector<std::vector<std::int64_t>>& texts) {
  std::size_t width = 0;
  for (const auto& text : texts) width = std::max(width, text.size());
  const auto rows = static_cast<std::int64_t>(texts.size());
  const auto columns = static_cast<std::int64_t>(width);
  at::Tensor ids = at::zeros({rows, columns}, at::kLong);
  at::Tensor mask = at::zeros({rows, columns}, at::kBool);
  for (std::int64_t row = 0; row < rows; ++row) {
    const auto& text = texts[static_cast<std::size_t>(row)];
    const auto length = static_cast<std::int64_t>(text.size());
    ids.select(0, row).narrow(0, 0, length).copy_(at::tensor(text, at::kLong));
    mask.select(0, row).narrow(0, 0, length).fill_(true);
  }
  return {.input_ids = ids, .pad_mask = mask, .labels = {}, .segments = {}};
}

std::int64_t checked(const Decoder& decoder, const std::vector<std::vector<std::int64_t>>& texts,
                     std::int64_t capacity) {
  core::require(!texts.empty(), "DecoderSession: no texts");
  core::require(!decoder.config().ropes.empty() || capacity <= decoder.config().max_positions,
                "DecoderSession: the model has " + std::to_string(decoder.config().max_positions) +
                    " positions");
  for (const auto& text : texts) {
    core::require(!text.empty(), "DecoderSession: an empty text; begin it with the BOS token");
    core::require(static_cast<std::int64_t>(text.size()) <= capacity,
                  "DecoderSession: a text is longer than the capacity");
    for (const std::int64_t id : text) {
      core::require(id >= 0 && id < decoder.config().vocab_size,
                    "DecoderSession: token " + std::to_string(id) + " is outside the vocabulary");
    }
  }
  return capacity;
}

}  // namespace

DecoderSession::DecoderSession(Decoder& decoder, std::vector<std::vector<std::int64_t>> texts,
                               std::int64_t capacity)
    : decoder_(decoder),
      texts_(std::move(texts)),
      cache_(decoder.config(), static_cast<std::int64_t>(texts_.size()),
             checked(decoder, texts_, capacity), decoder.embedding_.options()) {}

at::Tensor DecoderSession::prefill() {
  const at::NoGradGuard no_grad;
  const Packing packing = pack(batch_of(texts_), decoder_.embedding_.device());
  const at::Tensor hidden =
      decoder_.encode(packing, {.index = packing.last, .last_only = true}, &cache_);
  cache_.end_fill(packing);
  return decoder_.lm_logits(hidden);
}

bool DecoderSession::changes_rotation() const {
  for (const RopeConfig& rope : decoder_.config().ropes) {
    if (rope.kind != RopeKind::LongRope) continue;
    for (const auto& text : texts_) {
      if (static_cast<std::int64_t>(text.size()) == rope.original_positions + 1) return true;
    }
  }
  return false;
}

at::Tensor DecoderSession::step(std::span<const std::int64_t> tokens) {
  core::require(tokens.size() == texts_.size(), "DecoderSession: one token for each text");
  for (std::size_t row = 0; row < tokens.size(); ++row) texts_[row].push_back(tokens[row]);
  if (changes_rotation()) return prefill();
  const at::NoGradGuard no_grad;
  const at::TensorOptions options = decoder_.embedding_.options().dtype(at::kLong);
  const at::Tensor positions = at::tensor(cache_.lengths(), options);
  std::vector<TextRun> runs;
  for (const std::int64_t length : cache_.lengths()) runs.push_back({1, length + 1});
  at::Tensor x =
      decoder_.embed(at::tensor(at::ArrayRef(tokens.data(), tokens.size()), options), positions);
  std::vector<Angles> all_angles(1);
  for (std::size_t i = 0; i < decoder_.config().ropes.size(); ++i) {
    all_angles.resize(i + 1);
    all_angles[i] = angles(decoder_.config().ropes[i], positions, runs, x.scalar_type());
  }
  cache_.begin_step();
  for (std::size_t i = 0; i < decoder_.layers_.size(); ++i) {
    const DecoderLayer& layer = decoder_.layers_[i];
    const Decoder::Heads heads = decoder_.project(layer, x, all_angles[layer.plan.rope]);
    const at::Tensor context = cache_.attend(i, heads.q, heads.k, heads.v, decoder_.spec_of(layer));
    x = decoder_.finish_layer(layer, x, context);
  }
  cache_.end_step();
  return decoder_.lm_logits(decoder_.final_norm_.forward(x).value);
}

void DecoderSession::keep(const std::vector<std::int64_t>& rows) {
  std::vector<std::vector<std::int64_t>> texts;
  for (const std::int64_t row : rows) {
    texts.push_back(std::move(texts_[static_cast<std::size_t>(row)]));
  }
  texts_ = std::move(texts);
  cache_.keep(rows);
}

}  // namespace drystone::models
