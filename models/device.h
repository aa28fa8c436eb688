#pragma once
// Which device computes.

#include <cstdint>
#include <string_view>

#include <ATen/core/Tensor.h>
#include <c10/core/Device.h>

namespace drystone::models {

/// `auto` (the first CUDA device if there is one, else the CPU), `cpu`, `cuda` (device 0) or
/// `cuda:N`. With a CUDA device attention goes without cuDNN from now on, in the whole process.
/// @throws core::ConfigError  another word, no CUDA in this LibTorch or machine, or no such index
at::Device parse_device(std::string_view text);

/// A CPU tensor on `device`: to a GPU by way of pinned memory and without waiting, so that the
/// queue of kernels does not run dry. On the CPU the tensor itself.
at::Tensor send(const at::Tensor& tensor, at::Device device);

/// The most bytes that tensors on a GPU have taken at once; of the CPU, that the process has.
std::uint64_t peak_memory(at::Device device);

/// Whether bfloat16 products have instructions of their own there: without them they are slower
/// than float32's.
bool has_fast_bfloat16(at::Device device);

}  // namespace drystone::models
