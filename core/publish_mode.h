#pragma once
// How a published version changes the global model.

#include <cstdint>

namespace drystone::core {

enum class PublishMode : std::uint8_t {
  Add,      ///< factors are added to what went before (stacking)
  Replace,  ///< factors replace all earlier ones (averaging rules); dense parts still add
};

}  // namespace drystone::core
