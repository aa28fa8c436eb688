#pragma once
// Bytes that are wiped when they die, move but never copy, and have no way into a log.

#include <string>
#include <utility>

#include "core/bytes.h"

namespace drystone::crypto {

class SecretBytes {
 public:
  SecretBytes() = default;
  explicit SecretBytes(core::Bytes bytes) : bytes_(std::move(bytes)) {}
  ~SecretBytes() { wipe(); }
  SecretBytes(const SecretBytes&) = delete;
  SecretBytes& operator=(const SecretBytes&) = delete;
  SecretBytes(SecretBytes&& other) noexcept : bytes_(std::move(other.bytes_)) {}
  SecretBytes& operator=(SecretBytes&& other) noexcept;

  core::ByteView view() const { return bytes_; }
  /// A copy of its own, where two owners need one (a transport keeps its CURVE secret).
  SecretBytes clone() const { return SecretBytes(bytes_); }

 private:
  void wipe() noexcept;
  core::Bytes bytes_;
};

/// Overwrites a text that held a secret; the compiler cannot drop the write.
void wipe(std::string& text) noexcept;

/// Compares without telling by its duration where two secrets or tags differ. Lengths are public.
bool equal_constant_time(core::ByteView a, core::ByteView b);

}  // namespace drystone::crypto
