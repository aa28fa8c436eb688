#pragma once
// What a safetensors header says about one tensor.

#include <cstdint>
#include <vector>

#include <c10/core/ScalarType.h>

namespace drystone::tensors {

struct TensorInfo {
  at::ScalarType dtype = at::ScalarType::Float;
  std::vector<int64_t> shape;
  std::uint64_t begin = 0;  ///< first byte, counted from the start of the data
  std::uint64_t end = 0;    ///< one past the last byte
};

}  // namespace drystone::tensors
