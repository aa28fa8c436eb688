#pragma once
// A run that is stopped in its middle.

#include <stop_token>

#include "coordinator/observer.h"

namespace drystone::test {

/// Asks for a stop as soon as a version is published.
class StopAfterFirstVersion final : public coordinator::Observer {
 public:
  void on_published(const coordinator::RoundReport&) override { source.request_stop(); }
  std::stop_source source;
};

}  // namespace drystone::test
