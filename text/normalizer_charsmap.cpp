#include "text/normalizer_charsmap.h"

#include <array>
#include <bitset>
#include <cstring>

#include <unicode/ubrk.h>
#include <unicode/uchar.h>
#include <unicode/utext.h>

#include "core/check.h"
#include "core/error.h"
#include "text/utf8.h"

namespace drystone::text {

namespace {

/// One element of darts-clone's array: a label, an offset to the children, or a value.
struct Unit {
  std::uint32_t bits;

  bool has_leaf() const { return ((bits >> 8) & 1) != 0; }
  std::uint32_t value() const { return bits & 0x7FFFFFFF; }
  std::uint32_t label() const { return bits & 0x800000FF; }
  std::uint32_t offset() const { return (bits >> 10) << ((bits & 0x200) >> 6); }
};

/// Characters that are a grapheme cluster of their own beside others of their kind.
bool stands_alone(char32_t c) {
  static const auto table = [] {
    auto bits = std::make_unique<std::bitset<0x10000>>();
    for (UChar32 i = 0; i < 0x10000; ++i) {
      const bool is_simple =
          u_getIntPropertyValue(i, UCHAR_GRAPHEME_CLUSTER_BREAK) == U_GCB_OTHER &&
          u_hasBinaryProperty(i, UCHAR_EXTENDED_PICTOGRAPHIC) == 0;
      bits->set(static_cast<std::size_t>(i), is_simple);
    }
    return bits;
  }();
  return c < 0x10000 && table->test(c);
}

/// ICU's iterator over the grapheme clusters of a text.
class Clusters {
 public:
  Clusters() {
    UErrorCode status = U_ZERO_ERROR;
    iterator_ = ubrk_open(UBRK_CHARACTER, "", nullptr, 0, &status);
    core::ensure(U_SUCCESS(status) != 0, "ICU has no data for grapheme clusters");
  }
  ~Clusters() {
    ubrk_close(iterator_);
    utext_close(&utext_);
  }
  Clusters(const Clusters&) = delete;
  Clusters& operator=(const Clusters&) = delete;

  void for_each(std::string_view text, auto&& on_cluster) {
    UErrorCode status = U_ZERO_ERROR;
    utext_openUTF8(&utext_, text.data(), static_cast<std::int64_t>(text.size()), &status);
    ubrk_setUText(iterator_, &utext_, &status);
    core::ensure(U_SUCCESS(status) != 0, "ICU cannot split a text into grapheme clusters");
    std::size_t begin = 0;
    for (auto end = ubrk_next(iterator_); end != UBRK_DONE; end = ubrk_next(iterator_)) {
      on_cluster(text.substr(begin, static_cast<std::size_t>(end) - begin));
      begin = static_cast<std::size_t>(end);
    }
  }

 private:
  UBreakIterator* iterator_ = nullptr;
  UText utext_ = UTEXT_INITIALIZER;
};

class Precompiled final : public Normalizer {
 public:
  explicit Precompiled(Charsmap charsmap) : charsmap_(std::move(charsmap)) {
    for (std::size_t i = 0; i < ascii_.size(); ++i) {
      character(std::string(1, static_cast<char>(i)), ascii_[i]);
    }
  }

  bool apply(std::string_view text, bool, std::string& out) const override {
    thread_local Clusters clusters;
    out.clear();
    for (std::size_t i = 0; i < text.size();) {
      if (is_plain(text, i)) {
        out += ascii_[static_cast<unsigned char>(text[i++])];
        require_growth(out.size(), text.size());
        continue;
      }
      require_growth(out.size(), text.size());
      const std::size_t begin = i;
      i = run_end(text, begin);
      std::size_t first_size = begin;
      decode_utf8(text, first_size);
      if (i == first_size) {
        character(text.substr(begin, i - begin), out);
      } else {
        clusters.for_each(text.substr(begin, i - begin),
                          [&](std::string_view cluster) { this->cluster(cluster, out); });
      }
    }
    return true;
  }

 private:
  static constexpr std::size_t kLongCluster = 6;  ///< such are never replaced as a whole

  /// ASCII before ASCII is a cluster of its own, but for \r\n.
  static bool is_plain(std::string_view text, std::size_t at) {
    const auto is_ascii = [](char c) { return static_cast<unsigned char>(c) < 0x80; };
    return is_ascii(text[at]) && text[at] != '\r' &&
           (at + 1 == text.size() || is_ascii(text[at + 1]));
  }

