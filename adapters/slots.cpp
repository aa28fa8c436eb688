#include "adapters/slots.h"

#include "core/check.h"

namespace drystone::adapters {

void Slots::take() {
  if (taken_) return;
  for (const auto& [linear, layer] : places_) {
    core::require(linear->adapter == nullptr,
                  "attach: " + linear->name + " already has an adapter");
  }
  for (const auto& [linear, layer] : places_) linear->adapter = layer;
  taken_ = true;
}

void Slots::leave() {
  if (!taken_) return;
  for (const auto& [linear, layer] : places_) linear->adapter = nullptr;
  taken_ = false;
}

}  // namespace drystone::adapters
