#pragma once
// Bounds on everything that comes from the network; each names the attack that it stops.

#include <chrono>
#include <cstdint>

#include "wire/token_bucket.h"

namespace drystone::wire {

/// A header frame: stops a claim of gigabytes before anything is allocated for it.
inline constexpr std::uint64_t kMaxHeaderBytes = 1 << 20;
/// Most data in one Chunk, and so the memory that one peer's frame can cost.
inline constexpr std::uint64_t kMaxChunkBytes = 1 << 20;
/// Ranges that may be outstanding for one transfer: the credit window.
inline constexpr std::uint64_t kMaxOutstandingChunks = 4;
/// Bytes of one message of many frames, which the transport assembles before anybody can count
/// them: more than the queue's 32 messages of one chunk each, so that honest peers never come near
/// it.
inline constexpr std::uint64_t kMaxUnfinishedBytes = 64 << 20;
/// Names of clients, methods, metrics: stops log and database bloat.
inline constexpr std::uint64_t kMaxNameBytes = 128;
/// Free text (details of a refusal).
inline constexpr std::uint64_t kMaxTextBytes = 1024;
/// Clients in a cohort: a plan with that many 32-character names still fits kMaxSignedBytes.
inline constexpr std::uint64_t kMaxCohort = 16'384;
/// A client's training settings beside a plan: both fit one header frame.
inline constexpr std::uint64_t kMaxSettingsBytes = 1 << 17;
/// Manifests in one Catalog; a client that lacks more asks again.
inline constexpr std::uint64_t kMaxCatalog = 1024;
/// Metrics in one evaluation.
inline constexpr std::uint64_t kMaxMetrics = 64;
/// A plan, manifest or evaluation inside a Signed.
inline constexpr std::uint64_t kMaxSignedBytes = 3 << 18;
/// A roster change, which names one party.
inline constexpr std::uint64_t kMaxRosterChangeBytes = 4 << 10;

// ---- what one key may cost the coordinator ------------------------------------------------------

/// Messages of one client but blobs: floods of them fill logs, reports and the loop. A round takes
/// three, and cannot be over in less than some fsyncs.
inline constexpr Rate kMessageRate = {.burst = 2000, .per_second = 500};
/// Ranges that one client asks for: each costs a read of up to kMaxChunkBytes.
inline constexpr Rate kWantRate = {.burst = 256, .per_second = 2000};
/// Joins of one client that are logged and recorded.
inline constexpr Rate kToldJoinRate = {.burst = 5, .per_second = 0.1};
/// Handshakes with one key.
inline constexpr Rate kHandshakeRate = {.burst = 20, .per_second = 1};
/// Connections that have not spoken yet, whoever they are: beyond it some are closed. Less where
/// there are few descriptors.
inline constexpr std::uint64_t kMaxSilentConnections = 256;
/// After which a connection that has not spoken is closed.
inline constexpr std::chrono::seconds kSilencePatience{20};
/// Descriptors that connections leave to files.
inline constexpr std::uint64_t kReservedDescriptors = 64;
/// Bytes of one connection that arrived and were not taken yet: a message of many frames is whole
/// before ZeroMQ hands it over, and nothing else bounds it.
inline constexpr std::uint64_t kMaxBytesInFlight = 16 << 20;
/// The same before a connection's first message.
inline constexpr std::uint64_t kMaxSilentBytes = 1 << 20;

}  // namespace drystone::wire
