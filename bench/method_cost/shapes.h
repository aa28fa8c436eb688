#pragma once
// The models on which methods are timed: random weights, no dropout, nothing read from files.

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include <c10/core/Device.h>

#include "models/load.h"
#include "models/model.h"

namespace drystone::method_cost {

/// A model and what one training step of it sees.
class Shape {
 public:
  virtual ~Shape() = default;
  virtual std::string about() const = 0;
  /// An instance of its own on weights that all instances share.
  virtual std::unique_ptr<models::Model> model() const = 0;
  virtual models::Batch batch(std::uint64_t seed) const = 0;
};

std::vector<std::string> shape_names();
/// @param device  of the weights @throws core::ConfigError  another name
std::unique_ptr<Shape> make_shape(const std::string& name, at::Device device);

}  // namespace drystone::method_cost
