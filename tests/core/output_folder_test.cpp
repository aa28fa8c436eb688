#include "core/output_folder.h"

#include <doctest/doctest.h>

#include "core/error.h"
#include "tests/temporary_folder.h"

using namespace drystone;
namespace fs = std::filesystem;

TEST_CASE("output folder: a refusal takes back what was made, and only that") {
  const test::TemporaryFolder folder;
  const fs::path run = folder / "runs/new/run";
  core::OutputFolder refused(run);
  folder.write("runs/new/run/log.txt", "refused");
  fs::create_directories(run / "state/blobs");
  refused.abandon();
  CHECK_FALSE(fs::exists(folder / "runs"));

  core::OutputFolder used(run);
  folder.write("runs/new/run/state.sqlite", "rounds");
  used.abandon();
  CHECK(fs::exists(run / "state.sqlite"));

  fs::create_directories(folder / "mine");
  core::OutputFolder there(folder / "mine");
  there.abandon();
  CHECK(fs::exists(folder / "mine"));
}

TEST_CASE("output folder: what fails while it is filled leaves nothing") {
  const test::TemporaryFolder folder;
  fs::create_directories(folder / "empty");
  for (const char* const name : {"new/out", "empty"}) {
    const auto fill = [&] {
      core::OutputFolder(folder / name).fill([&] {
        folder.write(std::string(name) + "/part/weights", "half");
        throw core::IoError("no space left");
      });
    };
    CHECK_THROWS_AS(fill(), core::IoError);
  }
  CHECK_FALSE(fs::exists(folder / "new"));
  CHECK(fs::is_empty(folder / "empty"));
}

TEST_CASE("output folder: one that cannot be made is an error") {
  const test::TemporaryFolder folder;
  folder.write("file", "x");
  CHECK_THROWS_AS(core::OutputFolder(folder / "file/run"), core::IoError);
  CHECK_THROWS_AS(core::OutputFolder(folder / ("a/b/" + std::string(256, 'x'))), core::IoError);
  CHECK_FALSE(fs::exists(folder / "a"));
}
