#include "client/client_memory.h"

#include <filesystem>
#include <fstream>

#include <ATen/ops/full.h>
#include <doctest/doctest.h>

#include "tests/temporary_folder.h"

namespace drystone::client {
namespace {

ClientMemory::Tensors one(double value) { return {{"m.mean", at::full({2, 3}, value)}}; }

double kept(const ClientMemory& memory, std::uint64_t round) {
  const auto found = memory.before(round);
  return found.empty() ? 0.0 : found.at("m.mean").sum().item<double>() / 6.0;
}

TEST_CASE("client memory: a round that is trained again finds what it found") {
  const test::TemporaryFolder folder;
  const ClientMemory memory(folder.path() / "memory", "f");
  CHECK(memory.before(1).empty());
  memory.keep(1, one(1.0));
  CHECK(memory.before(1).empty());  // a crash after it was kept
  CHECK(kept(memory, 2) == 1.0);
  memory.keep(2, one(2.0));
  memory.keep(2, one(2.0));
  CHECK(kept(memory, 2) == 1.0);
  CHECK(kept(memory, 5) == 2.0);  // rounds that it was not asked in
  const auto used = std::filesystem::directory_iterator(folder.path() / "memory")->path();
  std::ofstream(used / "5.safetensors.tmp-0123456789abcdef") << "left by a life before";
  memory.keep(5, one(5.0));
  CHECK(kept(memory, 5) == 2.0);
  CHECK(kept(memory, 6) == 5.0);
  std::size_t files = 0;
  for (const auto& entry : std::filesystem::recursive_directory_iterator(folder.path())) {
    files += entry.is_regular_file() ? 1 : 0;
  }
  CHECK(files == 2);  // the last round's, and what it began from
}

TEST_CASE("client memory: another federation's files count as absent, and stay") {
  const test::TemporaryFolder folder;
  ClientMemory(folder.path(), "old").keep(3, one(3.0));
  const ClientMemory memory(folder.path(), "new");
  CHECK(memory.before(9).empty());
  memory.keep(1, one(1.0));
  CHECK(kept(memory, 9) == 1.0);
  memory.keep(3, one(9.0));
  CHECK(kept(ClientMemory(folder.path(), "old"), 9) == 3.0);
  CHECK(kept(ClientMemory(folder.path(), "../old"), 9) == 0.0);
}

TEST_CASE("client memory: what is carried to another machine and back is the same there") {
  const test::TemporaryFolder here;
  const test::TemporaryFolder there;
  const ClientMemory own(here.path(), "f");
  const ClientMemory other(there.path(), "f");
  CHECK_FALSE(own.carry_before(3).has_value());
  own.keep(1, one(1.0));
  own.keep(2, one(2.0));
  other.put(own.carry_before(3).value());
  CHECK(kept(other, 3) == 2.0);
  other.keep(3, one(3.0));
  own.put(other.carry(3).value());
  CHECK(kept(own, 4) == 3.0);
  CHECK(kept(own, 3) == 2.0);
  CHECK_FALSE(own.carry(4).has_value());
}

TEST_CASE("client memory: without a folder nothing is kept") {
  const ClientMemory memory("", "f");
  memory.keep(1, one(1.0));
  CHECK(memory.before(2).empty());
  CHECK_FALSE(memory.carry_before(2).has_value());
}

}  // namespace
}  // namespace drystone::client
