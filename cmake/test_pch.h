#pragma once
// Precompiled for tests, beside pch.h.

// clang-format off: LibTorch has a CHECK of its own, and doctest's must come last
#include "cmake/pch.h"
#include <nlohmann/json.hpp>
#include <doctest/doctest.h>
// clang-format on
