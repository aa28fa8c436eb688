#include "coordinator/version_record.h"

#include <algorithm>
#include <utility>

#include <nlohmann/json.hpp>

#include "core/check.h"
#include "core/error.h"
#include "core/json.h"

namespace drystone::coordinator {

namespace {

using Json = nlohmann::ordered_json;

Json to_object(const wire::Signed& value) {
  return {{"bytes", core::to_hex(value.bytes)}, {"signature", core::to_hex(value.signature)}};
}

template <std::size_t N>
std::array<std::uint8_t, N> fixed(const Json& hex) {
  const core::Bytes bytes = core::from_hex(hex.get<std::string>());
  core::require(bytes.size() == N, "a value of the wrong length");
  std::array<std::uint8_t, N> value{};
  std::ranges::copy(bytes, value.begin());
  return value;
}

wire::Signed signed_from(const Json& object) {
  return {core::from_hex(object.at("bytes").get<std::string>()), fixed<64>(object.at("signature"))};
}

// The signed bytes are what counts; these lines only let a person read the file.
Json summary(const wire::VersionManifest& manifest) {
  return {{"version", manifest.version},
          {"round", manifest.round},
          {"mode", manifest.mode == core::PublishMode::Add ? "add" : "replace"},
          {"payload", core::to_hex(manifest.payload)},
          {"payload_bytes", manifest.payload_bytes},
          {"previous_head", core::to_hex(manifest.previous_head)},
          {"round_root", core::to_hex(manifest.round_root)},
          {"config", core::to_hex(manifest.config)},
          {"head", core::to_hex(manifest.head)}};
}

}  // namespace

std::string to_json(const VersionRecord& record) {
  const auto manifest = wire::decode_version(record.manifest.bytes);
  core::ensure(manifest.has_value(), "version record: unreadable manifest");
  Json updates = Json::array();
  for (const RecordedUpdate& update : record.updates) {
    const auto claim = wire::decode_update(update.manifest.bytes);
    core::ensure(claim.has_value(), "version record: unreadable update");
    updates.push_back({{"client", update.client},
                       {"num_examples", claim->num_examples},
                       {"payload", core::to_hex(claim->payload)},
                       {"signer", core::to_hex(update.signer)},
                       {"signed", to_object(update.manifest)}});
  }
  Json evaluations = Json::array();
  for (const RecordedEvaluation& evaluation : record.evaluations) {
    evaluations.push_back({{"client", evaluation.client},
                           {"signer", core::to_hex(evaluation.signer)},
                           {"signed", to_object(evaluation.manifest)}});
  }
  const Json object = {{"summary", summary(*manifest)},
                       {"manifest", to_object(record.manifest)},
                       {"coordinator", core::to_hex(record.coordinator)},
                       {"plan", to_object(record.plan)},
                       {"updates", updates},
                       {"evaluations", evaluations}};
  return object.dump(1) + "\n";
}

VersionRecord record_from_json(const std::string& text) {
  try {
    const Json object =
        core::parse_ordered_json(text, "version record", {.max_bytes = kMaxRecordBytes});
    VersionRecord record{.manifest = signed_from(object.at("manifest")),
                         .coordinator = fixed<32>(object.at("coordinator")),
                         .plan = signed_from(object.at("plan")),
                         .updates = {},
                         .evaluations = {}};
    for (const Json& update : object.at("updates")) {
      record.updates.push_back({update.at("client").get<std::string>(),
                                signed_from(update.at("signed")), fixed<32>(update.at("signer"))});
    }
    for (const Json& evaluation : object.value("evaluations", Json::array())) {
      record.evaluations.push_back({evaluation.at("client").get<std::string>(),
                                    signed_from(evaluation.at("signed")),
                                    fixed<32>(evaluation.at("signer"))});
    }
    return record;
  } catch (const core::ConfigError& error) {
    throw core::IoError(error.what());
  } catch (const Json::exception& error) {
    throw core::IoError(std::string("version record: ") + error.what());
  } catch (const core::InvalidArgument& error) {
    throw core::IoError(std::string("version record: ") + error.what());
  }
}

VersionRecord make_record(const Store& store, std::uint64_t version) {
  const auto manifests = store.versions(version, 1);
  core::ensure(!manifests.empty(), "make_record: no such version");
  const auto manifest = wire::decode_version(manifests.front().bytes);
  core::ensure(manifest.has_value(), "make_record: unreadable manifest");
  VersionRecord record{.manifest = manifests.front(),
                       .coordinator = store.coordinator(),
                       .plan = {},
                       .updates = {},
                       .evaluations = {}};
  for (StoredEvaluation& stored : store.evaluations()) {
    if (stored.version != version) continue;
    record.evaluations.push_back({.client = std::move(stored.client),
                                  .manifest = std::move(stored.evidence),
                                  .signer = stored.signer});
  }
  if (version == 0) return record;
  record.plan = store.plan(manifest->round);
  for (const StoredUpdate& stored : store.updates(manifest->round)) {
    record.updates.push_back({.client = stored.update.client,
                              .manifest = {stored.update.manifest, stored.signature},
                              .signer = stored.signer});
  }
  return record;
}

}  // namespace drystone::coordinator
