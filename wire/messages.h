#pragma once
// Every message of the protocol as a plain struct (docs/protocol.md). What is signed travels as the
// very bytes that were signed; it is decoded only after its signature has been checked.

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "core/bytes.h"
#include "core/expected.h"
#include "core/publish_mode.h"
#include "crypto/identity.h"

namespace drystone::wire {

inline constexpr std::uint32_t kProtocolVersion = 5;

/// Bytes together with the signature over exactly these bytes.
struct Signed {
  core::Bytes bytes;
  crypto::Signature signature{};
};

// ---- what travels signed --------------------------------------------------------------------

/// The roster change in force, see wire/roster_change.h. Default: the roster never changed.
struct RosterMark {
  std::uint64_t change = 0;  ///< its number
  core::Digest digest{};     ///< SHA-256 of its bytes
  bool operator==(const RosterMark&) const = default;
};

/// What the coordinator asks of one round (domain "plan", context: zero digest).
struct RoundPlan {
  std::string federation;     ///< hex id: SHA-256 of the semantic configuration
  std::uint64_t round = 0;    ///< 1-based
  std::uint64_t attempt = 0;  ///< counts re-plans of an abandoned round
  std::uint64_t base_version = 0;
  core::Digest base_head{};         ///< chain head of base_version
  std::uint64_t seed = 0;           ///< the federation's seed
  std::vector<std::string> cohort;  ///< client names, sorted
  std::string start;                ///< fresh | common (warm, nested follow)
  std::uint64_t deadline_ms = 0;    ///< from receipt
  /// SHA-256 of core::settings_text of each of the cohort, in its order; zero: its own choice.
  /// Empty: everybody's.
  std::vector<core::Digest> settings = {};
  RosterMark roster = {};
};

/// T_r: SHA-256 over the plan's canonical bytes. Signatures of the round are bound to it.
core::Digest transcript(core::ByteView plan_bytes);

/// One client's claim about its update (domain "update", context T_r).
struct UpdateManifest {
  std::uint64_t round = 0;
  std::uint64_t attempt = 0;
  std::string client;
  std::uint64_t base_version = 0;
  core::Digest payload{};  ///< SHA-256 of the safetensors bytes
  std::uint64_t payload_bytes = 0;
  std::uint64_t num_examples = 0;
  std::uint64_t num_steps = 0;
  std::uint64_t num_tokens = 0;
  double train_loss = 0.0;
  std::string method;
  std::uint64_t num_passes = 0;  ///< over a micro-batch, forward and backward
};

/// One published version (domain "version", context: zero digest).
struct VersionManifest {
  std::uint64_t version = 0;  ///< 0: initial dense parts only
  std::uint64_t round = 0;
  core::PublishMode mode = core::PublishMode::Add;
  core::Digest payload{};
  std::uint64_t payload_bytes = 0;
  core::Digest previous_head{};
  core::Digest round_root{};  ///< Merkle root over the accepted updates' leaves
  core::Digest config{};
  core::Digest head{};     ///< crypto::chain_head of the four above and the roster's digest
  RosterMark roster = {};  ///< of the round's plan: who could take part
};

/// An evaluator's result (domain "evaluation", context: head of the version).
struct EvaluationManifest {
  std::uint64_t version = 0;
  std::string client;
  std::uint64_t num_examples = 0;
  std::map<std::string, double> metrics;  ///< loss, accuracy, nll, ece … (task-dependent)
};

core::Bytes encode(const RoundPlan& plan);
core::Bytes encode(const UpdateManifest& manifest);
core::Bytes encode(const VersionManifest& manifest);
core::Bytes encode(const EvaluationManifest& manifest);
/// Encodings are canonical: equal structs give equal bytes. Decoders refuse (MalformedFrame,
/// TooLarge, NotFinite) anything that is not a complete, in-range message in exactly its canonical
/// form.
/// @throws core::InvalidArgument  encode: more than kMaxSignedBytes; other ranges are the reader's
core::Expected<RoundPlan> decode_plan(core::ByteView bytes);
core::Expected<UpdateManifest> decode_update(core::ByteView bytes);
core::Expected<VersionManifest> decode_version(core::ByteView bytes);
core::Expected<EvaluationManifest> decode_evaluation(core::ByteView bytes);

// ---- client → coordinator -------------------------------------------------------------------

struct Hello {
  std::uint32_t protocol = kProtocolVersion;
  std::string software;     ///< e.g. "drystone 0.1.0"
  std::string base_sha256;  ///< hex; must equal the plan's pinned base
  std::string device;       ///< "cpu", "cuda:0"
  std::uint64_t num_examples = 0;
  std::string base = {};       ///< how the base model is held: "none" (full precision), "nf4"
  std::uint64_t instance = 0;  ///< drawn by each process: tells a second one from a reconnect
};
/// Asks for the manifests of all versions after `since`, up to the newest.
struct CatalogRequest {
  std::uint64_t since = 0;  ///< first version wanted
};
struct Offer {
  Signed update;         ///< UpdateManifest
  double seconds = 0.0;  ///< local training time; informative
};
struct Report {
  Signed evaluation;  ///< EvaluationManifest
  double seconds = 0.0;
};
/// Live progress; informative, unsigned, may be lost.
struct Progress {
  std::uint64_t round = 0;
  std::uint64_t step = 0;
  std::uint64_t num_steps = 0;
  double loss = 0.0;
  std::uint64_t num_tokens = 0;  ///< trained on since the round began; 0: an evaluation
  std::uint64_t peak_bytes = 0;  ///< most memory that the process ever had resident; 0: unknown
};

/// Why a Task gets no Offer: the client will not, or could not. Nobody needs to wait for it.
struct Decline {
  std::uint64_t round = 0;
  std::uint64_t attempt = 0;
  core::Refusal refusal{};
  std::string detail;
};

// ---- coordinator → client -------------------------------------------------------------------

struct Welcome {
  std::string federation;
  std::uint64_t version = 0;  ///< newest published
  std::uint64_t rounds = 0;
};
struct Task {
  Signed plan;                ///< RoundPlan
  std::string settings = {};  ///< the text whose digest the plan names for this client, if it does
};
struct EvaluateTask {
  std::uint64_t version = 0;
};
struct Catalog {
  std::vector<Signed> versions;  ///< VersionManifest each, consecutive
};
/// The outcome of an Offer. An accepted update is durable when this is sent.
struct Verdict {
  std::uint64_t round = 0;
  bool accepted = false;
  core::Refusal refusal{};  ///< when not accepted
  std::string detail;
};
struct Done {
  std::uint64_t version = 0;  ///< the final one
};
/// The peer spoke out of turn or cannot be served; the connection may go on.
struct Refused {
  core::Refusal refusal{};
  std::string detail;
};

// ---- both ways: blobs, receiver-driven --------------------------------------------------------

/// Grants the other side to send this range of a blob; the receiver sets the pace.
struct Want {
  core::Digest blob{};
  std::uint64_t offset = 0;
  std::uint64_t length = 0;
};
struct Chunk {
  core::Digest blob{};
  std::uint64_t offset = 0;
  core::Bytes data;  ///< travels as its own frame
};

using Message = std::variant<Hello, CatalogRequest, Offer, Report, Progress, Decline, Welcome, Task,
                             EvaluateTask, Catalog, Verdict, Done, Refused, Want, Chunk>;

/// A message as ZeroMQ frames: a Cap'n Proto header and, for Chunk, the data as second frame.
struct Frames {
  core::Bytes header;
  core::Bytes data;  ///< empty unless the message is a Chunk
};

/// A Chunk's data is moved, not copied. The `detail` of Verdict, Refused and Decline is made
/// printable and cut to kMaxTextBytes. @throws core::InvalidArgument  a frame above its limit, or a
/// Chunk without data
Frames encode(Message message);
/// Refuses (MalformedFrame, TooLarge, NotFinite) whatever is not a well-formed message within
/// wire/limits.h. Allocates no more than a small multiple of the frames' own size.
core::Expected<Message> decode(Frames frames);

}  // namespace drystone::wire
