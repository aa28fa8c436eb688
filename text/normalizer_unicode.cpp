// Unicode's normalization forms by ICU, as of Unicode 9.

#include <algorithm>

#include <unicode/normalizer2.h>
#include <unicode/stringpiece.h>
#include <unicode/uniset.h>

#include "core/check.h"
#include "text/normalizer.h"

namespace drystone::text {

namespace {

/// What Unicode 9 had assigned; all else stays as it is.
const icu::UnicodeSet& known_characters() {
  static const icu::UnicodeSet set = [] {
    UErrorCode status = U_ZERO_ERROR;
    icu::UnicodeSet known(icu::UnicodeString("[:age=9.0:]"), status);
    core::ensure(U_SUCCESS(status) != 0, "ICU has no data for the ages of characters");
    known.freeze();
    return known;
  }();
  return set;
}

const icu::Normalizer2& normalizer_of(UnicodeForm form) {
  UErrorCode status = U_ZERO_ERROR;
  const icu::Normalizer2* normalizer = nullptr;
  switch (form) {
    case UnicodeForm::Nfc: normalizer = icu::Normalizer2::getNFCInstance(status); break;
    case UnicodeForm::Nfd: normalizer = icu::Normalizer2::getNFDInstance(status); break;
    case UnicodeForm::Nfkc: normalizer = icu::Normalizer2::getNFKCInstance(status); break;
    case UnicodeForm::Nfkd: normalizer = icu::Normalizer2::getNFKDInstance(status); break;
  }
  core::ensure(U_SUCCESS(status) != 0, "ICU has no data for normalization");
  return *normalizer;
}

class UnicodeNormalizer final : public Normalizer {
 public:
  explicit UnicodeNormalizer(UnicodeForm form)
      : normalizer_(normalizer_of(form), known_characters()),
        first_affected_(form == UnicodeForm::Nfc ? kLeadOfFirstMark : kLeadOfFirstLatin1) {}

  bool apply(std::string_view text, bool, std::string& out) const override {
    const bool is_inert = std::all_of(text.begin(), text.end(), [this](char c) {
      return static_cast<unsigned char>(c) < first_affected_;
    });
    if (is_inert) {
      out = text;
      return true;
    }
    out.clear();
    UErrorCode status = U_ZERO_ERROR;
    icu::StringByteSink<std::string> sink(&out, static_cast<std::int32_t>(text.size()));
    const icu::StringPiece piece(text.data(), static_cast<std::int32_t>(text.size()));
    normalizer_.normalizeUTF8(0, piece, sink, nullptr, status);
    core::ensure(U_SUCCESS(status) != 0, "ICU cannot normalize a text");
    return true;
  }

 private:
  static constexpr unsigned char kLeadOfFirstLatin1 = 0xC2;  ///< U+0080
  static constexpr unsigned char kLeadOfFirstMark = 0xCC;    ///< U+0300: none below composes

  icu::FilteredNormalizer2 normalizer_;
  unsigned char first_affected_;
};

}  // namespace

std::unique_ptr<const Normalizer> make_unicode_normalizer(UnicodeForm form) {
  return std::make_unique<UnicodeNormalizer>(form);
}

}  // namespace drystone::text
