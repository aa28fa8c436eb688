#pragma once
// Reads the JSON fixtures beside the tests.

#include <fstream>
#include <string>
#include <vector>

#include <ATen/ops/tensor.h>
#include <nlohmann/json.hpp>

namespace drystone::test {

inline nlohmann::json read_fixture(const std::string& name) {
  std::ifstream file(std::string(DRYSTONE_SOURCE_DIR) + "/tests/adapters/fixtures/" + name);
  return nlohmann::json::parse(file);
}

/// {"shape": […], "values": […]} as fp32.
inline at::Tensor to_tensor(const nlohmann::json& json) {
  return at::tensor(json.at("values").get<std::vector<float>>())
      .view(json.at("shape").get<std::vector<std::int64_t>>());
}

}  // namespace drystone::test
