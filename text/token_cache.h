#pragma once
// Ids of words seen lately: most words of a text were met before.

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <string_view>
#include <vector>

#include "text/tokenizer.h"

namespace drystone::text {

/// A direct-mapped table of fixed size (2 MiB): a new word takes the place of an older one. Not for
/// several threads; of_thread gives each its own.
class TokenCache {
 private:
  static constexpr std::size_t kNumSlots = 1 << 14;
  static constexpr std::size_t kMostBytes = 46;
  static constexpr std::size_t kMostIds = 20;

  struct alignas(64) Slot {
    std::uint8_t num_bytes = 0;  ///< 0: free
    std::uint8_t num_ids = 0;
    std::array<char, kMostBytes> word{};
    std::array<TokenId, kMostIds> ids{};
  };

 public:
  TokenCache() : slots_(kNumSlots) {}

  /// Where a word belongs, and whether its ids are there.
  class Place {
   public:
    bool is_hit() const { return is_hit_; }
    void append_to(std::vector<TokenId>& ids) const {
      ids.insert(ids.end(), slot_->ids.begin(), slot_->ids.begin() + slot_->num_ids);
    }

   private:
    friend class TokenCache;
    Slot* slot_ = nullptr;  ///< null: the word is too long to be kept
    bool is_hit_ = false;
  };

  /// @param word  not empty
  Place find(std::string_view word) {
    Place place;
    if (word.size() > kMostBytes) return place;
    place.slot_ = &slots_[hash(word) & (kNumSlots - 1)];
    place.is_hit_ = place.slot_->num_bytes == word.size() &&
                    std::memcmp(place.slot_->word.data(), word.data(), word.size()) == 0;
    return place;
  }

  /// Keeps `ids` for `word` at `place`, where find looked for it; too many are not kept.
  void store(const Place& place, std::string_view word, std::span<const TokenId> ids) {
    if (place.slot_ == nullptr || ids.size() > kMostIds) return;
    Slot& slot = *place.slot_;
    slot.num_bytes = static_cast<std::uint8_t>(word.size());
    slot.num_ids = static_cast<std::uint8_t>(ids.size());
    std::memcpy(slot.word.data(), word.data(), word.size());
    std::copy(ids.begin(), ids.end(), slot.ids.begin());
  }

  /// The calling thread's cache for the tokenizer numbered `owner`; a thread keeps those of the
  /// last few tokenizers that it used.
  static TokenCache& of_thread(std::uint64_t owner);

 private:
  static std::uint64_t hash(std::string_view word) {
    constexpr std::uint64_t kFactor = 0x9E3779B97F4A7C15;
    std::uint64_t state = word.size() * kFactor;
    const char* bytes = word.data();
    std::size_t left = word.size();
    for (; left > 8; left -= 8, bytes += 8) {
      std::uint64_t part = 0;
      std::memcpy(&part, bytes, 8);
      state = (state ^ part) * kFactor;
      state ^= state >> 32;
    }
    std::uint64_t part = 0;
    std::memcpy(&part, bytes, left);
    state = (state ^ part) * kFactor;
    return state ^ (state >> 29);
  }

  std::vector<Slot> slots_;
};

}  // namespace drystone::text
