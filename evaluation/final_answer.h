#pragma once
// Answers of worked problems, compared.

#include <string>
#include <string_view>

namespace drystone::evaluation {

/// What a worked solution ends in, in one spelling: the number after the first "####" (GSM8K; what
/// a model writes behind its answer does not count), else the last number of the text; the trimmed
/// text after "####", or all of it, where there is no number. "$1,234.50" → "1234.5", "−5" (U+2212)
/// → "-5", "-0" → "0", "6/8" → "3/4", ".5" → "0.5", "1e3" → "1000", "1.000.000" → "1000000".
std::string final_answer(std::string_view text);

/// Whether both end in the same answer, 1/2 being 0.5; never when the reference is empty.
bool is_exact_match(std::string_view generated, std::string_view reference);

/// What the filters of lm-evaluation-harness's task gsm8k take from a text up to where its
/// generation stops ("Question:", "</s>", "<|im_end|>"): strict-match the number after the first
/// "#### ", flexible-extract the last number. "[invalid]" where there is none.
std::string strict_match(std::string_view text);
std::string flexible_extract(std::string_view text);
/// Its comparison: without commas, dollars, a last full stop, the case, and all before "#### ".
bool is_harness_match(std::string_view extracted, std::string_view reference);

}  // namespace drystone::evaluation
