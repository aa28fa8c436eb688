#pragma once
// Precompiled: the slim LibTorch headers that nearly every tensor file needs. A convenience only:
// sources still include what they use (the asan preset builds without it).

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include <ATen/TensorOperators.h>
#include <ATen/core/Tensor.h>
#include <ATen/core/grad_mode.h>
