#pragma once
// Whether a round's plan is what the coordinator signed.

#include <memory>

#include "crypto/key_pairs.h"
#include "wire/messages.h"

namespace drystone::client {

struct CheckedPlan : wire::RoundPlan {
  core::Digest transcript{};  ///< T_r, of the bytes that were signed
};
using PlanPtr = std::shared_ptr<const CheckedPlan>;

/// @throws core::Error  it is not signed by `signer`, or not readable
PlanPtr check_plan(const wire::Signed& plan, const crypto::PublicKey& signer);

/// Remembers the newest, for sessions of one process that one coordinator asks: a plan names its
/// whole cohort.
class CheckedPlans {
 public:
  /// As check_plan, which looks at the same bytes and signature once.
  PlanPtr check(const wire::Signed& plan, const crypto::PublicKey& signer);

 private:
  wire::Signed known_;
  PlanPtr plan_;
};

}  // namespace drystone::client
