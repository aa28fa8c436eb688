#include "wire/codec.h"

#include <cmath>
#include <limits>
#include <set>

#include <doctest/doctest.h>

#include "core/error.h"
#include "crypto/hash.h"
#include "tests/wire/samples.h"
#include "wire/limits.h"
#include "wire/messages.h"

using namespace drystone;
using core::Refusal;
using wire::decode;
using wire::encode;

namespace {

/// Encodings are canonical, so two messages are equal when their frames are.
bool same_frames(const wire::Frames& a, const wire::Frames& b) {
  return a.header == b.header && a.data == b.data;
}

template <typename Decoded>
Refusal refusal_of(const Decoded& decoded) {
  REQUIRE_FALSE(decoded.has_value());
  CHECK_FALSE(decoded.error().detail.empty());
  return decoded.error().code;
}

}  // namespace

TEST_CASE("encode: every message comes back as it went") {
  for (std::uint64_t seed = 0; seed < 50; ++seed) {
    CAPTURE(seed);
    const auto messages = test::sample_messages(seed);
    REQUIRE(messages.size() == std::variant_size_v<wire::Message>);
    for (std::size_t kind = 0; kind < messages.size(); ++kind) {
      CAPTURE(kind);
      REQUIRE(messages[kind].index() == kind);
      const wire::Frames frames = encode(messages[kind]);
      CHECK(frames.header.size() % 8 == 0);
      const auto decoded = decode(frames);
      REQUIRE(decoded.has_value());
      CHECK(decoded->index() == kind);
      CHECK(same_frames(encode(*decoded), frames));
    }
  }
}

TEST_CASE("encode: the fields of a message survive") {
  const auto hello = decode(encode(wire::Hello{
      .protocol = 7, .software = "s", .base_sha256 = "b", .device = "d", .num_examples = 9}));
  REQUIRE(hello.has_value());
  const auto& actual = std::get<wire::Hello>(*hello);
  CHECK(actual.protocol == 7);
  CHECK(actual.software == "s");
  CHECK(actual.base_sha256 == "b");
  CHECK(actual.device == "d");
  CHECK(actual.num_examples == 9);
  for (int code = 0; code < 23; ++code) {
    const auto verdict = decode(encode(wire::Verdict{.round = 3,
                                                     .accepted = code % 2 == 0,
                                                     .refusal = static_cast<Refusal>(code),
                                                     .detail = "why"}));
    REQUIRE(verdict.has_value());
    CHECK(std::get<wire::Verdict>(*verdict).refusal == static_cast<Refusal>(code));
    CHECK(std::get<wire::Verdict>(*verdict).accepted == (code % 2 == 0));
    CHECK(std::get<wire::Verdict>(*verdict).detail == "why");
  }
}

TEST_CASE("decode: a signed part is as long as it may be, and not a byte longer") {
  wire::Offer offer;
  offer.update.bytes.assign(wire::kMaxSignedBytes, 1);
  CHECK(decode(encode(offer)).has_value());
  offer.update.bytes.push_back(1);
  CHECK_FALSE(decode(encode(offer)).has_value());
}

