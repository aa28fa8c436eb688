#pragma once
// The examples that a bi-level method sets apart.

#include "core/seed.h"
#include "data/dataset.h"

namespace drystone::training {

struct SplitExamples {
  data::Dataset training;  ///< lower level
  data::Dataset held_out;  ///< upper level; no example is in both
};

/// A keyed random split. Fewer than five examples give both parts all of them, with a warning.
/// @param share  of the examples that are held out, in (0, 1); at least one is
/// @param key    by convention {seed, 0, client, "held-out"}: the same split in every round
SplitExamples hold_out(const data::Dataset& examples, double share, const core::StreamKey& key);

}  // namespace drystone::training
