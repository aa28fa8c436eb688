#pragma once
// Bytes that are wiped when they die, move but never copy, and have no way into a log.

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

 private:
  void wipe() noexcept;
  core::Bytes bytes_;
};

}  // namespace drystone::crypto