TEST_CASE("encode: every field of every message is in the bytes") {
  const core::Digest digest = crypto::sha256({});
  const wire::Signed text{.bytes = {1}, .signature = {}};
  const wire::Signed mark{.bytes = {}, .signature = {1}};
  const std::vector<wire::Message> messages = {
      wire::Hello{},
      wire::Hello{.protocol = 1},
      wire::Hello{.software = "a"},
      wire::Hello{.base_sha256 = "a"},
      wire::Hello{.device = "a"},
      wire::Hello{.num_examples = 1},
      wire::Hello{.base = "a"},
      wire::Hello{.instance = 1},
      wire::CatalogRequest{},
      wire::CatalogRequest{.since = 1},
      wire::Offer{},
      wire::Offer{.update = text},
      wire::Offer{.update = mark},
      wire::Offer{.update = {}, .seconds = 1.0},
      wire::Report{},
      wire::Report{.evaluation = text},
      wire::Report{.evaluation = mark},
      wire::Report{.evaluation = {}, .seconds = 1.0},
      wire::Progress{},
      wire::Progress{.round = 1},
      wire::Progress{.step = 1},
      wire::Progress{.num_steps = 1},
      wire::Progress{.loss = 1.0},
      wire::Progress{.num_tokens = 1},
      wire::Progress{.peak_bytes = 1},
      wire::Decline{},
      wire::Decline{.round = 1},
      wire::Decline{.attempt = 1},
      wire::Decline{.refusal = Refusal::Timeout},
      wire::Decline{.detail = "a"},
      wire::Welcome{},
      wire::Welcome{.federation = "a"},
      wire::Welcome{.version = 1},
      wire::Welcome{.rounds = 1},
      wire::Task{},
      wire::Task{.plan = text},
      wire::Task{.plan = mark},
      wire::Task{.plan = {}, .settings = "a"},
      wire::EvaluateTask{},
      wire::EvaluateTask{.version = 1},
      wire::Catalog{},
      wire::Catalog{.versions = {text}},
      wire::Verdict{},
      wire::Verdict{.round = 1},
      wire::Verdict{.accepted = true},
      wire::Verdict{.refusal = Refusal::Timeout},
      wire::Verdict{.detail = "a"},
      wire::Done{},
      wire::Done{.version = 1},
      wire::Refused{},
      wire::Refused{.refusal = Refusal::Timeout},
      wire::Refused{.detail = "a"},
      wire::Want{},
      wire::Want{.blob = digest},
      wire::Want{.offset = 1},
      wire::Want{.length = 1},
      wire::Chunk{.blob = {}, .offset = 0, .data = {0}},
      wire::Chunk{.blob = digest, .offset = 0, .data = {0}},
      wire::Chunk{.blob = {}, .offset = 1, .data = {0}}};
  std::set<core::Bytes> headers;
  for (const wire::Message& message : messages) headers.insert(encode(message).header);
  CHECK(headers.size() == messages.size());
}

TEST_CASE("encode: signed structs come back equal, equal structs give equal bytes") {
  for (std::uint64_t seed = 0; seed < 200; ++seed) {
    CAPTURE(seed);
    core::SplitMix64 random(seed);
    const wire::RoundPlan plan = test::sample_plan(random);
    const auto plan_again = wire::decode_plan(encode(plan));
    REQUIRE(plan_again.has_value());
    CHECK(plan_again->federation == plan.federation);
    CHECK(plan_again->round == plan.round);
    CHECK(plan_again->attempt == plan.attempt);
    CHECK(plan_again->base_version == plan.base_version);
    CHECK(plan_again->base_head == plan.base_head);
    CHECK(plan_again->seed == plan.seed);
    CHECK(plan_again->cohort == plan.cohort);
    CHECK(plan_again->start == plan.start);
    CHECK(plan_again->deadline_ms == plan.deadline_ms);
    CHECK(plan_again->settings == plan.settings);
    CHECK(encode(*plan_again) == encode(plan));

    const wire::UpdateManifest update = test::sample_update(random);
    const auto update_again = wire::decode_update(encode(update));
    REQUIRE(update_again.has_value());
    CHECK(update_again->round == update.round);
    CHECK(update_again->attempt == update.attempt);
    CHECK(update_again->client == update.client);
    CHECK(update_again->base_version == update.base_version);
    CHECK(update_again->payload == update.payload);
    CHECK(update_again->payload_bytes == update.payload_bytes);
    CHECK(update_again->num_examples == update.num_examples);
    CHECK(update_again->num_steps == update.num_steps);
    CHECK(update_again->num_tokens == update.num_tokens);
    CHECK(update_again->train_loss == update.train_loss);
    CHECK(update_again->method == update.method);
    CHECK(update_again->num_passes == update.num_passes);
    CHECK(encode(*update_again) == encode(update));

    const wire::VersionManifest version = test::sample_version(random);
    const auto version_again = wire::decode_version(encode(version));
    REQUIRE(version_again.has_value());
    CHECK(version_again->version == version.version);
    CHECK(version_again->round == version.round);
    CHECK(version_again->mode == version.mode);
    CHECK(version_again->payload == version.payload);
    CHECK(version_again->payload_bytes == version.payload_bytes);
    CHECK(version_again->previous_head == version.previous_head);
    CHECK(version_again->round_root == version.round_root);
    CHECK(version_again->head == version.head);
    CHECK(version_again->config == version.config);
    CHECK(encode(*version_again) == encode(version));

    const wire::EvaluationManifest evaluation = test::sample_evaluation(random);
    const auto evaluation_again = wire::decode_evaluation(encode(evaluation));
    REQUIRE(evaluation_again.has_value());
    CHECK(evaluation_again->version == evaluation.version);
    CHECK(evaluation_again->client == evaluation.client);
    CHECK(evaluation_again->num_examples == evaluation.num_examples);
    CHECK(evaluation_again->metrics == evaluation.metrics);
    CHECK(encode(*evaluation_again) == encode(evaluation));
  }
}

