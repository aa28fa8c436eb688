// What a client leaves free on its disk. How much is free, the test says in the C library's place.

#include "client/storage.h"

#include <cstdint>
#include <fstream>
#include <string>

#include <doctest/doctest.h>
#include <sys/statvfs.h>

#include "core/error.h"
#include "crypto/hash.h"
#include "tests/temporary_folder.h"

using namespace drystone;

namespace {

constexpr std::uint64_t kPlenty = std::uint64_t{1} << 40;
std::uint64_t free_bytes = kPlenty;

}  // namespace

// std::filesystem::space asks it.
extern "C" int statvfs(const char* /*path*/, struct statvfs* facts) noexcept {
  *facts = {};
  facts->f_frsize = 1;
  facts->f_bavail = free_bytes;
  return 0;
}

TEST_CASE("storage: a version is not fetched where the disk would not keep its reserve") {
  const test::TemporaryFolder folder;
  wire::BlobStore blobs(folder.path());
  client::Storage storage(blobs, kPlenty);
  const core::Digest version = crypto::sha256(core::as_bytes("version"));
  const auto fits = [&](std::uint64_t free, std::uint64_t bytes) {
    free_bytes = free;
    try {
      storage.make_room(version, bytes);
    } catch (const core::IoError& error) {
      const std::string message = error.what();
      CHECK(message.find("does not fit the disk, where ") != std::string::npos);
      CHECK(message.find("make room and start again") != std::string::npos);
      return false;
    }
    return true;
  };
  constexpr std::uint64_t kReserve = client::Storage::kFreeReserve;
  CHECK(fits(kReserve + 1000, 1000));
  CHECK_FALSE(fits(kReserve + 1000, 1001));
  CHECK_FALSE(fits(kReserve - 1, 1));
  CHECK_FALSE(fits(0, 1));

  std::ofstream(blobs.partial_path(version)) << std::string(400, 'x');  // is there already
  CHECK(fits(kReserve + 1000, 1400));
  CHECK_FALSE(fits(kReserve + 1000, 1401));
  free_bytes = kPlenty;
}

TEST_CASE("storage: a sweep leaves what is needed, whole or not, and nothing else") {
  const test::TemporaryFolder folder;
  wire::BlobStore blobs(folder.path());
  client::Storage storage(blobs, kPlenty);
  const core::Digest whole = blobs.put(core::as_bytes("needed"));
  const core::Digest growing = crypto::sha256(core::as_bytes("growing"));
  const core::Digest left = crypto::sha256(core::as_bytes("left"));
  for (const core::Digest& blob : {growing, left}) std::ofstream(blobs.partial_path(blob)) << "x";
  blobs.put(core::as_bytes("of an earlier life"));
  storage.sweep({whole, growing});
  CHECK((blobs.all() == std::vector<core::Digest>{whole}));
  CHECK(std::filesystem::exists(blobs.partial_path(growing)));
  CHECK_FALSE(std::filesystem::exists(blobs.partial_path(left)));
}
