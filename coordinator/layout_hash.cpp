#include "coordinator/layout_hash.h"

#include "crypto/hash.h"

namespace drystone::coordinator {

core::Digest layout_hash(const aggregation::AdapterLayout& layout) {
  aggregation::AdapterLayout coarse = layout;
  for (auto& [name, norm] : coarse.norms) norm = static_cast<float>(norm);
  return crypto::sha256(core::as_bytes(aggregation::to_json(coarse)));
}

}  // namespace drystone::coordinator
