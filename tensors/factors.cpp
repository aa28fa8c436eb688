#include "tensors/factors.h"

#include <ATen/ops/mm.h>

namespace drystone::tensors {

std::string_view scope_of(std::string_view name) {
  const bool is_scoped = name.starts_with(kStatistics) || name.starts_with(kMember);
  const std::size_t slash = name.find('/');
  return is_scoped && slash != std::string_view::npos ? name.substr(0, slash) : std::string_view();
}
namespace {

int64_t bytes_of(const at::Tensor& tensor) { return static_cast<int64_t>(tensor.nbytes()); }

}  // namespace

at::Tensor Factors::product() const { return at::mm(b, a); }

int64_t FactorSet::num_bytes() const {
  int64_t total = 0;
  for (const auto& [name, factors] : modules) total += bytes_of(factors.b) + bytes_of(factors.a);
  for (const auto& [name, tensor] : dense) total += bytes_of(tensor);
  return total;
}

}  // namespace drystone::tensors
