#include "core/seed.h"

#include <cmath>
#include <numbers>
#include <utility>

namespace drystone::core {

namespace {

constexpr std::uint64_t kFnvOffset = 0xcbf29ce484222325ULL;
constexpr std::uint64_t kFnvPrime = 0x100000001b3ULL;

std::uint64_t absorb(std::uint64_t hash, std::uint64_t word) {
  for (int shift = 0; shift < 64; shift += 8) hash = (hash ^ ((word >> shift) & 0xff)) * kFnvPrime;
  return hash;
}

std::uint64_t absorb(std::uint64_t hash, std::string_view text) {
  hash = absorb(hash, text.size());  // the length parts ("ab", "c") from ("a", "bc")
  for (const char c : text) hash = (hash ^ static_cast<unsigned char>(c)) * kFnvPrime;
  return hash;
}

}  // namespace

std::uint64_t stream_seed(const StreamKey& key) {
  std::uint64_t hash = absorb(kFnvOffset, key.seed);
  hash = absorb(hash, key.round);
  hash = absorb(hash, key.client);
  return SplitMix64(absorb(hash, key.purpose))();
}

std::uint64_t SplitMix64::operator()() {
  state_ += 0x9e3779b97f4a7c15ULL;
  std::uint64_t z = state_;
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ULL;
  z = (z ^ (z >> 27)) * 0x94d049bb133111ebULL;
  return z ^ (z >> 31);
}

std::uint64_t SplitMix64::below(std::uint64_t bound) {
  const std::uint64_t threshold = (~bound + 1) % bound;  // 2^64 mod bound
  for (;;) {
    const std::uint64_t draw = (*this)();
    if (draw >= threshold) return draw % bound;
  }
}

double SplitMix64::uniform() { return static_cast<double>((*this)() >> 11) * 0x1.0p-53; }

double SplitMix64::normal() {
  const double radius = std::sqrt(-2.0 * std::log1p(-uniform()));
  return radius * std::cos(2.0 * std::numbers::pi * uniform());
}

}  // namespace drystone::core
