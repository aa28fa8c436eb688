#include "wire/blob_transfer.h"

#include <fstream>
#include <iterator>

#include <doctest/doctest.h>
#include <sys/wait.h>
#include <unistd.h>

#include "core/error.h"
#include "core/log.h"
#include "crypto/hash.h"
#include "tests/temporary_folder.h"
#include "tests/wire/samples.h"
#include "wire/limits.h"

using namespace drystone;
using core::Refusal;
using wire::BlobReceiver;
using wire::kMaxChunkBytes;
namespace fs = std::filesystem;

namespace {

/// A sender's store with one blob, and an empty receiver's store.
struct Transfer {
  explicit Transfer(std::uint64_t size, std::uint64_t seed = 1) {
    core::SplitMix64 random(seed);
    content = test::sample_bytes(random, size);
    blob = sender.put(content);
  }

  BlobReceiver receiver() { return {store, blob, content.size()}; }
  wire::Chunk chunk_for(const wire::Want& want) const { return answer(sender, want).value(); }
  bool is_stored() const {
    return store.contains(blob) && store.size(blob) == content.size() &&
           store.read(blob, 0, content.size()).value() == content &&
           !fs::exists(store.partial_path(blob));
  }

  test::TemporaryFolder folder;
  wire::BlobStore sender{folder.path() / "sender"};
  wire::BlobStore store{folder.path() / "receiver"};
  core::Bytes content;
  core::Digest blob{};
};

/// Serves the receiver until it is complete or `max_chunks` were delivered; how many there were.
std::uint64_t serve(const Transfer& transfer, BlobReceiver& receiver,
                    std::uint64_t max_chunks = ~std::uint64_t{0}) {
  std::uint64_t count = 0;
  std::vector<wire::Want> queue;
  while (!receiver.is_complete() && count < max_chunks) {
    for (const wire::Want& want : receiver.next_wants()) queue.push_back(want);
    REQUIRE_FALSE(queue.empty());
    REQUIRE(queue.size() <= wire::kMaxOutstandingChunks);
    REQUIRE(receiver.accept(transfer.chunk_for(queue.front())).has_value());
    queue.erase(queue.begin());
    ++count;
  }
  return count;
}

std::ptrdiff_t num_open_files() {
  return std::distance(fs::directory_iterator("/proc/self/fd"), {});
}

void write_partial(const Transfer& transfer, const core::Bytes& bytes) {
  std::ofstream(transfer.store.partial_path(transfer.blob), std::ios::binary | std::ios::trunc)
      .write(reinterpret_cast<const char*>(bytes.data()),
             static_cast<std::streamsize>(bytes.size()));
}

}  // namespace

TEST_CASE("BlobReceiver: what reaches the disk later is there all the same") {
  const test::TemporaryFolder folder;
  core::SplitMix64 random(5);
  wire::BlobStore from(folder / "from");
  wire::BlobStore to(folder / "to", wire::Durability::Later);
  std::vector<core::Digest> blobs;
  for (const std::size_t size : {10, 3000}) {
    blobs.push_back(from.put(test::sample_bytes(random, size)));
    BlobReceiver receiver(to, blobs.back(), size);
    for (const wire::Want& want : receiver.next_wants()) {
      CHECK(receiver.accept(wire::answer(from, want).value()));
    }
    CHECK(receiver.is_complete());
    CHECK(to.contains(blobs.back()));
  }
  to.remove(blobs[0]);
  to.sync();
  to.sync();
  CHECK(to.read(blobs[1], 0, 3000).value() == from.read(blobs[1], 0, 3000).value());
}

TEST_CASE("BlobReceiver: every size arrives whole") {
  for (const std::uint64_t size :
       {std::uint64_t{1}, kMaxChunkBytes - 1, kMaxChunkBytes, kMaxChunkBytes + 1,
        4 * kMaxChunkBytes, 7 * kMaxChunkBytes + 123}) {
    CAPTURE(size);
    Transfer transfer(size);
    const std::ptrdiff_t num_open = num_open_files();
    BlobReceiver receiver = transfer.receiver();
    CHECK(serve(transfer, receiver) == (size + kMaxChunkBytes - 1) / kMaxChunkBytes);
    CHECK(receiver.is_complete());
    CHECK(num_open_files() == num_open);
    CHECK(receiver.num_received() == size);
    CHECK(receiver.next_wants().empty());
    CHECK(transfer.is_stored());
  }
}

