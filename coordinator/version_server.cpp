#include "coordinator/version_server.h"

#include <algorithm>

#include "core/error.h"
#include "core/log.h"
#include "wire/blob_transfer.h"
#include "wire/limits.h"

namespace drystone::coordinator {

using core::Refusal;

namespace {

constexpr core::Instant kDeferral = std::chrono::milliseconds(100);
constexpr core::Instant kRepeatsTrouble = std::chrono::minutes(1);

}  // namespace

core::Expected<void> VersionServer::take(const std::string& client, const wire::Want& want) {
  if (!rates_.try_emplace(client, wire::kWantRate).first->second.allows(clock_.now())) {
    return defer(client, want);
  }
  try {
    if (!store_.is_published(want.blob)) {  // one client's update is no other client's business
      return core::refuse(Refusal::PayloadMismatch,
                          "no published payload " + core::to_hex(want.blob).substr(0, 12));
    }
    auto chunk = wire::answer(store_.blobs(), want);
    if (!chunk && !store_.blobs().contains(want.blob)) {
      throw core::IoError(store_.blobs().path(want.blob).string() +
                          ": a published version is missing or damaged");
    }
    if (!chunk) return tl::make_unexpected(std::move(chunk.error()));
    transport_.send(client, std::move(*chunk));
  } catch (const core::IoError& error) {
    tell_unreadable(error);
    return defer(client, want);
  }
  return {};
}

void VersionServer::tell_unreadable(const core::IoError& error) {
  if (told_unreadable_ && clock_.now() - *told_unreadable_ < kRepeatsTrouble) return;
  told_unreadable_ = clock_.now();
  core::log_error("clients wait for a file that cannot be read: restore it from a copy",
                  {{"reason", error.what()}});
}

// A receiver has only so many ranges outstanding; whoever keeps to that loses none.
core::Expected<void> VersionServer::defer(const std::string& client, const wire::Want& want) {
  const auto waiting =
      std::ranges::count(deferred_, client, &std::pair<std::string, wire::Want>::first);
  if (static_cast<std::uint64_t>(waiting) >= wire::kMaxOutstandingChunks) {
    return core::refuse(Refusal::TooMany, "more ranges than may be outstanding");
  }
  deferred_.emplace_back(client, want);
  if (!due_) due_ = clock_.now() + kDeferral;
  return {};
}

void VersionServer::answer_deferred(
    const std::function<void(const std::string& client, const core::Failure&)>& refuse) {
  due_.reset();
  for (const auto& [client, want] : std::exchange(deferred_, {})) {
    if (const auto taken = take(client, want); !taken) refuse(client, taken.error());
  }
}

}  // namespace drystone::coordinator
