#include "client/coordinator_watch.h"

#include "core/error.h"
#include "core/log.h"
#include "core/text.h"

namespace drystone::client {

void CoordinatorWatch::update(bool is_connected, core::Instant now,
                              const std::function<std::string()>& why) {
  if (is_connected) {
    if (!was_connected_) core::log_info("connected", {{"coordinator", settings_.address}});
    was_connected_ = true;
    return;
  }
  if (was_connected_) {
    was_connected_ = false;
    since_ = told_ = now;
    core::log_warning("connection to the coordinator lost, trying again",
                      {{"coordinator", settings_.address}});
  }
  const bool is_over =
      settings_.give_up_after > core::Instant{} && now - since_ >= settings_.give_up_after;
  if (is_over) {
    throw core::Error(settings_.client + ": no coordinator at " + settings_.address + " for " +
                      core::format_duration(std::chrono::duration<double>(now - since_).count()) +
                      " (" + why() + "); gave up, as client.give_up_after says");
  }
  if (now - told_ >= kInterval) tell(now, why());
}

void CoordinatorWatch::tell(core::Instant now, const std::string& why) {
  told_ = now;
  const std::string time =
      core::format_duration(std::chrono::duration<double>(now - since_).count());
  core::log_warning("no coordinator: is the address right, and does it still run?",
                    {{"client", settings_.client},
                     {"coordinator", settings_.address},
                     {"for", time},
                     {"reason", why}});
}

}  // namespace drystone::client
