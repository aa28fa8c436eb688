#pragma once
// Seeded well-formed messages of every kind.

#include <string>
#include <vector>

#include "core/seed.h"
#include "wire/messages.h"
#include "wire/roster_change.h"

namespace drystone::test {

core::Digest sample_digest(core::SplitMix64& random);
core::Bytes sample_bytes(core::SplitMix64& random, std::size_t size);
std::string sample_name(core::SplitMix64& random);

wire::RoundPlan sample_plan(core::SplitMix64& random);
wire::UpdateManifest sample_update(core::SplitMix64& random);
wire::VersionManifest sample_version(core::SplitMix64& random);
wire::EvaluationManifest sample_evaluation(core::SplitMix64& random);
wire::RosterMark sample_roster_mark(core::SplitMix64& random);
wire::RosterChange sample_roster_change(core::SplitMix64& random);

/// One message of every alternative, in the variant's order.
std::vector<wire::Message> sample_messages(std::uint64_t seed);

/// One signed encoding of every kind: plan, update, version, evaluation, roster change.
std::vector<core::Bytes> sample_encodings(std::uint64_t seed);

}  // namespace drystone::test
