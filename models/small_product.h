#pragma once
// oneDNN's small matrix products on parts of float32 matrices, for the bodies of attention.

#include <cstdint>
#include <vector>

#include <ATen/core/Tensor.h>
#include <ATen/native/CPUBlas.h>

#include "core/check.h"

namespace drystone::models {

/// c [m, n] = a [m, k] · b [k, n], row-major parts of larger matrices: x_stride from row to row.
/// Only where can_attend_by_rows says that the kernels work.
struct SmallProduct {
  std::int64_t m, n, k;
  std::int64_t a_stride, b_stride, c_stride;
  bool adds = false;  ///< c += instead of c =

  void run([[maybe_unused]] const float* a, [[maybe_unused]] const float* b,
           [[maybe_unused]] float* c) const {
#if defined(CPUBLAS_BRGEMM_F32F32F32)
    at::native::cpublas::brgemm(m, n, k, a_stride, b_stride, c_stride, adds, a, b, c,
                                /*is_vnni=*/false);
#else
    core::ensure(false, "attention: this LibTorch has no small kernels");
#endif
  }
};

/// What the kernels take of q, k and v.
inline std::vector<at::Tensor> in_float(const std::vector<at::Tensor>& qkv) {
  return {qkv[0].to(at::kFloat), qkv[1].to(at::kFloat), qkv[2].to(at::kFloat)};
}

}  // namespace drystone::models
