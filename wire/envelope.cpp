// The unsigned messages: one Envelope as header frame, a Chunk's data as second frame.

#include <utility>

#include "core/check.h"
#include "core/error.h"
#include "wire/codec.h"
#include "wire/limits.h"
#include "wire/messages.h"
#include "wire/protocol.capnp.h"
#include "wire/text.h"

namespace drystone::wire {

namespace {

using Builder = schema::Envelope::Builder;
using Reader = schema::Envelope::Reader;

// ---- writing: one overload a message ----------------------------------------------------------

schema::Refusal to_schema(core::Refusal refusal) {
  switch (refusal) {
    case core::Refusal::MalformedFrame: return schema::Refusal::MALFORMED_FRAME;
    case core::Refusal::TooLarge: return schema::Refusal::TOO_LARGE;
    case core::Refusal::UnknownClient: return schema::Refusal::UNKNOWN_CLIENT;
    case core::Refusal::WrongRole: return schema::Refusal::WRONG_ROLE;
    case core::Refusal::BadSignature: return schema::Refusal::BAD_SIGNATURE;
    case core::Refusal::RoundClosed: return schema::Refusal::ROUND_CLOSED;
    case core::Refusal::NotInCohort: return schema::Refusal::NOT_IN_COHORT;
    case core::Refusal::Replay: return schema::Refusal::REPLAY;
    case core::Refusal::WrongBase: return schema::Refusal::WRONG_BASE;
    case core::Refusal::PlanMismatch: return schema::Refusal::PLAN_MISMATCH;
    case core::Refusal::RankAboveQuota: return schema::Refusal::RANK_ABOVE_QUOTA;
    case core::Refusal::PayloadMismatch: return schema::Refusal::PAYLOAD_MISMATCH;
    case core::Refusal::NotFinite: return schema::Refusal::NOT_FINITE;
    case core::Refusal::BadGauge: return schema::Refusal::BAD_GAUGE;
    case core::Refusal::ExamplesAboveCap: return schema::Refusal::EXAMPLES_ABOVE_CAP;
    case core::Refusal::Timeout: return schema::Refusal::TIMEOUT;
    case core::Refusal::NormAboveBound: return schema::Refusal::NORM_ABOVE_BOUND;
    case core::Refusal::TooMany: return schema::Refusal::TOO_MANY;
    case core::Refusal::LocalFailure: return schema::Refusal::LOCAL_FAILURE;
    case core::Refusal::Superseded: return schema::Refusal::SUPERSEDED;
    case core::Refusal::PlanRefused: return schema::Refusal::PLAN_REFUSED;
    case core::Refusal::SettingsDiffer: return schema::Refusal::SETTINGS_DIFFER;
    case core::Refusal::TrainingFailed: return schema::Refusal::TRAINING_FAILED;
  }
  throw core::InvariantError("encode: unknown Refusal");
}

void write(schema::Signed::Builder builder, const Signed& message) {
  builder.setBytes(as_data(message.bytes));
  builder.setSignature(as_data(message.signature));
}

void write(Builder envelope, const Hello& message) {
  auto builder = envelope.initHello();
  builder.setProtocol(message.protocol);
  builder.setSoftware(message.software);
  builder.setBaseSha256(message.base_sha256);
  builder.setDevice(message.device);
  builder.setNumExamples(message.num_examples);
  builder.setBase(message.base);
  builder.setInstance(message.instance);
}

void write(Builder envelope, const CatalogRequest& message) {
  envelope.initCatalogRequest().setSince(message.since);
}

void write(Builder envelope, const Offer& message) {
  auto builder = envelope.initOffer();
  write(builder.initUpdate(), message.update);
  builder.setSeconds(message.seconds);
}

void write(Builder envelope, const Report& message) {
  auto builder = envelope.initReport();
  write(builder.initEvaluation(), message.evaluation);
  builder.setSeconds(message.seconds);
}

void write(Builder envelope, const Progress& message) {
  auto builder = envelope.initProgress();
  builder.setRound(message.round);
  builder.setStep(message.step);
  builder.setNumSteps(message.num_steps);
  builder.setLoss(message.loss);
  builder.setNumTokens(message.num_tokens);
  builder.setPeakBytes(message.peak_bytes);
}

void write(Builder envelope, const Decline& message) {
  auto builder = envelope.initDecline();
  builder.setRound(message.round);
  builder.setAttempt(message.attempt);
  builder.setRefusal(to_schema(message.refusal));
  builder.setDetail(clean_text(message.detail, kMaxTextBytes));
}

void write(Builder envelope, const Welcome& message) {
  auto builder = envelope.initWelcome();
  builder.setFederation(message.federation);
  builder.setVersion(message.version);
  builder.setRounds(message.rounds);
}

void write(Builder envelope, const Task& message) {
  auto builder = envelope.initTask();
  write(builder.initPlan(), message.plan);
  if (!message.settings.empty()) builder.setSettings(as_data(core::as_bytes(message.settings)));
}

void write(Builder envelope, const EvaluateTask& message) {
  envelope.initEvaluateTask().setVersion(message.version);
}

void write(Builder envelope, const Catalog& message) {
  auto versions = envelope.initCatalog().initVersions(as_list_size(message.versions.size()));
  for (unsigned i = 0; i < versions.size(); ++i) write(versions[i], message.versions[i]);
}

void write(Builder envelope, const Verdict& message) {
  auto builder = envelope.initVerdict();
  builder.setRound(message.round);
  builder.setAccepted(message.accepted);
  builder.setRefusal(to_schema(message.refusal));
  builder.setDetail(clean_text(message.detail, kMaxTextBytes));
}

void write(Builder envelope, const Done& message) {
  envelope.initDone().setVersion(message.version);
}

void write(Builder envelope, const Refused& message) {
  auto builder = envelope.initRefused();
  builder.setRefusal(to_schema(message.refusal));
  builder.setDetail(clean_text(message.detail, kMaxTextBytes));
}

void write(Builder envelope, const Want& message) {
  auto builder = envelope.initWant();
  builder.setBlob(as_data(message.blob));
  builder.setOffset(message.offset);
  builder.setLength(message.length);
}

void write(Builder envelope, const Chunk& message) {
  auto builder = envelope.initChunk();
  builder.setBlob(as_data(message.blob));
  builder.setOffset(message.offset);
}

// ---- reading ----------------------------------------------------------------------------------

core::Refusal from_schema(schema::Refusal refusal) {
  switch (refusal) {
    case schema::Refusal::MALFORMED_FRAME: return core::Refusal::MalformedFrame;
    case schema::Refusal::TOO_LARGE: return core::Refusal::TooLarge;
    case schema::Refusal::UNKNOWN_CLIENT: return core::Refusal::UnknownClient;
    case schema::Refusal::WRONG_ROLE: return core::Refusal::WrongRole;
    case schema::Refusal::BAD_SIGNATURE: return core::Refusal::BadSignature;
    case schema::Refusal::ROUND_CLOSED: return core::Refusal::RoundClosed;
    case schema::Refusal::NOT_IN_COHORT: return core::Refusal::NotInCohort;
    case schema::Refusal::REPLAY: return core::Refusal::Replay;
    case schema::Refusal::WRONG_BASE: return core::Refusal::WrongBase;
    case schema::Refusal::PLAN_MISMATCH: return core::Refusal::PlanMismatch;
    case schema::Refusal::RANK_ABOVE_QUOTA: return core::Refusal::RankAboveQuota;
    case schema::Refusal::PAYLOAD_MISMATCH: return core::Refusal::PayloadMismatch;
    case schema::Refusal::NOT_FINITE: return core::Refusal::NotFinite;
    case schema::Refusal::BAD_GAUGE: return core::Refusal::BadGauge;
    case schema::Refusal::EXAMPLES_ABOVE_CAP: return core::Refusal::ExamplesAboveCap;
    case schema::Refusal::TIMEOUT: return core::Refusal::Timeout;
    case schema::Refusal::NORM_ABOVE_BOUND: return core::Refusal::NormAboveBound;
    case schema::Refusal::TOO_MANY: return core::Refusal::TooMany;
    case schema::Refusal::LOCAL_FAILURE: return core::Refusal::LocalFailure;
    case schema::Refusal::SUPERSEDED: return core::Refusal::Superseded;
    case schema::Refusal::PLAN_REFUSED: return core::Refusal::PlanRefused;
    case schema::Refusal::SETTINGS_DIFFER: return core::Refusal::SettingsDiffer;
    case schema::Refusal::TRAINING_FAILED: return core::Refusal::TrainingFailed;
  }
  malformed("refusal: " + std::to_string(static_cast<unsigned>(refusal)) + " is unknown");
}

Signed read(schema::Signed::Reader reader) {
  const auto bytes = reader.getBytes();
  if (bytes.size() > kMaxSignedBytes) {
    malformed("signed part of " + std::to_string(bytes.size()) + " bytes, allowed are " +
              std::to_string(kMaxSignedBytes));
  }
  return {.bytes = core::Bytes(bytes.begin(), bytes.end()),
          .signature = read_signature(reader.getSignature())};
}

Hello read(schema::Hello::Reader reader) {
  return {.protocol = reader.getProtocol(),
          .software = read_text(reader.getSoftware(), kMaxNameBytes, "software"),
          .base_sha256 = read_text(reader.getBaseSha256(), kMaxNameBytes, "base_sha256"),
          .device = read_text(reader.getDevice(), kMaxNameBytes, "device"),
          .num_examples = reader.getNumExamples(),
          .base = read_text(reader.getBase(), kMaxNameBytes, "base"),
          .instance = reader.getInstance()};
}

Progress read(schema::Progress::Reader reader) {
  return {.round = reader.getRound(),
          .step = reader.getStep(),
          .num_steps = reader.getNumSteps(),
          .loss = read_finite(reader.getLoss(), "loss"),
          .num_tokens = reader.getNumTokens(),
          .peak_bytes = reader.getPeakBytes()};
}

Decline read(schema::Decline::Reader reader) {
  return {.round = reader.getRound(),
          .attempt = reader.getAttempt(),
          .refusal = from_schema(reader.getRefusal()),
          .detail = read_text(reader.getDetail(), kMaxTextBytes, "detail")};
}

Task read(schema::Task::Reader reader) {
  const auto settings = reader.getSettings();
  check_count(settings.size(), kMaxSettingsBytes, "settings");
  return {.plan = read(reader.getPlan()),
          .settings = std::string(settings.begin(), settings.end())};
}

Welcome read(schema::Welcome::Reader reader) {
  return {.federation = read_text(reader.getFederation(), kMaxNameBytes, "federation"),
          .version = reader.getVersion(),
          .rounds = reader.getRounds()};
}

Catalog read(schema::Catalog::Reader reader) {
  const auto versions = reader.getVersions();
  check_count(versions.size(), kMaxCatalog, "versions");
  Catalog catalog;
  catalog.versions.reserve(versions.size());
  for (const auto version : versions) catalog.versions.push_back(read(version));
  return catalog;
}

Verdict read(schema::Verdict::Reader reader) {
  return {.round = reader.getRound(),
          .accepted = reader.getAccepted(),
          .refusal = from_schema(reader.getRefusal()),
          .detail = read_text(reader.getDetail(), kMaxTextBytes, "detail")};
}

Refused read(schema::Refused::Reader reader) {
  return {.refusal = from_schema(reader.getRefusal()),
          .detail = read_text(reader.getDetail(), kMaxTextBytes, "detail")};
}

Want read(schema::Want::Reader reader) {
  return {.blob = read_digest(reader.getBlob(), "blob"),
          .offset = reader.getOffset(),
          .length = reader.getLength()};
}

Offer read(schema::Offer::Reader reader) {
  return {.update = read(reader.getUpdate()),
          .seconds = read_finite(reader.getSeconds(), "seconds")};
}

Report read(schema::Report::Reader reader) {
  return {.evaluation = read(reader.getEvaluation()),
          .seconds = read_finite(reader.getSeconds(), "seconds")};
}

/// The data are filled in by the caller: they are not part of the header.
Chunk read(schema::Chunk::Reader reader) {
  return {.blob = read_digest(reader.getBlob(), "blob"), .offset = reader.getOffset(), .data = {}};
}

Message read(Reader reader) {
  switch (reader.which()) {
    case schema::Envelope::NOTHING: break;
    case schema::Envelope::HELLO: return read(reader.getHello());
    case schema::Envelope::CATALOG_REQUEST:
      return CatalogRequest{reader.getCatalogRequest().getSince()};
    case schema::Envelope::OFFER: return read(reader.getOffer());
    case schema::Envelope::REPORT: return read(reader.getReport());
    case schema::Envelope::PROGRESS: return read(reader.getProgress());
    case schema::Envelope::WELCOME: return read(reader.getWelcome());
    case schema::Envelope::TASK: return read(reader.getTask());
    case schema::Envelope::EVALUATE_TASK:
      return EvaluateTask{reader.getEvaluateTask().getVersion()};
    case schema::Envelope::CATALOG: return read(reader.getCatalog());
    case schema::Envelope::VERDICT: return read(reader.getVerdict());
    case schema::Envelope::DONE: return Done{reader.getDone().getVersion()};
    case schema::Envelope::REFUSED: return read(reader.getRefused());
    case schema::Envelope::WANT: return read(reader.getWant());
    case schema::Envelope::CHUNK: return read(reader.getChunk());
    case schema::Envelope::DECLINE: return read(reader.getDecline());
  }
  malformed("message kind " + std::to_string(static_cast<unsigned>(reader.which())) +
            " is unknown");
}

}  // namespace

Frames encode(Message message) {
  capnp::MallocMessageBuilder arena;
  auto envelope = arena.initRoot<schema::Envelope>();
  std::visit([&](const auto& alternative) { write(envelope, alternative); }, message);
  Frames frames;
  frames.header = canonical_bytes(envelope.asReader(), kMaxHeaderBytes, "header");
  if (auto* chunk = std::get_if<Chunk>(&message)) {
    core::require(!chunk->data.empty() && chunk->data.size() <= kMaxChunkBytes,
                  "encode: a Chunk carries 1 to kMaxChunkBytes bytes");
    frames.data = std::move(chunk->data);
  }
  return frames;
}

core::Expected<Message> decode(Frames frames) {
  if (frames.data.size() > kMaxChunkBytes) {
    return core::refuse(core::Refusal::TooLarge,
                        "data frame of " + std::to_string(frames.data.size()) +
                            " bytes, allowed are " + std::to_string(kMaxChunkBytes));
  }
  auto message = decode_root<schema::Envelope>(frames.header, kMaxHeaderBytes,
                                               [](Reader reader) { return read(reader); });
  if (!message) return message;
  auto* chunk = std::get_if<Chunk>(&*message);
  if ((chunk != nullptr) == frames.data.empty()) {
    return core::refuse(core::Refusal::MalformedFrame,
                        chunk ? "a Chunk without data" : "data with a message that has none");
  }
  if (chunk != nullptr) chunk->data = std::move(frames.data);
  return message;
}

}  // namespace drystone::wire
