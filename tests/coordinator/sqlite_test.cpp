#include "coordinator/sqlite.h"

#include <doctest/doctest.h>
#include <sqlite3.h>

#include "core/error.h"
#include "tests/temporary_folder.h"

using namespace drystone;
using coordinator::SqliteDatabase;

TEST_CASE("sqlite: a database that cannot be opened says what to look at, and keeps no memory") {
  const test::TemporaryFolder dir;
  const auto refused = [&] {
    for (const auto access : {SqliteDatabase::Access::Read, SqliteDatabase::Access::Write}) {
      CHECK_THROWS_WITH_AS(SqliteDatabase(dir / "missing/state.sqlite", access),
                           doctest::Contains("check that the folder exists"), core::IoError);
    }
  };
  refused();
  const auto before = sqlite3_memory_used();
  refused();
  CHECK(sqlite3_memory_used() == before);
}