TEST_CASE("BlobReceiver: recreated after every single chunk, it goes on where it stopped") {
  Transfer transfer(9 * kMaxChunkBytes + 5);
  for (std::uint64_t done = 0; done < 10; ++done) {
    CAPTURE(done);
    BlobReceiver receiver = transfer.receiver();
    CHECK(receiver.num_received() == done * kMaxChunkBytes);
    CHECK(serve(transfer, receiver, 1) == 1);
    CHECK(receiver.is_complete() == (done == 9));
  }
  CHECK(transfer.is_stored());
  CHECK(transfer.receiver().is_complete());
}

TEST_CASE("BlobReceiver: stopped once at every chunk boundary, the content is the same") {
  for (std::uint64_t boundary = 0; boundary <= 6; ++boundary) {
    CAPTURE(boundary);
    Transfer transfer(5 * kMaxChunkBytes + 77, boundary);
    {
      BlobReceiver receiver = transfer.receiver();
      CHECK(serve(transfer, receiver, boundary) == boundary);
    }
    BlobReceiver receiver = transfer.receiver();
    CHECK(serve(transfer, receiver) == 6 - boundary);
    CHECK(transfer.is_stored());
  }
}

TEST_CASE("BlobReceiver: a process that dies without a goodbye loses nothing that it wrote") {
  for (std::uint64_t boundary = 0; boundary <= 4; ++boundary) {
    CAPTURE(boundary);
    Transfer transfer(3 * kMaxChunkBytes + 1);
    const pid_t child = ::fork();
    REQUIRE(child >= 0);
    if (child == 0) {
      BlobReceiver receiver = transfer.receiver();
      for (std::uint64_t i = 0; i < boundary;) {
        for (const wire::Want& want : receiver.next_wants()) {
          if (i++ < boundary) static_cast<void>(receiver.accept(transfer.chunk_for(want)));
        }
      }
      ::_exit(0);  // no destructor runs
    }
    REQUIRE(::waitpid(child, nullptr, 0) == child);
    BlobReceiver receiver = transfer.receiver();
    CHECK(receiver.num_received() == std::min(boundary * kMaxChunkBytes, transfer.content.size()));
    serve(transfer, receiver);
    CHECK(transfer.is_stored());
  }
}

TEST_CASE("BlobReceiver: resumes from any length, also in the middle of a chunk") {
  core::SplitMix64 random(5);
  for (int trial = 0; trial < 12; ++trial) {
    Transfer transfer(2 * kMaxChunkBytes + 1000);
    const std::uint64_t kept = random.below(transfer.content.size() + 1);
    CAPTURE(kept);
    write_partial(transfer,
                  core::Bytes(transfer.content.begin(),
                              transfer.content.begin() + static_cast<std::ptrdiff_t>(kept)));
    BlobReceiver receiver = transfer.receiver();
    CHECK(receiver.num_received() == kept);
    serve(transfer, receiver);
    CHECK(transfer.is_stored());
  }
}

TEST_CASE("BlobReceiver: a damaged partial file is found out and fetched anew, nobody is blamed") {
  core::init_log(core::LogLevel::Error);
  core::SplitMix64 random(6);
  for (int trial = 0; trial < 8; ++trial) {
    CAPTURE(trial);
    Transfer transfer(2 * kMaxChunkBytes + 10);
    // The last trials leave a file that is whole, or longer than the blob.
    const std::uint64_t kept = trial < 6 ? 1 + random.below(2 * kMaxChunkBytes)
                                         : transfer.content.size() + (trial == 7 ? 5 : 0);
    core::Bytes damaged = transfer.content;
    damaged.resize(kept);
    damaged[random.below(std::min<std::uint64_t>(kept, transfer.content.size()))] ^= 0x10;
    write_partial(transfer, damaged);
    BlobReceiver receiver = transfer.receiver();
    CHECK_FALSE(receiver.is_complete());
    serve(transfer, receiver);
    CHECK(receiver.is_complete());
    CHECK(transfer.is_stored());
  }
}

TEST_CASE("BlobReceiver: content that does not hash to its name is the sender's fault") {
  Transfer transfer(kMaxChunkBytes + 10);
  BlobReceiver receiver = transfer.receiver();
  const auto wants = receiver.next_wants();
  REQUIRE(wants.size() == 2);
  wire::Chunk bad = transfer.chunk_for(wants[0]);
  bad.data[17] ^= 1;
  CHECK(receiver.accept(bad).has_value());
  const auto result = receiver.accept(transfer.chunk_for(wants[1]));
  REQUIRE_FALSE(result.has_value());
  CHECK(result.error().code == Refusal::PayloadMismatch);
  CHECK_FALSE(receiver.is_complete());
  CHECK(receiver.next_wants().empty());
  CHECK_FALSE(fs::exists(transfer.store.partial_path(transfer.blob)));
  CHECK_FALSE(transfer.store.contains(transfer.blob));
  CHECK_FALSE(receiver.accept(transfer.chunk_for(wants[0])).has_value());
  BlobReceiver again = transfer.receiver();
  serve(transfer, again);
  CHECK(transfer.is_stored());
}

