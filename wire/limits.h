#pragma once
// Bounds on everything that comes from the network; each names the attack that it stops.

#include <cstdint>

namespace drystone::wire {

/// A header frame: stops a claim of gigabytes before anything is allocated for it.
inline constexpr std::uint64_t kMaxHeaderBytes = 1 << 20;
/// Most data in one Chunk, and so the memory that one peer's frame can cost.
inline constexpr std::uint64_t kMaxChunkBytes = 1 << 20;
/// Ranges that may be outstanding for one transfer: the credit window.
inline constexpr std::uint64_t kMaxOutstandingChunks = 4;
/// Names of clients, methods, metrics: stops log and database bloat.
inline constexpr std::uint64_t kMaxNameBytes = 128;
/// Free text (details of a refusal).
inline constexpr std::uint64_t kMaxTextBytes = 1024;
/// Clients in a cohort: a plan with that many 32-character names still fits kMaxSignedBytes.
inline constexpr std::uint64_t kMaxCohort = 16'384;
/// Manifests in one Catalog; a client that lacks more asks again.
inline constexpr std::uint64_t kMaxCatalog = 1024;
/// Metrics in one evaluation.
inline constexpr std::uint64_t kMaxMetrics = 64;
/// A plan, manifest or evaluation inside a Signed.
inline constexpr std::uint64_t kMaxSignedBytes = 3 << 18;

}  // namespace drystone::wire