TEST_CASE("encode: the bytes are frozen; whoever changes them changes the protocol's version") {
  wire::UpdateManifest manifest{.round = 3,
                                .attempt = 0,
                                .client = "client-1",
                                .base_version = 2,
                                .payload = crypto::sha256(core::as_bytes("payload")),
                                .payload_bytes = 1000,
                                .num_examples = 64,
                                .num_steps = 4,
                                .num_tokens = 4096,
                                .train_loss = 0.5,
                                .method = "lora"};
  CHECK(core::to_hex(crypto::sha256(encode(manifest))) ==
        "0bf24167aefff0e7cfaf2533d78173db37a688de1df26e1acdbcd5deec3ffb80");  // as in version 1
  manifest.num_passes = 12;
  CHECK(core::to_hex(crypto::sha256(encode(manifest))) ==
        "126e0c233204459c8bb436051881d1654b7a04b5f60ca0e1684160004ea0fdc5");
  const wire::RoundPlan plan{.federation = "f",
                             .round = 1,
                             .base_version = 0,
                             .seed = 7,
                             .cohort = {"a", "b"},
                             .start = "fresh",
                             .deadline_ms = 1000};
  CHECK(core::to_hex(wire::transcript(encode(plan))) ==
        "79b21791a454100dd695b274d6b735763fbd13f21af19b986d7d3f33d7ce60c5");
  CHECK(core::to_hex(encode(wire::Done{.version = 3}).header) ==
        "00000000010001000b0000000000000000000000010000000300000000000000");
}

