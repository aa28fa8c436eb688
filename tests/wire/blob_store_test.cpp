#include "wire/blob_store.h"

#include <algorithm>
#include <fstream>

#include <doctest/doctest.h>

#include "core/error.h"
#include "crypto/hash.h"
#include "tests/temporary_folder.h"
#include "tests/wire/samples.h"

using namespace drystone;
using core::Refusal;
namespace fs = std::filesystem;

TEST_CASE("BlobStore: content comes back under its hash, also after a restart") {
  const test::TemporaryFolder folder;
  core::SplitMix64 random(1);
  const core::Bytes content = test::sample_bytes(random, 3000);
  const core::Digest expected = crypto::sha256(content);
  {
    wire::BlobStore store(folder.path() / "a" / "blobs");
    CHECK_FALSE(store.contains(expected));
    CHECK(store.put(content) == expected);
    CHECK(store.put(content) == expected);
  }
  wire::BlobStore store(folder.path() / "a" / "blobs");
  CHECK(store.contains(expected));
  CHECK(store.size(expected) == 3000);
  CHECK(store.path(expected).filename() == core::to_hex(expected));
  CHECK(store.read(expected, 0, 3000).value() == content);
  CHECK(store.read(expected, 2990, 10).value() == core::Bytes(content.end() - 10, content.end()));
  CHECK(store.read(expected, 3000, 0).value().empty());
  store.remove(expected);
  store.remove(expected);
  CHECK_FALSE(store.contains(expected));
  CHECK_THROWS_AS(store.size(expected), core::IoError);
  CHECK(fs::is_empty(folder.path() / "a" / "blobs" / "partial"));
}

TEST_CASE("BlobStore: refuses unknown blobs and ranges beyond the end") {
  const test::TemporaryFolder folder;
  wire::BlobStore store(folder.path());
  const core::Digest blob = store.put(core::Bytes(100, 1));
  constexpr std::uint64_t kHuge = ~std::uint64_t{0};
  for (const auto& [offset, length] :
       std::vector<std::pair<std::uint64_t, std::uint64_t>>{{0, 101},
                                                            {100, 1},
                                                            {101, 0},
                                                            {kHuge, 1},
                                                            {1, kHuge},
                                                            {kHuge, kHuge},
                                                            {50, kHuge - 49}}) {
    CAPTURE(offset);
    CAPTURE(length);
    const auto bytes = store.read(blob, offset, length);
    REQUIRE_FALSE(bytes.has_value());
    CHECK(bytes.error().code == Refusal::PayloadMismatch);
  }
  CHECK(store.read({}, 0, 1).error().code == Refusal::PayloadMismatch);
}

TEST_CASE("BlobStore: adopts a file that was written elsewhere") {
  const test::TemporaryFolder folder;
  wire::BlobStore store(folder.path() / "blobs");
  core::SplitMix64 random(2);
  for (const std::size_t size : {0UL, 1UL, 1UL << 20, (1UL << 20) + 1, 2500000UL}) {
    CAPTURE(size);
    const core::Bytes content = test::sample_bytes(random, size);
    const fs::path file = folder.path() / "blobs" / "partial" / "draft";
    std::ofstream(file, std::ios::binary)
        .write(reinterpret_cast<const char*>(content.data()), static_cast<std::streamsize>(size));
    CHECK(store.adopt(file) == crypto::sha256(content));
    CHECK_FALSE(fs::exists(file));
    CHECK(store.read(crypto::sha256(content), 0, size).value() == content);
  }
  CHECK_THROWS_AS(store.adopt(folder.path() / "missing"), core::IoError);
}

TEST_CASE("BlobStore: a folder that cannot be made is an error") {
  const test::TemporaryFolder folder;
  std::ofstream(folder.path() / "file") << "x";
  CHECK_THROWS_AS(wire::BlobStore(folder.path() / "file"), core::IoError);
}

TEST_CASE("BlobStore: content that the disk changed is absent, until it comes again") {
  const test::TemporaryFolder folder;
  const core::Bytes content(1000, 7);
  const core::Digest blob = crypto::sha256(content);
  const auto damage = [&] {
    std::fstream file(folder.path() / core::to_hex(blob),
                      std::ios::binary | std::ios::in | std::ios::out);
    file.seekp(500).put(8);
  };
  {
    wire::BlobStore(folder.path()).put(content);
  }
  damage();
  wire::BlobStore store(folder.path());  // a new life
  CHECK_FALSE(store.contains(blob));
  CHECK(store.read(blob, 0, 10).error().code == Refusal::PayloadMismatch);
  CHECK(store.put(content) == blob);
  CHECK(store.contains(blob));
  CHECK(store.read(blob, 500, 1).value() == core::Bytes{7});
  damage();  // in this one
  fs::last_write_time(store.path(blob), fs::file_time_type::clock::now() + std::chrono::seconds(1));
  CHECK_FALSE(store.contains(blob));
}

TEST_CASE("BlobStore: what interrupted writes left is swept, and nothing else") {
  const test::TemporaryFolder folder;
  const std::string name(64, 'a');
  std::ofstream(folder.path() / (name + ".tmp-0123456789abcdef")) << "half";
  std::ofstream(folder.path() / (name + ".tmp-17-0")) << "of an earlier version";
  std::ofstream(folder.path() / "a-note.txt") << "somebody's";
  const wire::BlobStore store(folder.path());
  CHECK(std::distance(fs::directory_iterator(folder.path()), {}) == 2);  // the note and partial/
}

TEST_CASE("BlobStore: a folder that somebody removed is told with the remedy") {
  const test::TemporaryFolder folder;
  wire::BlobStore store(folder / "blobs");
  fs::remove_all(folder / "blobs");
  CHECK_THROWS_WITH_AS(store.all(), doctest::Contains("check the path, and that its folder exists"),
                       core::IoError);
  CHECK_THROWS_WITH_AS(store.remove_partials(), doctest::Contains("blobs/partial: cannot be"),
                       core::IoError);
}
