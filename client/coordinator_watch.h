#pragma once
// Says that a client reaches nobody: address, time and reason, soon after the start, at once when a
// connection is lost, and then every minute; and when to give up.

#include <chrono>
#include <functional>
#include <string>

#include "core/clock.h"

namespace drystone::client {

class CoordinatorWatch {
 public:
  static constexpr core::Instant kInterval = std::chrono::minutes(1);
  static constexpr core::Instant kFirst = std::chrono::seconds(5);  ///< after the start

  struct Settings {
    std::string client;
    std::string address;
    core::Instant give_up_after{};  ///< without a connection; 0: never
  };

  CoordinatorWatch(Settings settings, core::Instant now)
      : settings_(std::move(settings)), since_(now), told_(now - kInterval + kFirst) {}

  /// To be called now and then.
  /// @param why  asked for only when it is told
  /// @throws core::Error  time to give up
  void update(bool is_connected, core::Instant now, const std::function<std::string()>& why);

 private:
  void tell(core::Instant now, const std::string& why);

  Settings settings_;
  bool was_connected_ = false;
  core::Instant since_;  ///< there is no connection
  core::Instant told_;
};

}  // namespace drystone::client
