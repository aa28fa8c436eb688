#pragma once
// Text of generated tokens while they are generated.

#include <cstddef>
#include <string>
#include <vector>

#include "text/tokenizer.h"

namespace drystone::text {

/// Decodes one id at a time: each piece that it returns is complete UTF-8, and the pieces joined
/// are the decoded text of all ids. What may still change, e.g. the first bytes of a character, is
/// held back until a later id completes it. The cost of a push does not grow with the text.
class StreamDecoder {
 public:
  /// @param tokenizer  outlives this object
  explicit StreamDecoder(const Tokenizer& tokenizer, bool skip_special = true)
      : tokenizer_(tokenizer), skip_special_(skip_special) {}

  /// @return what `id` adds to the text; "" while it is held back
  std::string push(TokenId id);

  /// What is still held back, an incomplete character as U+FFFD. Afterwards this object is as new.
  std::string finish();

 private:
  std::string unseen(const std::string& text) const;
  std::string window(std::size_t size) const;

  const Tokenizer& tokenizer_;
  bool skip_special_;
  std::vector<TokenId> ids_;   ///< the ids of the last piece returned, then those since
  std::size_t num_shown_ = 0;  ///< how many of ids_ the last piece had
  std::string shown_;          ///< text of those: what comes next depends on what went before
};

}  // namespace drystone::text
