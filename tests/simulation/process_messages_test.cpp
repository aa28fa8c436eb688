#include "simulation/process_messages.h"

#include <doctest/doctest.h>

#include "core/error.h"

using namespace drystone;
using namespace drystone::simulation;

namespace {

SlotAnswer sample_answer() {
  client::Update update{.payload = {1, 2, 3},
                        .answer = {.manifest = {.round = 2,
                                                .client = "client-1",
                                                .base_version = 1,
                                                .payload_bytes = 3,
                                                .num_examples = 20,
                                                .num_steps = 4,
                                                .num_tokens = 100,
                                                .train_loss = 0.5,
                                                .method = "lora",
                                                .num_passes = 4},
                                   .base_head = {7},
                                   .seconds = 1.25}};
  return {.slot = 9,
          .clients = {{.update = std::move(update),
                       .memory = client::ClientMemory::Kept{.round = 2, .file = {4, 5}}},
                      {.failure = "the loss is not finite"},
                      {}}};
}

SlotOrder sample_order() {
  return {.slot = 9,
          .together = true,
          .plan = {.federation = "f0",
                   .round = 2,
                   .attempt = 1,
                   .base_version = 1,
                   .base_head = {7},
                   .seed = ~0ULL,
                   .start = "common"},
          .rounds = 5,
          .clients = {{.client = "client-1"},
                      {.client = "client-2",
                       .memory = client::ClientMemory::Kept{.round = 1, .file = {4, 5}}}}};
}

std::vector<ProcessMessage> samples() {
  return {PublishedVersion{.manifest = {.bytes = {1, 2}, .signature = {3}}, .payload = {4}},
          sample_order(), Ready{.host = "here", .device = "cpu", .num_workers = 3}, sample_answer(),
          Trouble{.host = "there", .reason = "no such file"}};
}

template <typename Message>
Message sent(const Message& message) {
  return std::get<Message>(decode_process_message(*encode(message)));
}

}  // namespace

TEST_CASE("process messages: an order arrives with all that a training depends on") {
  const SlotOrder order = sent(sample_order());
  CHECK(order.slot == 9);
  CHECK(order.together);
  CHECK(order.plan.federation == "f0");
  CHECK(order.plan.round == 2);
  CHECK(order.plan.attempt == 1);
  CHECK(order.plan.base_version == 1);
  CHECK(order.plan.base_head == core::Digest{7});
  CHECK(order.plan.seed == ~0ULL);
  CHECK(order.plan.start == "common");
  CHECK(order.rounds == 5);
  REQUIRE(order.clients.size() == 2);
  CHECK(order.clients[0].client == "client-1");
  CHECK_FALSE(order.clients[0].memory.has_value());
  CHECK(order.clients[1].memory->round == 1);
  CHECK(order.clients[1].memory->file == core::Bytes{4, 5});
}

TEST_CASE("process messages: an answer arrives with updates, failures and memories") {
  const SlotAnswer answer = sent(sample_answer());
  REQUIRE(answer.clients.size() == 3);
  const client::Update& update = answer.clients[0].update.value();
  CHECK(update.payload == core::Bytes{1, 2, 3});
  CHECK(update.answer.manifest.client == "client-1");
  CHECK(update.answer.manifest.train_loss == 0.5);
  CHECK(update.answer.base_head == core::Digest{7});
  CHECK(update.answer.seconds == 1.25);
  CHECK(answer.clients[0].memory->file == core::Bytes{4, 5});
  CHECK_FALSE(answer.clients[1].update.has_value());
  CHECK(answer.clients[1].failure == "the loss is not finite");
  CHECK(answer.clients[2].failure.empty());
}

TEST_CASE("process messages: what is cut off, too long or of no kind is refused") {
  for (const ProcessMessage& message : samples()) {
    CAPTURE(message.index());
    core::Bytes bytes = *encode(message);
    CHECK(decode_process_message(bytes).index() == message.index());
    for (std::size_t size = 0; size < bytes.size(); ++size) {
      CHECK_THROWS_AS(decode_process_message(core::ByteView(bytes).first(size)), core::Error);
    }
    bytes.push_back(0);
    CHECK_THROWS_AS(decode_process_message(bytes), core::Error);
    bytes[0] = 99;
    CHECK_THROWS_AS(decode_process_message(bytes), core::Error);
  }
}

TEST_CASE("process messages: a length that the message does not have allocates nothing") {
  core::Bytes bytes = *encode(Trouble{.host = "there", .reason = ""});
  for (std::size_t i = 8; i < 16; ++i) bytes[i] = 0xff;  // the host's length
  CHECK_THROWS_AS(decode_process_message(bytes), core::Error);
}
