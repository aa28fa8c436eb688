#pragma once
// Cuts a text at delimiters that come one after the other.

#include <cstddef>
#include <string_view>

#include "text/word_sink.h"

namespace drystone::text {

/// Give it all delimiters from left to right, then finish.
class DelimiterSplit {
 public:
  DelimiterSplit(std::string_view text, bool is_start, SplitBehavior behavior, bool invert,
                 WordSink& sink)
      : text_(text), is_start_(is_start), behavior_(behavior), invert_(invert), sink_(sink) {}

  /// @return whether more words are wanted
  bool delimiter(std::size_t begin, std::size_t end) {
    if (begin > done_ && !part({done_, begin}, invert_)) return false;
    done_ = end;
    return part({begin, end}, !invert_);
  }

  /// @return as delimiter
  bool finish() {
    if (done_ < text_.size() && !part({done_, text_.size()}, invert_)) return false;
    return !has_held_ || emit(held_);
  }

 private:
  struct Part {
    std::size_t begin;
    std::size_t end;
  };

  bool part(Part part, bool is_delimiter) {
    const bool was_delimiter = was_delimiter_;
    was_delimiter_ = is_delimiter;
    switch (behavior_) {
      case SplitBehavior::Isolated: return emit(part);
      case SplitBehavior::Removed: return is_delimiter || emit(part);
      case SplitBehavior::Contiguous: return join_or_hold(part, is_delimiter == was_delimiter);
      case SplitBehavior::MergedWithPrevious:
        return join_or_hold(part, is_delimiter && !was_delimiter);
      case SplitBehavior::MergedWithNext: return join_or_hold(part, was_delimiter && !is_delimiter);
    }
    return true;
  }

  bool join_or_hold(Part part, bool joins) {
    if (has_held_ && joins) {
      held_.end = part.end;
      return true;
    }
    const bool wants_more = !has_held_ || emit(held_);
    has_held_ = true;
    held_ = part;
    return wants_more;
  }

  bool emit(Part part) {
    if (part.begin == part.end) return true;
    return sink_.word(text_.substr(part.begin, part.end - part.begin),
                      is_start_ && part.begin == 0);
  }

  std::string_view text_;
  bool is_start_;
  SplitBehavior behavior_;
  bool invert_;
  WordSink& sink_;
  std::size_t done_ = 0;
  bool was_delimiter_ = false;
  bool has_held_ = false;
  Part held_{};
};

}  // namespace drystone::text