TEST_CASE("BlobReceiver: a lie after a damaged start is found out in the second pass") {
  core::init_log(core::LogLevel::Error);
  Transfer transfer(kMaxChunkBytes);
  write_partial(transfer, core::Bytes(100, 0));
  BlobReceiver receiver = transfer.receiver();
  for (int pass = 0; pass < 2; ++pass) {
    CAPTURE(pass);
    const auto wants = receiver.next_wants();
    REQUIRE(wants.size() == 1);
    wire::Chunk bad = transfer.chunk_for(wants[0]);
    bad.data.back() ^= 1;
    CHECK(receiver.accept(bad).has_value() == (pass == 0));
  }
}

TEST_CASE("BlobReceiver: only the chunk that was asked for, exactly") {
  Transfer transfer(8 * kMaxChunkBytes);
  BlobReceiver receiver = transfer.receiver();
  const auto refuses = [&](const wire::Chunk& chunk) {
    const std::uint64_t before = receiver.num_received();
    const auto result = receiver.accept(chunk);
    CHECK(receiver.num_received() == before);
    return !result.has_value() && result.error().code == Refusal::MalformedFrame;
  };
  const wire::Want first{transfer.blob, 0, kMaxChunkBytes};
  CHECK(refuses(transfer.chunk_for(first)));  // nothing was asked for yet
  const auto wants = receiver.next_wants();
  REQUIRE(wants.size() == wire::kMaxOutstandingChunks);
  CHECK(receiver.next_wants().empty());
  CHECK(refuses(transfer.chunk_for(wants[1])));  // skips ahead
  wire::Chunk chunk = transfer.chunk_for(wants[0]);
  chunk.data.pop_back();
  CHECK(refuses(chunk));
  chunk.data.resize(kMaxChunkBytes + 1);
  CHECK(refuses(chunk));
  chunk = transfer.chunk_for(wants[0]);
  chunk.blob[0] ^= 1;
  CHECK(refuses(chunk));
  chunk = transfer.chunk_for(wants[0]);
  chunk.offset = ~std::uint64_t{0};
  CHECK(refuses(chunk));
  CHECK(receiver.accept(transfer.chunk_for(wants[0])).has_value());
  CHECK(refuses(transfer.chunk_for(wants[0])));  // twice
  CHECK(receiver.next_wants().size() == 1);

  receiver.reset_window();
  CHECK(refuses(transfer.chunk_for(wants[1])));  // not asked for since
  const auto again = receiver.next_wants();
  REQUIRE(again.size() == wire::kMaxOutstandingChunks);
  CHECK(again[0].offset == kMaxChunkBytes);
  receiver.reset_window();
  serve(transfer, receiver);
  CHECK(transfer.is_stored());
}

TEST_CASE("BlobReceiver: knows what the store has; an empty blob is a caller's bug") {
  Transfer transfer(100);
  transfer.store.put(transfer.content);
  BlobReceiver receiver = transfer.receiver();
  CHECK(receiver.is_complete());
  CHECK(receiver.next_wants().empty());
  CHECK_THROWS_AS(BlobReceiver(transfer.store, transfer.blob, 0), core::InvalidArgument);
}

TEST_CASE("answer: caps the length and refuses nonsense") {
  Transfer transfer(2 * kMaxChunkBytes);
  const auto capped = answer(transfer.sender, {transfer.blob, 0, 2 * kMaxChunkBytes});
  REQUIRE(capped.has_value());
  CHECK(capped->data.size() == kMaxChunkBytes);
  CHECK(answer(transfer.sender, {transfer.blob, 0, 0}).error().code == Refusal::MalformedFrame);
  CHECK(answer(transfer.sender, {{}, 0, 1}).error().code == Refusal::PayloadMismatch);
  CHECK_FALSE(answer(transfer.sender, {transfer.blob, 2 * kMaxChunkBytes, 1}).has_value());
  CHECK_FALSE(answer(transfer.sender, {transfer.blob, ~std::uint64_t{0}, 10}).has_value());
}
