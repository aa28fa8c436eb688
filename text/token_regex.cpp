#include "text/token_regex.h"

#include <array>
#include <cstdint>

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include "core/error.h"

namespace drystone::text {

namespace {

PCRE2_SPTR units(std::string_view text) { return reinterpret_cast<PCRE2_SPTR>(text.data()); }

std::string message_of(int code) {
  std::array<PCRE2_UCHAR, 256> buffer{};
  pcre2_get_error_message(code, buffer.data(), buffer.size());
  return reinterpret_cast<const char*>(buffer.data());
}

/// What matching writes to: one a thread, for all patterns.
class MatchSpace {
 public:
  MatchSpace()
      : data_(pcre2_match_data_create(1, nullptr)),
        context_(pcre2_match_context_create(nullptr)),
        stack_(pcre2_jit_stack_create(kFirstStackBytes, kMostStackBytes, nullptr)) {
    pcre2_jit_stack_assign(context_, nullptr, stack_);
  }
  ~MatchSpace() {
    pcre2_jit_stack_free(stack_);
    pcre2_match_context_free(context_);
    pcre2_match_data_free(data_);
  }
  MatchSpace(const MatchSpace&) = delete;
  MatchSpace& operator=(const MatchSpace&) = delete;

  pcre2_match_data* data() const { return data_; }
  pcre2_match_context* context() const { return context_; }

 private:
  static constexpr std::size_t kFirstStackBytes = 32 << 10;
  static constexpr std::size_t kMostStackBytes = 8 << 20;
  pcre2_match_data* data_;
  pcre2_match_context* context_;
  pcre2_jit_stack* stack_;
};

}  // namespace

/// A compiled pattern.
class TokenRegex::Code {
 public:
  explicit Code(std::string_view pattern, Characters characters) {
    const std::string translated = translate_oniguruma(pattern, characters);
    int error = 0;
    PCRE2_SIZE offset = 0;
    constexpr std::uint32_t kOptions =
        PCRE2_UTF | PCRE2_UCP | PCRE2_MULTILINE | PCRE2_NEVER_BACKSLASH_C;
    compiled_ =
        pcre2_compile(units(translated), translated.size(), kOptions, &error, &offset, nullptr);
    if (compiled_ == nullptr) {
      throw core::ConfigError("regular expression " + std::string(pattern) + ": " +
                              message_of(error));
    }
    // Not to machine code on processors that PCRE2's compiler does not know.
    match_ = pcre2_jit_compile(compiled_, PCRE2_JIT_COMPLETE) == 0 ? pcre2_jit_match : pcre2_match;
  }
  ~Code() { pcre2_code_free(compiled_); }
  Code(const Code&) = delete;
  Code& operator=(const Code&) = delete;

  int match(std::string_view text, std::size_t from, const MatchSpace& space) const {
    return match_(compiled_, units(text), text.size(), from, PCRE2_NO_UTF_CHECK, space.data(),
                  space.context());
  }

 private:
  pcre2_code* compiled_;
  decltype(&pcre2_match) match_;
};

TokenRegex::TokenRegex(std::string_view pattern)
    : old_(std::make_unique<Code>(pattern, Characters::Old)),
      all_(std::make_unique<Code>(pattern, Characters::All)) {}
TokenRegex::~TokenRegex() = default;
TokenRegex::TokenRegex(TokenRegex&&) noexcept = default;
TokenRegex& TokenRegex::operator=(TokenRegex&&) noexcept = default;

std::optional<TokenRegex::Match> TokenRegex::find(std::string_view text, std::size_t from,
                                                  Characters characters) const {
  thread_local const MatchSpace space;
  const int count = (characters == Characters::Old ? old_ : all_)->match(text, from, space);
  if (count == PCRE2_ERROR_NOMATCH) return std::nullopt;
  if (count < 0) {
    throw core::Error("cannot split a text of " + std::to_string(text.size()) +
                      " bytes by the tokenizer's regular expression: " + message_of(count));
  }
  const PCRE2_SIZE* bounds = pcre2_get_ovector_pointer(space.data());
  return Match{bounds[0], bounds[1]};
}

std::size_t TokenRegex::next_character(std::string_view text, std::size_t position) {
  ++position;
  while (position < text.size() && (static_cast<unsigned char>(text[position]) & 0xC0) == 0x80) {
    ++position;
  }
  return position;
}

}  // namespace drystone::text