TEST_CASE("decode: field ranges") {
  core::SplitMix64 random(1);
  wire::UpdateManifest update = test::sample_update(random);
  update.train_loss = std::numeric_limits<double>::quiet_NaN();
  CHECK(refusal_of(wire::decode_update(encode(update))) == Refusal::NotFinite);
  update.train_loss = std::numeric_limits<double>::infinity();
  CHECK(refusal_of(wire::decode_update(encode(update))) == Refusal::NotFinite);
  update.train_loss = 0.0;
  update.client = std::string(wire::kMaxNameBytes, 'x');
  CHECK(wire::decode_update(encode(update)).has_value());
  update.client += 'x';
  CHECK(refusal_of(wire::decode_update(encode(update))) == Refusal::MalformedFrame);
  update.client = "line\nbreak";
  CHECK(refusal_of(wire::decode_update(encode(update))) == Refusal::MalformedFrame);
  update.client = "ok";
  update.payload_bytes = 0;
  CHECK(refusal_of(wire::decode_update(encode(update))) == Refusal::MalformedFrame);

  wire::RoundPlan plan = test::sample_plan(random);
  plan.cohort = {"b", "a"};
  CHECK(refusal_of(wire::decode_plan(encode(plan))) == Refusal::MalformedFrame);
  plan.cohort = {"a", "a"};
  CHECK(refusal_of(wire::decode_plan(encode(plan))) == Refusal::MalformedFrame);

  wire::EvaluationManifest evaluation = test::sample_evaluation(random);
  for (int i = 0; i < 65; ++i) evaluation.metrics["m" + std::to_string(i)] = 0.0;
  CHECK(refusal_of(wire::decode_evaluation(encode(evaluation))) == Refusal::MalformedFrame);
  evaluation.metrics = {{"accuracy", -std::numeric_limits<double>::infinity()}};
  const auto broken = wire::decode_evaluation(encode(evaluation));
  REQUIRE(broken.has_value());  // what a broken version measures is news, not malice
  CHECK(broken->metrics == evaluation.metrics);

  CHECK(refusal_of(decode(encode(wire::Progress{.loss = std::nan("")}))) == Refusal::NotFinite);
  wire::Hello hello;
  hello.device = std::string(129, 'x');
  CHECK(refusal_of(decode(encode(hello))) == Refusal::MalformedFrame);
}

TEST_CASE("encode: the largest cohort and the largest catalogue fit their frames") {
  wire::RoundPlan plan;
  for (std::uint64_t i = 0; i < wire::kMaxCohort; ++i) {
    std::string digits = std::to_string(i);
    plan.cohort.push_back(std::string(31 - digits.size(), '0') + digits);
    plan.settings.push_back(crypto::sha256(core::as_bytes(std::to_string(i % 1024))));
  }
  const core::Bytes bytes = encode(plan);
  const auto decoded = decode(encode(
      wire::Task{{.bytes = bytes, .signature = {}}, std::string(wire::kMaxSettingsBytes, 's')}));
  REQUIRE(decoded.has_value());
  const auto again = wire::decode_plan(std::get<wire::Task>(*decoded).plan.bytes);
  REQUIRE(again.has_value());
  CHECK(again->cohort == plan.cohort);
  CHECK(again->settings == plan.settings);
  plan.settings.pop_back();
  CHECK(refusal_of(wire::decode_plan(encode(plan))) == Refusal::MalformedFrame);
  plan.settings.clear();
  plan.cohort.push_back("z");
  CHECK(refusal_of(wire::decode_plan(encode(plan))) == Refusal::MalformedFrame);

  core::SplitMix64 random(3);
  wire::Catalog catalog;
  const wire::Signed version{.bytes = encode(test::sample_version(random)), .signature = {}};
  catalog.versions.assign(wire::kMaxCatalog, version);
  const auto catalog_again = decode(encode(catalog));
  REQUIRE(catalog_again.has_value());
  CHECK(std::get<wire::Catalog>(*catalog_again).versions.size() == wire::kMaxCatalog);
  catalog.versions.push_back(version);
  CHECK(refusal_of(decode(encode(catalog))) == Refusal::MalformedFrame);
}

