#pragma once
// The places in a model that one adapter takes.

#include <utility>
#include <vector>

#include "models/linear.h"

namespace drystone::adapters {

/// Takes all of its places or none. Linears and layers must be alive while they are taken.
class Slots {
 public:
  Slots() = default;
  ~Slots() { leave(); }
  Slots(const Slots&) = delete;
  Slots& operator=(const Slots&) = delete;

  /// Before they are taken.
  void add(models::Linear& linear, models::LinearAdapter& layer) {
    places_.emplace_back(&linear, &layer);
  }
  /// Puts every layer into its linear. Again: nothing happens.
  /// @throws core::InvalidArgument  another adapter is in one of them; none was touched
  void take();
  /// Leaves the linears plain, if they were taken.
  void leave();

 private:
  std::vector<std::pair<models::Linear*, models::LinearAdapter*>> places_;
  bool taken_ = false;
};

}  // namespace drystone::adapters
