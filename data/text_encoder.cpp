#include "data/text_encoder.h"

#include <algorithm>
#include <utility>

#include "core/check.h"

namespace drystone::data {

namespace {

/// How many tokens of two texts stay when `room` is left for both: longest_first, exactly as
/// Hugging Face's `tokenizers` resolves ties.
std::pair<std::size_t, std::size_t> shares(std::size_t first, std::size_t second,
                                           std::size_t room) {
  if (first + second <= room) return {first, second};
  const bool is_swapped = first > second;
  if (is_swapped) std::swap(first, second);
  second = first > room ? first : std::max(first, room - first);
  if (first + second > room) {
    first = room / 2;
    second = first + room % 2;
  }
  if (is_swapped) std::swap(first, second);
  return {first, second};
}

}  // namespace

TextEncoder::TextEncoder(const text::Tokenizer& tokenizer) : tokenizer_(tokenizer) {
  const text::SpecialIds& special = tokenizer.special();
  const std::vector<text::TokenId> frame = tokenizer.encode("");
  const bool has_classifier = special.cls && special.sep && frame.size() == 2 &&
                              frame.front() == *special.cls && frame.back() == *special.sep;
  if (has_classifier) {
    prefix_ = {*special.cls};
    suffix_ = {*special.sep};
    const bool is_roberta = tokenizer.token(*special.cls) == "<s>";
    middle_.assign(is_roberta ? 2 : 1, *special.sep);
    has_types_ = !is_roberta;
    return;
  }
  prefix_ = frame;
  if (special.eos && !frame.empty() && frame.back() == *special.eos) {
    suffix_ = {*special.eos};
    prefix_.pop_back();
  }
  middle_ = suffix_;
  middle_.insert(middle_.end(), prefix_.begin(), prefix_.end());
}

EncodedText TextEncoder::encode(const Record& record, std::int64_t max_length) const {
  if (record.input_ids.empty() && record.text_pair) {
    return encode_pair(record.text, *record.text_pair, max_length);
  }
  if (record.input_ids.empty()) return {tokenizer_.encode(record.text, max_length), 0};
  const std::size_t limit = static_cast<std::size_t>(max_length);
  EncodedText result{record.input_ids, 0};
  if (max_length > 0 && result.ids.size() > limit) result.ids.resize(limit);
  return result;
}

EncodedText TextEncoder::encode_pair(std::string_view first, std::string_view second,
                                     std::int64_t max_length) const {
  std::vector<text::TokenId> a = tokenizer_.encode(first, 0, /*add_special=*/false);
  std::vector<text::TokenId> b = tokenizer_.encode(second, 0, /*add_special=*/false);
  const std::size_t special = prefix_.size() + middle_.size() + suffix_.size();
  if (max_length > 0) {
    const auto limit = static_cast<std::size_t>(max_length);
    core::require(limit >= special, "TextEncoder: max_length has no room for the special tokens");
    const auto [keep_a, keep_b] = shares(a.size(), b.size(), limit - special);
    a.resize(keep_a);
    b.resize(keep_b);
  }
  EncodedText result;
  const auto append = [&ids = result.ids](const std::vector<text::TokenId>& part) {
    ids.insert(ids.end(), part.begin(), part.end());
  };
  append(prefix_);
  append(a);
  append(middle_);
  if (has_types_) result.second_start = result.ids.size();
  append(b);
  append(suffix_);
  return result;
}

}  // namespace drystone::data
