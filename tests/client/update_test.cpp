#include "client/update.h"

#include <doctest/doctest.h>

#include "crypto/hash.h"
#include "tests/client/scripted_coordinator.h"

namespace drystone::client {
namespace {

TEST_CASE("update: the payload is the factors', and the answer tells as much as the client wants") {
  training::LocalResult result{.num_examples = 153, .num_steps = 2, .train_loss = 1.234};
  result.update.modules[test::kQuery] = {at::full({16, 1}, 0.5), at::full({1, 12}, 0.1)};
  result.seconds = 1.7;
  const wire::RoundPlan plan = [] {
    test::ScriptedCoordinator coordinator;
    coordinator.publish_initial();
    return coordinator.plan();
  }();
  const Update open = make_update(result, plan, {.client = "c", .method = "lora"});
  CHECK(open.payload == tensors::update_to_bytes(result.update));
  CHECK(open.answer.manifest.payload == crypto::sha256(open.payload));
  CHECK(open.answer.manifest.payload_bytes == open.payload.size());
  CHECK(open.answer.manifest.round == plan.round);
  CHECK(open.answer.manifest.num_examples == 153);
  CHECK(open.answer.base_head == plan.base_head);
  CHECK(open.answer.seconds == 1.7);

  const Update shy =
      make_update(result, plan, {.client = "c", .method = "lora", .reveals_everything = false});
  CHECK(shy.payload == open.payload);
  CHECK(shy.answer.manifest.num_examples == 150);
  CHECK(shy.answer.manifest.train_loss == 1.2);
  CHECK(shy.answer.seconds == 2.0);
}

}  // namespace
}  // namespace drystone::client
