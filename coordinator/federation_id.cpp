#include "coordinator/federation_id.h"

#include "core/bytes.h"
#include "crypto/hash.h"

namespace drystone::coordinator {

std::string federation_id(const core::Config& config) {
  return core::to_hex(crypto::sha256(core::as_bytes(core::semantic_text(config))));
}

}  // namespace drystone::coordinator
