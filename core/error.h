#pragma once
// Exceptions for caller's bugs, broken environments and bad configuration. What a healthy
// federation meets on an ordinary day is a value instead: see core/expected.h.

#include <stdexcept>
#include <string>

namespace drystone::core {

/// Root of every exception that Drystone throws on purpose. Messages are one line:
/// `FILE:LINE or key or client: what is wrong; what to do`.
class Error : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

/// The caller passed something that the function's contract excludes.
class InvalidArgument : public Error {
 public:
  using Error::Error;
};

/// Drystone's own invariant does not hold: a bug here, never the user's fault.
class InvariantError : public Error {
 public:
  using Error::Error;
};

/// A file, socket or database failed or holds something unreadable.
class IoError : public Error {
 public:
  using Error::Error;
};

/// A cryptographic operation failed or a signature does not verify where it must.
class CryptoError : public Error {
 public:
  using Error::Error;
};

/// Wrong usage or configuration: programs exit with status 2.
class ConfigError : public Error {
 public:
  using Error::Error;
};

}  // namespace drystone::core
