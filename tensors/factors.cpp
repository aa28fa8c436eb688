#include "tensors/factors.h"

#include <ATen/ops/mm.h>

namespace drystone::tensors {

std::string_view scope_of(std::string_view name) {
  const bool is_scoped = name.starts_with(kStatistics) || name.starts_with(kMember);
  const std::size_t slash = name.find('/');
  return is_scoped && slash != std::string_view::npos ? name.substr(0, slash) : std::string_view();
}
namespace {

int64_t stored_bytes(const at::Tensor& tensor) { return static_cast<int64_t>(tensor.nbytes()); }

}  // namespace

at::Tensor Factors::product() const { return at::mm(b, a); }

int64_t FactorSet::num_bytes() const {
  int64_t total = 0;
  for (const auto& [name, factors] : modules)
    total += stored_bytes(factors.b) + stored_bytes(factors.a);
  for (const auto& [name, tensor] : dense) total += stored_bytes(tensor);
  return total;
}

}  // namespace drystone::tensors
