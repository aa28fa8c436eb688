#include "client/plan_check.h"

#include <utility>

#include "client/contract.h"
#include "crypto/identity.h"

namespace drystone::client {

PlanPtr check_plan(const wire::Signed& plan, const crypto::PublicKey& signer) {
  constexpr core::Digest kNoContext{};
  if (!crypto::verify(signer, "plan", kNoContext, plan.bytes, plan.signature)) {
    distrust("a plan is not signed by the coordinator's key");
  }
  auto decoded = wire::decode_plan(plan.bytes);
  if (!decoded) distrust("unreadable plan: " + decoded.error().detail);
  return std::make_shared<CheckedPlan>(
      CheckedPlan{std::move(*decoded), wire::transcript(plan.bytes)});
}

PlanPtr CheckedPlans::check(const wire::Signed& plan, const crypto::PublicKey& signer) {
  const bool is_known =
      plan_ != nullptr && plan.signature == known_.signature && plan.bytes == known_.bytes;
  if (!is_known) {
    plan_ = check_plan(plan, signer);
    known_ = plan;
  }
  return plan_;
}

}  // namespace drystone::client