  /// Behind the character at `begin` if that and the next stand alone, else behind the next two
  /// that do, the first of them included.
  static std::size_t run_end(std::string_view text, std::size_t begin) {
    std::size_t end = begin;
    bool was_alone = stands_alone(decode_utf8(text, end));
    while (end < text.size()) {
      std::size_t next = end;
      const bool is_alone = stands_alone(decode_utf8(text, next));
      if (was_alone && is_alone) return end;
      was_alone = is_alone;
      end = next;
    }
    return end;
  }

  void cluster(std::string_view cluster, std::string& out) const {
    if (cluster.size() < kLongCluster) {
      if (const auto match = charsmap_.shortest(cluster)) {
        out += match->value;
        return;
      }
    }
    for (std::size_t i = 0; i < cluster.size();) {
      const std::size_t begin = i;
      decode_utf8(cluster, i);
      character(cluster.substr(begin, i - begin), out);
    }
  }

  void character(std::string_view text, std::string& out) const {
    const auto match = charsmap_.shortest(text);
    out += match ? match->value : text;
  }

  Charsmap charsmap_;
  std::array<std::string, 128> ascii_;  ///< what becomes of each
};

}  // namespace

Charsmap::Charsmap(std::string_view blob) {
  std::uint32_t size = 0;
  const auto refuse = [] { throw core::ConfigError("precompiled_charsmap is malformed"); };
  if (blob.size() < sizeof size) refuse();
  for (std::size_t i = 0; i < sizeof size; ++i) {
    size |= static_cast<std::uint32_t>(static_cast<unsigned char>(blob[i])) << (8 * i);
  }
  blob.remove_prefix(sizeof size);
  if (size == 0 || size % sizeof(std::uint32_t) != 0 || size > blob.size()) refuse();
  units_.resize(size / sizeof(std::uint32_t));
  std::memcpy(units_.data(), blob.data(), size);  // little-endian, as all machines we run on
  texts_ = blob.substr(size);
  if (find_invalid_utf8(texts_)) refuse();
}

namespace {

/// Whether the position is in the middle of a character: a map that cuts there would make text that
/// is none.
bool is_inside(std::string_view text, std::size_t at) {
  return at < text.size() && (static_cast<unsigned char>(text[at]) & 0xC0U) == 0x80U;
}

}  // namespace

std::optional<Charsmap::Match> Charsmap::match(std::string_view text, bool is_longest) const {
  if (units_.empty()) return std::nullopt;
  std::optional<Match> found;
  std::size_t at = Unit{units_[0]}.offset();
  for (std::size_t i = 0; i < text.size(); ++i) {
    const auto byte = static_cast<unsigned char>(text[i]);
    at ^= byte;
    if (byte == 0 || at >= units_.size()) break;
    const Unit unit{units_[at]};
    if (unit.label() != byte) break;
    at ^= unit.offset();
    if (!unit.has_leaf() || at >= units_.size() || is_inside(text, i + 1)) continue;
    const std::size_t begin = Unit{units_[at]}.value();
    if (begin > texts_.size() || is_inside(texts_, begin)) break;
    const std::string_view rest = std::string_view(texts_).substr(begin);
    found = Match{i + 1, rest.substr(0, rest.find('\0'))};
    if (!is_longest) break;
  }
  return found;
}

std::unique_ptr<const Normalizer> make_precompiled(Charsmap charsmap) {
  return std::make_unique<Precompiled>(std::move(charsmap));
}

std::string decode_base64(std::string_view text) {
  constexpr std::string_view kDigits =
      "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  std::array<std::int8_t, 256> values{};
  values.fill(-1);
  for (std::size_t i = 0; i < kDigits.size(); ++i) {
    values[static_cast<unsigned char>(kDigits[i])] = static_cast<std::int8_t>(i);
  }
  while (text.ends_with('=')) text.remove_suffix(1);
  std::string out;
  out.reserve(text.size() / 4 * 3);
  std::uint32_t bits = 0;
  int count = 0;
  for (const char c : text) {
    const int value = values[static_cast<unsigned char>(c)];
    if (value < 0) throw core::ConfigError("a text that should be base64 is not");
    bits = (bits << 6) | static_cast<std::uint32_t>(value);
    count += 6;
    if (count < 8) continue;
    count -= 8;
    out.push_back(static_cast<char>((bits >> count) & 0xFF));
  }
  return out;
}

}  // namespace drystone::text
