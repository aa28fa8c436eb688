#pragma once
// Where the words go that a text is split into, and what becomes of what lies between them.

#include <string_view>

namespace drystone::text {

/// Takes words from left to right.
class WordSink {
 public:
  virtual ~WordSink() = default;
  /// @param word      not empty; lives only during the call
  /// @param is_start  whether it begins where the user's text begins
  /// @return          whether more words are wanted
  virtual bool word(std::string_view word, bool is_start) = 0;
};

/// What becomes of the delimiters between words.
enum class SplitBehavior : unsigned char {
  Removed,
  Isolated,            ///< each is a word
  MergedWithPrevious,  ///< it ends the word on its left
  MergedWithNext,      ///< it begins the word on its right
  Contiguous,          ///< those in a row are a word
};

}  // namespace drystone::text
