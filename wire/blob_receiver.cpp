#include <algorithm>
#include <deque>
#include <filesystem>
#include <optional>
#include <string>
#include <system_error>
#include <utility>

#include "core/check.h"
#include "core/log.h"
#include "crypto/hash.h"
#include "crypto/secret_bytes.h"
#include "wire/blob_transfer.h"
#include "wire/durable_file.h"
#include "wire/limits.h"

namespace drystone::wire {

struct BlobReceiver::State {
  enum class Phase { Receiving, Complete, Failed };

  void resume();
  void restart();
  void append(core::ByteView data);
  core::Expected<void> finish();

  BlobStore& store;
  core::Digest blob{};
  std::uint64_t num_bytes = 0;
  std::optional<File> file = std::nullopt;
  crypto::Sha256 hasher = {};
  std::deque<Want> outstanding = {};
  std::uint64_t num_received = 0;
  std::uint64_t num_asked = 0;    ///< end of the last range asked for
  std::uint64_t num_resumed = 0;  ///< bytes that an earlier receiver left
  Phase phase = Phase::Receiving;
};

/// Hashes what an earlier receiver left, so that the stream goes on behind it.
void BlobReceiver::State::resume() {
  const std::uint64_t size = file->size();
  if (size > num_bytes) return restart();
  core::Bytes buffer(std::min(size, kMaxChunkBytes));
  while (num_received < size) {
    const std::size_t count = file->read_at(num_received, buffer);
    core::ensure(count > 0, "BlobReceiver: the partial file shrinks while it is read");
    hasher.update(core::ByteView(buffer).first(count));
    num_received += count;
  }
  num_asked = num_resumed = num_received;
  if (num_received == num_bytes) core::ensure(finish().has_value(), "BlobReceiver: resume failed");
}

void BlobReceiver::State::restart() {
  file->truncate(0);
  hasher = crypto::Sha256();
  num_received = num_asked = num_resumed = 0;
}

void BlobReceiver::State::append(core::ByteView data) {
  file->write_at(num_received, data);
  hasher.update(data);
  num_received += data.size();
}

core::Expected<void> BlobReceiver::State::finish() {
  if (crypto::equal_constant_time(hasher.finish(), blob)) {
    file.reset();
    store.finish_partial(blob);
    phase = Phase::Complete;
    return {};
  }
  const std::string name = core::to_hex(blob);
  if (num_resumed > 0) {
    core::log_warning("partial blob is damaged, starting over",
                      {{"blob", name}, {"bytes", static_cast<std::int64_t>(num_resumed)}});
    restart();
    return {};
  }
  phase = Phase::Failed;
  file.reset();
  std::error_code ignored;  // should the file stay, the next receiver finds it whole but wrong
  std::filesystem::remove(store.partial_path(blob), ignored);
  return core::refuse(core::Refusal::PayloadMismatch,
                      std::to_string(num_bytes) + " bytes do not hash to " + name);
}

BlobReceiver::BlobReceiver(BlobStore& store, const core::Digest& blob, std::uint64_t num_bytes)
    : state_(std::make_unique<State>(State{.store = store, .blob = blob, .num_bytes = num_bytes})) {
  core::require(num_bytes > 0, "BlobReceiver: a blob of 0 bytes");
  if (store.contains(blob)) {
    state_->num_received = num_bytes;
    state_->phase = State::Phase::Complete;
    return;
  }
  state_->file.emplace(File::open_for_writing(store.partial_path(blob)));
  state_->resume();
}

BlobReceiver::~BlobReceiver() = default;
BlobReceiver::BlobReceiver(BlobReceiver&&) noexcept = default;
BlobReceiver& BlobReceiver::operator=(BlobReceiver&&) noexcept = default;

std::vector<Want> BlobReceiver::next_wants() {
  State& state = *state_;
  std::vector<Want> wants;
  while (state.phase == State::Phase::Receiving && state.num_asked < state.num_bytes &&
         state.outstanding.size() < kMaxOutstandingChunks) {
    const Want want{.blob = state.blob,
                    .offset = state.num_asked,
                    .length = std::min(kMaxChunkBytes, state.num_bytes - state.num_asked)};
    state.num_asked += want.length;
    state.outstanding.push_back(want);
    wants.push_back(want);
  }
  return wants;
}

void BlobReceiver::reset_window() {
  state_->outstanding.clear();
  state_->num_asked = state_->num_received;
}

core::Expected<void> BlobReceiver::accept(const Chunk& chunk) {
  State& state = *state_;
  if (chunk.blob != state.blob || state.outstanding.empty() ||
      chunk.offset != state.outstanding.front().offset ||
      chunk.data.size() != state.outstanding.front().length) {
    return core::refuse(core::Refusal::MalformedFrame,
                        "a chunk of " + std::to_string(chunk.data.size()) + " bytes at " +
                            std::to_string(chunk.offset) + " that was not the next one asked for");
  }
  state.append(chunk.data);
  state.outstanding.pop_front();
  return state.num_received == state.num_bytes ? state.finish() : core::Expected<void>();
}

bool BlobReceiver::is_complete() const { return state_->phase == State::Phase::Complete; }

std::uint64_t BlobReceiver::num_received() const { return state_->num_received; }

core::Expected<Chunk> answer(const BlobStore& store, const Want& want) {
  if (want.length == 0) {
    return core::refuse(core::Refusal::MalformedFrame, "a range of 0 bytes was asked for");
  }
  auto data = store.read(want.blob, want.offset, std::min(want.length, kMaxChunkBytes));
  if (!data) return tl::make_unexpected(data.error());
  return Chunk{.blob = want.blob, .offset = want.offset, .data = std::move(*data)};
}

}  // namespace drystone::wire
