#include "client/update.h"

#include <cmath>
#include <utility>

#include "client/reveal.h"
#include "crypto/hash.h"
#include "tensors/factor_set_io.h"

namespace drystone::client {

namespace {

wire::UpdateManifest describe(const training::LocalResult& result, const core::Bytes& payload,
                              const wire::RoundPlan& plan, const UpdateTerms& terms) {
  return {.round = plan.round,
          .attempt = plan.attempt,
          .client = terms.client,
          .base_version = plan.base_version,
          .payload = crypto::sha256(payload),
          .payload_bytes = payload.size(),
          .num_examples = static_cast<std::uint64_t>(result.num_examples),
          .num_steps = static_cast<std::uint64_t>(result.num_steps),
          .num_tokens = static_cast<std::uint64_t>(result.num_tokens),
          .train_loss = result.train_loss,
          .method = terms.method,
          .num_passes = static_cast<std::uint64_t>(result.num_passes)};
}

}  // namespace

Update make_update(const training::LocalResult& result, const wire::RoundPlan& plan,
                   const UpdateTerms& terms) {
  core::Bytes payload = tensors::update_to_bytes(result.update);
  Answer answer{.manifest = describe(result, payload, plan, terms),
                .base_head = plan.base_head,
                .seconds = result.seconds};
  if (!terms.reveals_everything) {
    answer.manifest = coarse(std::move(answer.manifest));
    answer.seconds = std::round(answer.seconds);
  }
  return {std::move(payload), std::move(answer)};
}

}  // namespace drystone::client
