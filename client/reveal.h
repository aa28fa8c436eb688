#pragma once
// client.reveal = "minimal": what a client tells beside its factors, as coarse as the protocol
// allows. At batch size 1 a step's loss and tokens are those of one text, and a shard's exact size
// tells when a text came or went.

#include <cstdint>

#include "wire/messages.h"

namespace drystone::client {

/// Rounded down to two significant digits: 153 → 150.
std::uint64_t coarse_count(std::uint64_t count);

/// Whole percents of the way, nothing else.
wire::Progress coarse(const wire::Progress& progress);

/// Coarse counts (the weight is one of them), the loss to one decimal, no passes.
wire::UpdateManifest coarse(wire::UpdateManifest manifest);

}  // namespace drystone::client
