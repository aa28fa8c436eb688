#include "core/expected.h"

#include "core/error.h"

namespace drystone::core {

std::string name(Refusal refusal) {
  switch (refusal) {
    case Refusal::MalformedFrame: return "malformed-frame";
    case Refusal::TooLarge: return "too-large";
    case Refusal::UnknownClient: return "unknown-client";
    case Refusal::WrongRole: return "wrong-role";
    case Refusal::BadSignature: return "bad-signature";
    case Refusal::RoundClosed: return "round-closed";
    case Refusal::NotInCohort: return "not-in-cohort";
    case Refusal::Replay: return "replay";
    case Refusal::WrongBase: return "wrong-base";
    case Refusal::PlanMismatch: return "plan-mismatch";
    case Refusal::RankAboveQuota: return "rank-above-quota";
    case Refusal::PayloadMismatch: return "payload-mismatch";
    case Refusal::NotFinite: return "not-finite";
    case Refusal::BadGauge: return "bad-gauge";
    case Refusal::ExamplesAboveCap: return "examples-above-cap";
    case Refusal::Timeout: return "timeout";
    case Refusal::NormAboveBound: return "norm-above-bound";
    case Refusal::TooMany: return "too-many";
    case Refusal::LocalFailure: return "local-failure";
    case Refusal::Superseded: return "superseded";
    case Refusal::PlanRefused: return "plan-refused";
    case Refusal::SettingsDiffer: return "settings-differ";
    case Refusal::TrainingFailed: return "training-failed";
  }
  throw InvariantError("name: unknown Refusal");
}

}  // namespace drystone::core
