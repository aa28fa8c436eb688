#include "tensors/checkpoint_writer.h"

#include <string>

#include <ATen/ops/equal.h>
#include <ATen/ops/full.h>
#include <doctest/doctest.h>

#include "core/error.h"
#include "tensors/checkpoint.h"
#include "tests/temporary_folder.h"

using namespace drystone;
using tensors::write_checkpoint;

namespace {

const std::vector<tensors::PlannedTensor> kPlan = {
    {.name = "a", .num_bytes = 8}, {.name = "b", .num_bytes = 40}, {.name = "c", .num_bytes = 8}};

at::Tensor filled(const std::string& name) {
  return at::full({name == "b" ? 10 : 2}, static_cast<double>(name[0]), at::kFloat);
}

}  // namespace

TEST_CASE("write_checkpoint: one file, or shards that are read back as one checkpoint") {
  const std::vector<std::pair<std::uint64_t, std::size_t>> limits = {
      {1000, 1}, {56, 1}, {48, 2}, {10, 3}};
  for (const auto& [limit, files] : limits) {
    CAPTURE(limit);
    const test::TemporaryFolder folder;
    CHECK(write_checkpoint(folder.path(), kPlan, filled, limit) == files);
    const tensors::Checkpoint checkpoint = tensors::open_checkpoint(folder.path());
    CHECK(checkpoint.files().size() == files);
    CHECK(checkpoint.names() == std::vector<std::string>{"a", "b", "c"});
    for (const char* const name : {"a", "b", "c"}) {
      CHECK(at::equal(checkpoint.tensor(name), filled(name)));
    }
  }
}

TEST_CASE("write_checkpoint: a tensor of another size than planned is a bug") {
  const test::TemporaryFolder folder;
  CHECK_THROWS_AS(write_checkpoint(folder.path(), {{.name = "a", .num_bytes = 9}}, filled, 100),
                  core::InvalidArgument);
  CHECK_THROWS_AS(write_checkpoint(folder.path(), {}, filled, 100), core::InvalidArgument);
}
