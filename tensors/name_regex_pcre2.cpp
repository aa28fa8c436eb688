#include <array>
#include <utility>

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include "core/error.h"
#include "core/shorten.h"
#include "core/text.h"
#include "tensors/name_regex.h"

namespace drystone::tensors {
namespace {

constexpr std::size_t kMostPatternBytes = 4096;
// A pattern within reason needs some steps for each character of a name.
constexpr std::size_t kFewSteps = 1'000;
constexpr std::size_t kMostSteps = 100'000;
constexpr std::size_t kMostNameBytes = std::size_t{1} << 20;
constexpr std::uint32_t kMostHeapKib = 16 << 10;

[[noreturn]] void fail(const std::string& pattern, const std::string& problem) {
  throw core::ConfigError("the pattern " + core::shorten(core::quote(pattern), 200) + " " +
                          problem);
}

std::string message_of(int code) {
  std::array<PCRE2_UCHAR, 256> buffer{};
  pcre2_get_error_message(code, buffer.data(), buffer.size());
  return reinterpret_cast<const char*>(buffer.data());
}

PCRE2_SPTR units(std::string_view text) { return reinterpret_cast<PCRE2_SPTR>(text.data()); }

}  // namespace

class NameRegex::Code {
 public:
  explicit Code(std::string pattern) : pattern_(std::move(pattern)) {
    if (pattern_.size() > kMostPatternBytes) {
      fail(pattern_, "is longer than " + std::to_string(kMostPatternBytes) + " bytes");
    }
    const std::string whole = "(.*\\.)?(" + pattern_ + ")$";
    int error = 0;
    PCRE2_SIZE offset = 0;
    constexpr std::uint32_t kOptions =
        PCRE2_UTF | PCRE2_UCP | PCRE2_ANCHORED | PCRE2_NEVER_BACKSLASH_C;
    code_ = pcre2_compile(units(whole), whole.size(), kOptions, &error, &offset, nullptr);
    if (code_ == nullptr) fail(pattern_, "is not a regular expression: " + message_of(error));
    data_ = pcre2_match_data_create(1, nullptr);
    context_ = pcre2_match_context_create(nullptr);
    pcre2_set_heap_limit(context_, kMostHeapKib);
  }
  ~Code() {
    pcre2_match_context_free(context_);
    pcre2_match_data_free(data_);
    pcre2_code_free(code_);
  }
  Code(const Code&) = delete;
  Code& operator=(const Code&) = delete;

  bool matches(std::string_view name, StepBudget& budget) const {
    int result = run(name, kFewSteps, budget);
    if (result == PCRE2_ERROR_MATCHLIMIT) result = run(name, kMostSteps, budget);
    if (result >= 0) return true;
    if (result == PCRE2_ERROR_NOMATCH) return false;
    fail(pattern_, "does not match within bounds: " + message_of(result) +
                       "; write it without nested repetitions");
  }

 private:
  int run(std::string_view name, std::size_t most, StepBudget& budget) const {
    if (name.size() > kMostNameBytes) fail(pattern_, "is not matched with a name of a megabyte");
    const auto steps = static_cast<std::uint32_t>(most + 4 * name.size());
    budget.left -= steps;
    if (budget.left < 0) {
      fail(pattern_, "and those before it take too many steps for all modules; write plain names");
    }
    pcre2_set_match_limit(context_, steps);
    return pcre2_match(code_, units(name), name.size(), 0, 0, data_, context_);
  }

  std::string pattern_;
  pcre2_code* code_ = nullptr;
  pcre2_match_data* data_ = nullptr;
  pcre2_match_context* context_ = nullptr;
};

NameRegex::NameRegex(std::string pattern)
    : code_(std::make_unique<const Code>(std::move(pattern))) {}
NameRegex::~NameRegex() = default;
NameRegex::NameRegex(NameRegex&&) noexcept = default;
NameRegex& NameRegex::operator=(NameRegex&&) noexcept = default;

bool NameRegex::matches(std::string_view name, StepBudget& budget) const {
  return code_->matches(name, budget);
}

}  // namespace drystone::tensors
