#pragma once
// Llamas of well-known shapes with random weights, made where they are used: nothing is read from
// files, and no weight is held twice.

#include <cstdint>
#include <string>
#include <vector>

#include <c10/core/Device.h>
#include <c10/core/ScalarType.h>

#include "models/load.h"

namespace drystone::group_bench {

struct LlamaShape {
  std::string name;
  std::int64_t vocabulary = 0;
  std::int64_t hidden = 0;
  std::int64_t layers = 0;
  std::int64_t heads = 0;
  std::int64_t kv_heads = 0;
  std::int64_t wide = 0;

  /// Of all matrices that each token is multiplied by: the linear layers and the head.
  std::int64_t num_product_weights() const;
};

std::vector<std::string> shape_names();
/// @throws core::ConfigError  another name
LlamaShape find_shape(const std::string& name);

/// With a head of its own. Equal arguments give equal weights on one kind of device.
models::Base random_llama(const LlamaShape& shape, at::ScalarType dtype, at::Device device);

}  // namespace drystone::group_bench
