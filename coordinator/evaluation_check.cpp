#include "coordinator/evaluation_check.h"

#include <string_view>

#include "core/text.h"

namespace drystone::coordinator {

using core::Refusal;
using core::refuse;

namespace {

/// An evaluator chooses the names of its metrics; some would be taken for the line's own fields.
bool is_metric_name(const std::string& name) {
  constexpr std::string_view kAllowed =
      "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.@-";
  return !name.empty() && name.find_first_not_of(kAllowed) == std::string::npos &&
         name != "event" && name != "version" && name != "client";
}

}  // namespace

core::Expected<StoredEvaluation> check_evaluation(const std::string& client,
                                                  const crypto::RosterEntry& sender,
                                                  const wire::Signed& evaluation,
                                                  const RoundMachine& machine, const Store& store) {
  if (sender.role != crypto::Role::Evaluate) {
    return refuse(Refusal::WrongRole, client + " may train, not evaluate");
  }
  auto manifest = wire::decode_evaluation(evaluation.bytes);
  if (!manifest) return tl::make_unexpected(std::move(manifest.error()));
  if (manifest->client != client) {
    return refuse(Refusal::UnknownClient, "signed as " + manifest->client + ", sent by " + client);
  }
  for (const auto& [name, value] : manifest->metrics) {
    if (is_metric_name(name)) continue;
    return refuse(Refusal::MalformedFrame, "a metric of the name " + core::quote(name));
  }
  if (machine.is_evaluated(manifest->version, client)) {
    return refuse(Refusal::Replay,
                  "version " + std::to_string(manifest->version) + " is evaluated already");
  }
  const auto versions = store.versions(manifest->version, 1);
  const auto version = versions.empty() ? refuse(Refusal::WrongBase, "")
                                        : wire::decode_version(versions.front().bytes);
  if (!version || version->version != manifest->version ||
      !crypto::verify(sender.identity.signing, "evaluation", version->head, evaluation.bytes,
                      evaluation.signature)) {
    return refuse(Refusal::BadSignature, "evaluation is not signed for a published version");
  }
  return StoredEvaluation{.version = manifest->version,
                          .client = client,
                          .metrics = std::move(manifest->metrics),
                          .evidence = evaluation,
                          .signer = sender.identity.signing};
}

}  // namespace drystone::coordinator
