#pragma once
// The value type for ordinary trouble: a peer's bad bytes, a late update, a client that dropped.

#include <string>

#include <tl/expected.hpp>

namespace drystone::core {

/// Why a peer's message or update was refused. The names (see `name`) appear in reports and in the
/// answer that the client gets; they are part of the contract.
enum class Refusal {
  MalformedFrame,   ///< not a message of ours, or a field out of range
  TooLarge,         ///< claims or carries more bytes than the plan allows
  UnknownClient,    ///< key not in the roster, or claims another client's name
  WrongRole,        ///< e.g. an evaluator that uploads an update
  BadSignature,     ///< Ed25519 signature does not verify over this round's transcript
  RoundClosed,      ///< no such round is open
  NotInCohort,      ///< the client was not asked in this round
  Replay,           ///< this client's update of this round was already accepted
  WrongBase,        ///< trained from a version that the plan does not allow, or another base model
  PlanMismatch,     ///< module names, shapes, dtypes or parts differ from the plan
  RankAboveQuota,   ///< more rank than the roster grants this client
  PayloadMismatch,  ///< bytes do not hash to what was signed, or are truncated
  NotFinite,        ///< NaN or infinity in a factor or dense part
  BadGauge,         ///< columns of B and rows of A so unbalanced that the product hides an overflow
  ExamplesAboveCap,  ///< claims more examples than the roster allows, or none
  Timeout,           ///< the deadline passed first
  NormAboveBound,  ///< a module's or dense part's change is larger than aggregation.max_norm allows
  TooMany,         ///< more messages or bytes than one peer may have under way
  LocalFailure,    ///< the refusing side's own trouble: its disk, its memory
  Superseded,      ///< another process with the same key has taken the connection over
  PlanRefused,     ///< a client's own contract does not allow what the coordinator asks
  SettingsDiffer,  ///< a client's training settings are not those that the plan names for it
  TrainingFailed,  ///< a client's training ended without an update
};

/// Stable kebab-case name of a refusal, e.g. "bad-signature".
std::string name(Refusal refusal);

struct Failure {
  Refusal code;
  std::string detail;  ///< one line with the offending numbers; never key material or training text
};

template <typename T>
using Expected = tl::expected<T, Failure>;

inline tl::unexpected<Failure> refuse(Refusal code, std::string detail) {
  return tl::make_unexpected(Failure{code, std::move(detail)});
}

}  // namespace drystone::core
