#include "coordinator/round_ledger.h"

#include <chrono>

#include <doctest/doctest.h>

#include "core/config.h"

using namespace drystone;
using namespace std::chrono_literals;
using coordinator::RoundLedger;

namespace {

/// A round of two, of whom the second has thrice the examples.
coordinator::OpenRound round_of_two() {
  coordinator::OpenRound round{.plan = {.round = 1, .cohort = {"client-1", "client-2"}},
                               .accepted = {}};
  for (const std::uint64_t number : {1, 2}) {
    const std::string client = "client-" + std::to_string(number);
    const bool is_first = number == 1;
    round.accepted[client] = {
        .client = client,
        .num_examples = is_first ? 10U : 30U,
        .manifest = wire::encode(wire::UpdateManifest{.round = 1,
                                                      .client = client,
                                                      .payload_bytes = 1,
                                                      .num_examples = is_first ? 10U : 30U,
                                                      .num_steps = 2 * number,
                                                      .num_tokens = 100 * number,
                                                      .train_loss = is_first ? 1.0 : 3.0,
                                                      .method = "lora",
                                                      .num_passes = 5 * number})};
  }
  return round;
}

}  // namespace

TEST_CASE("round ledger: time and bytes of a row count from the end of the row before") {
  RoundLedger ledger(core::Config{}, 10s, /*is_in_round=*/true);
  const auto round = round_of_two();
  const auto first = ledger.row(round, {}, {.received = 100, .sent = 1000}, 14s);
  CHECK(first.bytes_up == 100);
  CHECK(first.bytes_down == 1000);
  CHECK(first.seconds == 4.0);
  CHECK(first.since_restart);
  ledger.close({.received = 100, .sent = 1000}, 15s);
  const auto second = ledger.row(round, {}, {.received = 130, .sent = 1500}, 18s);
  CHECK(second.bytes_up == 30);
  CHECK(second.bytes_down == 500);
  CHECK(second.seconds == 3.0);
  CHECK_FALSE(second.since_restart);
}

TEST_CASE("round ledger: a row sums what its clients did, their loss weighted by examples") {
  RoundLedger ledger(core::Config{}, 0s, /*is_in_round=*/false);
  for (const char* const client : {"client-1", "client-2"}) {
    ledger.join(client, {.device = "cpu", .base = "none"}, /*is_trainer=*/true);
  }
  const auto row = ledger.row(round_of_two(), {}, {}, 1s);
  CHECK(row.asked == 2);
  CHECK(row.accepted == 2);
  CHECK(row.version == 1);
  CHECK(row.train_loss == 2.5);
  CHECK(row.client_steps == 6);
  CHECK(row.tokens == 300);
  CHECK(row.passes == 15);
  CHECK(row.devices.at("cpu") == 2);
  CHECK(row.bases.at("none") == 2);
}

TEST_CASE("round ledger: refusals are counted by client and by reason until the next plan") {
  RoundLedger ledger(core::Config{}, 0s, /*is_in_round=*/false);
  CHECK(ledger.refuse("client-1", core::Refusal::NotFinite) == 1);
  CHECK(ledger.refuse("client-1", core::Refusal::TooLarge) == 2);
  CHECK(ledger.refuse("client-2", core::Refusal::TooLarge) == 1);
  CHECK(ledger.num_refused("client-1") == 2);
  CHECK(ledger.num_refused("client-3") == 0);
  const auto rejected = ledger.row(round_of_two(), {}, {}, 1s).rejected;
  CHECK(rejected.at("not-finite") == 1);
  CHECK(rejected.at("too-large") == 2);
  ledger.open();
  CHECK(ledger.num_refused("client-1") == 0);
  CHECK(ledger.row(round_of_two(), {}, {}, 1s).rejected.empty());
}
