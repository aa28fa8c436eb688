#pragma once
// Included before Cap'n Proto 0.9's headers where Clang compiles: they compare a `const char*` with
// a kj::StringPtr, which since P2468 (Clang 16) no operator of its own fits.

#include <kj/string.h>

namespace kj {

// Both sides a StringPtr: C++20 would turn `b == a` into this very operator.
inline bool operator==(const char* a, const StringPtr& b) { return b == StringPtr(a); }
inline bool operator!=(const char* a, const StringPtr& b) { return !(a == b); }

}  // namespace kj
