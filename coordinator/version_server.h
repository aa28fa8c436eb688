#pragma once
// Answers clients' Wants: ranges of published payloads, and of nothing else.

#include <deque>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <utility>

#include "coordinator/store.h"
#include "core/clock.h"
#include "core/error.h"
#include "wire/token_bucket.h"
#include "wire/transport.h"

namespace drystone::coordinator {

/// What comes too fast, or cannot be read for the moment, waits and is answered later. Not
/// thread-safe; the arguments outlive it.
class VersionServer {
 public:
  VersionServer(Store& store, wire::ServerTransport& transport, const core::Clock& clock)
      : store_(store), transport_(transport), clock_(clock) {}

  /// Refuses a blob that no version consists of, a range beyond its end, and more ranges than may
  /// be outstanding.
  core::Expected<void> take(const std::string& client, const wire::Want& want);

  /// When answer_deferred() is due; std::nullopt: nothing waits.
  std::optional<core::Instant> due() const { return due_; }
  /// @param refuse  told of each that is no longer to be answered
  void answer_deferred(
      const std::function<void(const std::string& client, const core::Failure&)>& refuse);

 private:
  core::Expected<void> defer(const std::string& client, const wire::Want& want);
  void tell_unreadable(const core::IoError& error);

  Store& store_;
  wire::ServerTransport& transport_;
  const core::Clock& clock_;
  std::map<std::string, wire::TokenBucket> rates_;
  std::deque<std::pair<std::string, wire::Want>> deferred_;
  std::optional<core::Instant> due_;
  std::optional<core::Instant> told_unreadable_;
};

}  // namespace drystone::coordinator
