#pragma once
// What max_length takes away from texts, so that somebody hears of it.

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>

namespace drystone::data {

/// Counts over the examples of one data set.
class CutTexts {
 public:
  CutTexts() = default;
  CutTexts(std::size_t examples, std::size_t tokens) : examples_(examples), tokens_(tokens) {}

  void add(std::size_t num_lost) {
    examples_ += num_lost > 0 ? 1 : 0;
    tokens_ += num_lost;
  }
  void add(const CutTexts& other) {
    examples_ += other.examples_;
    tokens_ += other.tokens_;
  }
  std::size_t examples() const { return examples_; }  ///< that lost anything
  std::size_t tokens() const { return tokens_; }      ///< that they lost

  /// Warns if anything was cut. @param what  whose texts they are: a file, a client
  void warn(std::string_view what, std::size_t num_examples, std::int64_t max_length) const;

 private:
  std::size_t examples_ = 0;
  std::size_t tokens_ = 0;
};

/// What max_length took from one of several data sets.
struct Shortened {
  std::string of;                ///< whose texts they are
  std::size_t num_examples = 0;  ///< that are left
  CutTexts cut = {};
  std::int64_t left_out = 0;  ///< examples in which nothing to learn is left
};

/// Warns of each set that lost something; where these are many, of the later ones together.
void warn(std::span<const Shortened> sets, std::int64_t max_length);

}  // namespace drystone::data
