#include "text/token_stream.h"

#include <algorithm>
#include <span>
#include <string_view>
#include <utility>

namespace drystone::text {

namespace {

constexpr std::string_view kReplacementUtf8 = "\xEF\xBF\xBD";
constexpr std::size_t kMostHeldBack = 16;  ///< ids; no character has as many bytes

bool is_continuation(char c) { return (static_cast<unsigned char>(c) & 0xC0) == 0x80; }

}  // namespace

/// The part of `text` behind what was shown; where the decoder changed that, behind what is equal.
std::string StreamDecoder::unseen(const std::string& text) const {
  const auto size = static_cast<std::ptrdiff_t>(std::min(text.size(), shown_.size()));
  auto differs = std::mismatch(text.begin(), text.begin() + size, shown_.begin()).first;
  while (differs != text.begin() && differs != text.end() && is_continuation(*differs)) --differs;
  return {differs, text.end()};
}

std::string StreamDecoder::window(std::size_t size) const {
  return tokenizer_.decode(std::span(ids_).first(size), skip_special_);
}

std::string StreamDecoder::push(TokenId id) {
  ids_.push_back(id);
  const std::string text = window(ids_.size());
  const bool is_open = text.size() <= shown_.size() || text.ends_with(kReplacementUtf8);
  if (is_open && ids_.size() - num_shown_ < kMostHeldBack) return {};
  std::string added = unseen(text);
  ids_.erase(ids_.begin(), ids_.begin() + static_cast<std::ptrdiff_t>(num_shown_));
  num_shown_ = ids_.size();
  shown_ = window(num_shown_);
  return added;
}

std::string StreamDecoder::finish() {
  std::string rest = ids_.size() > num_shown_ ? unseen(window(ids_.size())) : std::string();
  ids_.clear();
  num_shown_ = 0;
  shown_.clear();
  return rest;
}

}  // namespace drystone::text
