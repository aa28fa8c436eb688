// Every error of the file system says what to do: the tests run as root, whom few permissions stop.

#include "core/file_errors.h"

#include <cerrno>

#include <doctest/doctest.h>

#include "core/files.h"
#include "core/output_folder.h"
#include "tests/temporary_folder.h"

using namespace drystone;

TEST_CASE("file errors: what the system says, and a remedy") {
  const auto text = [](int number) {
    return std::string(
        core::file_error("/a/b", "cannot be written", {number, std::generic_category()}).what());
  };
  CHECK(text(EACCES) ==
        "/a/b: cannot be written: Permission denied; give this user the permission, or use another "
        "path");
  CHECK(text(EROFS).ends_with("; use a path on a file system that can be written"));
  CHECK(text(ENOSPC).ends_with("; make room on the disk"));
  CHECK(text(EIO).ends_with("; check the disk"));
}

TEST_CASE("file errors: what std::filesystem throws reads the same") {
  const test::TemporaryFolder folder;
  const auto file = folder.write("file", "");
  try {
    std::filesystem::create_directories(file / "inside");
    FAIL("a folder in a file");
  } catch (const std::filesystem::filesystem_error& error) {
    const std::string text = core::file_error(error).what();
    CHECK(text.starts_with(file.string() + "/inside: cannot create director"));
    CHECK(text.ends_with(": Not a directory; a part of the path is a file: give another path"));
  }
  const auto other = folder / "other";
  try {
    std::filesystem::rename(folder / "none", other);
    FAIL("nothing renamed");
  } catch (const std::filesystem::filesystem_error& error) {
    CHECK(core::file_error(error).what() ==
          (folder / "none").string() + " and " + other.string() +
              ": cannot rename: No such file or directory; check the path, and that its folder "
              "exists");
  }
}

TEST_CASE("file errors: files and folders that cannot be made say so in that form") {
  const test::TemporaryFolder folder;
  const auto file = folder.write("file", "");
  const auto remedy = doctest::Contains("; a part of the path is a file: give another path");
  CHECK_THROWS_WITH_AS(core::read_file(file / "inside", 10), remedy, core::IoError);
  CHECK_THROWS_WITH_AS(core::write_file_atomic(file / "in/it", {}), remedy, core::IoError);
  CHECK_THROWS_WITH_AS(core::OutputFolder{file / "in"}, remedy, core::IoError);
}
