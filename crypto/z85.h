#pragma once
// Z85 (ZeroMQ RFC 32): four bytes as five printable characters; how CURVE keys are written down.

#include <string>

#include "core/bytes.h"

namespace drystone::crypto {

/// @throws core::InvalidArgument  the number of bytes is not a multiple of 4
std::string z85_encode(core::ByteView bytes);

}  // namespace drystone::crypto
