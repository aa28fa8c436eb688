#include "core/files.h"

#include <doctest/doctest.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/error.h"
#include "core/mapped_file.h"
#include "core/regular_file.h"
#include "core/temporary_files.h"
#include "tests/temporary_folder.h"

using namespace drystone;
using core::as_bytes;
using core::IoError;

namespace {

std::size_t entries_in(const std::filesystem::path& folder) {
  std::size_t count = 0;
  for ([[maybe_unused]] const auto& entry : std::filesystem::directory_iterator(folder)) ++count;
  return count;
}

}  // namespace

TEST_CASE("files: what is written is read back, and replaces what was there") {
  const test::TemporaryFolder folder;
  const auto path = folder / "a.bin";
  core::write_file_atomic(path, as_bytes("first, the longer one"));
  core::write_file_atomic(path, as_bytes(std::string_view("x\0y", 3)));
  CHECK(core::read_text_file(path, 100) == std::string("x\0y", 3));
  CHECK(core::read_file(path, 3) == core::Bytes{'x', 0, 'y'});
  CHECK(entries_in(folder.path()) == 1);
}

TEST_CASE("files: missing folders are made") {
  const test::TemporaryFolder folder;
  core::write_file_atomic(folder / "b/c/d.txt", as_bytes("deep"));
  CHECK(folder.read("b/c/d.txt") == "deep");
}

TEST_CASE("files: an empty file is a file") {
  const test::TemporaryFolder folder;
  core::write_file_atomic(folder / "empty", {});
  CHECK(core::read_file(folder / "empty", 0).empty());
}

TEST_CASE("files: secrets get their permissions from the start") {
  const test::TemporaryFolder folder;
  core::write_file_atomic(folder / "key", as_bytes("secret"), 0600);
  struct stat facts{};
  REQUIRE(::stat((folder / "key").c_str(), &facts) == 0);
  CHECK((facts.st_mode & 0777U) == 0600);
}

TEST_CASE("files: a failed write leaves nothing behind and the old content in place") {
  const test::TemporaryFolder folder;
  std::filesystem::create_directories(folder / "taken/by-a-folder");
  CHECK_THROWS_WITH_AS(core::write_file_atomic(folder / "taken", as_bytes("x")),
                       doctest::Contains("taken: is not a regular file"), IoError);
  CHECK(entries_in(folder.path()) == 1);
  folder.write("file", "old");
  CHECK_THROWS_AS(core::write_file_atomic(folder / "file/inside", as_bytes("x")), IoError);
  CHECK(folder.read("file") == "old");
}

TEST_CASE("files: a link stays one, and what is no regular file is not replaced") {
  const test::TemporaryFolder folder;
  core::write_file_atomic(folder.path() / "real", as_bytes("old"));
  std::filesystem::create_symlink("real", folder.path() / "link");
  core::write_file_atomic(folder.path() / "link", as_bytes("new"));
  CHECK(std::filesystem::is_symlink(folder.path() / "link"));
  CHECK(core::read_text_file(folder.path() / "real", 10) == "new");
  const std::filesystem::path pipe = folder.path() / "pipe";
  REQUIRE(::mkfifo(pipe.c_str(), 0600) == 0);
  CHECK_THROWS_WITH_AS(core::write_file_atomic(pipe, as_bytes("x")),
                       doctest::Contains("is not a regular file"), IoError);
  CHECK(std::filesystem::is_fifo(pipe));
  CHECK_THROWS_AS(core::write_file_atomic("/dev/null", as_bytes("x")), IoError);
  CHECK(std::filesystem::is_character_file("/dev/null"));
}

TEST_CASE("files: reading is bounded, and only regular files are read") {
  const test::TemporaryFolder folder;
  const auto path = folder.write("big", std::string(2000, 'x'));
  CHECK_THROWS_WITH_AS(
      core::read_file(path, 1999),
      doctest::Contains("holds 2.0 kB, more than the limit of 2.0 kB for such a file; "
                        "is it the right one?"),
      IoError);
  CHECK_THROWS_WITH_AS(core::read_file(folder / "none", 10), doctest::Contains("cannot be opened"),
                       IoError);
  CHECK_THROWS_WITH_AS(core::read_file(folder.path(), 10), doctest::Contains("not a regular file"),
                       IoError);
  REQUIRE(::mkfifo((folder / "pipe").c_str(), 0600) == 0);
  CHECK_THROWS_AS(core::read_file(folder / "pipe", 10), IoError);  // and does not hang
  CHECK_THROWS_AS(core::read_file("/dev/zero", 10), IoError);
}

TEST_CASE("files: only regular files are mapped, and none that claims terabytes") {
  const test::TemporaryFolder folder;
  const auto path = folder.write("file", "abc");
  CHECK(core::as_text(core::MappedFile(path).bytes()) == "abc");
  REQUIRE(::mkfifo((folder / "pipe").c_str(), 0600) == 0);
  for (const auto& other : {folder / "pipe", folder.path(), std::filesystem::path("/dev/zero")}) {
    CHECK_THROWS_WITH_AS(core::MappedFile{other}, doctest::Contains("is not a regular file"),
                         IoError);
  }
  const auto sparse = folder.write("sparse", "");
  std::error_code no_such_files_here;
  std::filesystem::resize_file(sparse, std::uintmax_t{2} << 40, no_such_files_here);
  if (no_such_files_here) return;
  CHECK_THROWS_WITH_AS(core::MappedFile{sparse}, doctest::Contains("holds 2.2 TB, more than"),
                       IoError);
  CHECK_THROWS_AS(core::read_text_file(sparse, 1 << 20), IoError);
  std::filesystem::resize_file(sparse, std::uintmax_t{1} << 36);
  CHECK_THROWS_WITH_AS(core::MappedFile{sparse}, doctest::Contains("is mostly holes"), IoError);
}

TEST_CASE("files: a piece at a time is the whole file") {
  const test::TemporaryFolder folder;
  core::RegularFile file(folder.write("file", "abcdefgh"), 8);
  core::Bytes buffer(5);
  CHECK(file.read(buffer) == 5);
  CHECK(core::as_text(buffer) == "abcde");
  CHECK(file.read(buffer) == 3);
  CHECK(file.read(buffer) == 0);
}

TEST_CASE("files: what an earlier life of the same process number left stands in nobody's way") {
  const test::TemporaryFolder folder;
  for (int i = 0; i < 100; ++i) {  // as temporary names once were
    folder.write("a.bin.tmp-" + std::to_string(::getpid()) + "-" + std::to_string(i), "left");
  }
  core::write_file_atomic(folder / "a.bin", as_bytes("new"));
  CHECK(folder.read("a.bin") == "new");
  CHECK(entries_in(folder.path()) == 101);  // a failure or success deletes only what it made
  folder.write("b.bin.tmp-0123456789abcdef", "left");
  for (const char* const others : {"a.tmp-notes", "a.tmp-2024-01-31", "a.tmp-1", "a.tmp-",
                                   "tmp-1-2", "a.tmp-0123456789abcde", "a.tmp-0123456789ABCDEF"}) {
    folder.write(others, "somebody's");
  }
  core::sweep_temporaries(folder.path());
  CHECK(entries_in(folder.path()) == 8);
  core::sweep_temporaries(folder / "none");
}