TEST_CASE(
    "decode: a plan is read whatever its cohort, its names and how many settings they share") {
  for (const std::size_t cohort : {1UL, 10UL, 100UL, 2'000UL, wire::kMaxCohort}) {
    for (const std::size_t num_settings : {1UL, 2UL, std::min(cohort, 1024UL)}) {
      CAPTURE(cohort);
      CAPTURE(num_settings);
      wire::RoundPlan plan;
      for (std::size_t i = 0; i < cohort; ++i) {
        plan.cohort.push_back(std::to_string(100'000 + i));
        plan.settings.push_back(
            crypto::sha256(core::as_bytes(std::to_string(std::min(i, num_settings - 1)))));
      }
      const auto again = wire::decode_plan(encode(plan));
      REQUIRE(again.has_value());
      CHECK(again->cohort == plan.cohort);
      CHECK(again->settings == plan.settings);
    }
  }
}

TEST_CASE("encode: refuses what would not fit, cuts what is only informative") {
  CHECK_THROWS_AS(encode(wire::Chunk{}), core::InvalidArgument);
  CHECK_THROWS_AS(encode(wire::Chunk{{}, 0, core::Bytes(wire::kMaxChunkBytes + 1)}),
                  core::InvalidArgument);
  CHECK_THROWS_AS(
      encode(wire::Task{{.bytes = core::Bytes(wire::kMaxHeaderBytes), .signature = {}}}),
      core::InvalidArgument);
  const auto refused = decode(encode(
      wire::Refused{.refusal = Refusal::TooLarge, .detail = "\x1b[2J" + std::string(5000, 'x')}));
  REQUIRE(refused.has_value());
  const std::string& detail = std::get<wire::Refused>(*refused).detail;
  CHECK(detail.size() == wire::kMaxTextBytes);
  CHECK(detail.starts_with("?[2Jxx"));
}

TEST_CASE("encode: a list has as many entries as Cap'n Proto can count, or is refused") {
  constexpr std::size_t kMost = std::numeric_limits<unsigned>::max() / 16;
  CHECK(wire::as_list_size(kMost) == kMost);
  for (const std::size_t size : {kMost + 1, std::size_t{1} << 32}) {
    CHECK_THROWS_AS(wire::as_list_size(size), core::InvalidArgument);
  }
}

TEST_CASE("decode: the longest header is read, a longer one is not looked at") {
  const auto refusal_of = [](std::uint64_t size) {
    return decode({.header = core::Bytes(size), .data = {}}).error().code;
  };
  CHECK(refusal_of(wire::kMaxHeaderBytes) == Refusal::MalformedFrame);
  CHECK(refusal_of(wire::kMaxHeaderBytes + 8) == Refusal::TooLarge);
}

TEST_CASE("encode: a Chunk's data is moved through both ends") {
  wire::Chunk chunk{.blob = {}, .offset = 5, .data = core::Bytes(1000, 7)};
  const std::uint8_t* address = chunk.data.data();
  auto decoded = decode(encode(std::move(chunk)));
  REQUIRE(decoded.has_value());
  CHECK(std::get<wire::Chunk>(*decoded).data.data() == address);
}

TEST_CASE("decode: an unsigned message may carry fields of a later version, a signed one may not") {
  // Done as above, but its struct has a second data word.
  const auto done =
      decode({.header = core::from_hex("00000000010001000b00000000000000"
                                       "000000000200000003000000000000000700000000000000"),
              .data = {}});
  REQUIRE(done.has_value());
  CHECK(std::get<wire::Done>(*done).version == 3);

  core::SplitMix64 random(4);
  core::Bytes bytes = encode(test::sample_version(random));
  // The root pointer's count of pointers, one more, and the null pointer itself after the others.
  const std::size_t num_data = bytes[4];
  const std::size_t num_pointers = bytes[6];
  ++bytes[6];
  for (std::size_t word = 1 + num_data; word < 1 + num_data + num_pointers; ++word) {
    bytes[8 * word] = static_cast<std::uint8_t>(bytes[8 * word] + 4);  // targets move by one word
  }
  bytes.insert(bytes.begin() + static_cast<std::ptrdiff_t>(8 * (1 + num_data + num_pointers)), 8,
               0);
  CHECK(refusal_of(wire::decode_version(bytes)) == Refusal::MalformedFrame);
}

TEST_CASE("transcript: the plan's bytes decide") {
  core::SplitMix64 random(11);
  std::set<core::Digest> digests;
  wire::RoundPlan plan = test::sample_plan(random);
  for (int i = 0; i < 20; ++i, ++plan.attempt) digests.insert(wire::transcript(encode(plan)));
  CHECK(digests.size() == 20);
}
