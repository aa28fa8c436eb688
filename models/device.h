#pragma once
// Which device computes.

#include <string_view>

#include <c10/core/Device.h>

namespace drystone::models {

/// `auto` (the first CUDA device if there is one, else the CPU), `cpu`, `cuda` (device 0) or
/// `cuda:N`.
/// @throws core::ConfigError  another word, no CUDA in this LibTorch or machine, or no such index
at::Device parse_device(std::string_view text);

}  // namespace drystone::models
