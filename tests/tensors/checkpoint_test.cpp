#include "tensors/checkpoint.h"

#include <fstream>

#include <ATen/ops/equal.h>
#include <ATen/ops/full.h>
#include <doctest/doctest.h>

#include "core/error.h"
#include "tensors/safetensors_writer.h"
#include "tests/temporary_folder.h"

namespace drystone::tensors {
namespace {

void write_index(const test::TemporaryFolder& folder, const std::string& weight_map) {
  std::ofstream(folder / "model.safetensors.index.json")
      << R"({"metadata":{"total_size":8},"weight_map":)" << weight_map << "}";
}

TEST_CASE("open_checkpoint: a single file and shards read the same") {
  const test::TemporaryFolder single;
  const test::TemporaryFolder sharded;
  const at::Tensor x = at::full({2}, 1.5);
  const at::Tensor y = at::full({3}, 2.5);
  write_safetensors(single / "model.safetensors", {{"x", x}, {"y", y}});
  write_safetensors(sharded / "model-00001-of-00002.safetensors", {{"x", x}});
  write_safetensors(sharded / "model-00002-of-00002.safetensors", {{"y", y}});
  write_index(sharded, R"({"x":"model-00001-of-00002.safetensors",)"
                       R"("y":"model-00002-of-00002.safetensors"})");
  for (const auto* folder : {&single, &sharded}) {
    const Checkpoint checkpoint = open_checkpoint(folder->path());
    CHECK(checkpoint.names() == std::vector<std::string>{"x", "y"});
    CHECK(at::equal(checkpoint.tensor("x"), x));
    CHECK(at::equal(checkpoint.tensor("y"), y));
    CHECK(checkpoint.info("y").shape == std::vector<int64_t>{3});
    CHECK_THROWS_AS(checkpoint.tensor("z"), core::IoError);
  }
  CHECK(open_checkpoint(sharded.path()).files().size() == 2);
}

TEST_CASE("open_checkpoint: refuses shards that are missing, foreign or inconsistent") {
  const test::TemporaryFolder folder;
  CHECK_THROWS_AS(open_checkpoint(folder.path()), core::IoError);
  write_safetensors(folder / "one", {{"x", at::full({2}, 1.0)}});
  write_safetensors(folder / "two", {{"x", at::full({2}, 2.0)}, {"y", at::full({2}, 2.0)}});
  for (const char* weight_map :
       {R"({"x":"../one"})", R"({"x":"/etc/passwd"})", R"({"x":".."})", R"({"x":""})", R"({"x":1})",
        R"([])", R"({"x":"sub/../one"})", R"({"x":)"}) {
    CAPTURE(weight_map);
    write_index(folder, weight_map);
    CHECK_THROWS_AS(open_checkpoint(folder.path()), core::ConfigError);
  }
  for (const char* weight_map : {R"({"x":"none"})", R"({"x":"one","y":"two"})"}) {
    CAPTURE(weight_map);
    write_index(folder, weight_map);
    CHECK_THROWS_AS(open_checkpoint(folder.path()), core::IoError);
  }
}

TEST_CASE("open_checkpoint: shards in sub-folders, and an index that names more than there is") {
  const test::TemporaryFolder folder;
  std::filesystem::create_directories(folder / "sub");
  write_safetensors(folder / "sub/one", {{"x", at::full({2}, 1.0)}});
  write_index(folder, R"({"x":"sub/one","gone":"sub/one"})");
  const Checkpoint checkpoint = open_checkpoint(folder.path());
  CHECK(checkpoint.names() == std::vector<std::string>{"x"});
}

TEST_CASE("open_checkpoint: says what is there in place of model.safetensors") {
  const auto refusal = [](const char* file) {
    const test::TemporaryFolder folder;
    write_safetensors(folder / file, {{"x", at::full({2}, 1.0)}});
    try {
      open_checkpoint(folder.path());
    } catch (const core::IoError& error) {
      return std::string(error.what());
    }
    return std::string();
  };
  const auto says = [&](const char* file, const char* part) {
    return refusal(file).find(part) != std::string::npos;
  };
  CHECK(says("model-00001-of-00002.safetensors", "but not model.safetensors.index.json"));
  CHECK(says("adapter_model.safetensors", "is an adapter"));
  CHECK(says("model.fp16.safetensors", "holds model.fp16.safetensors"));
  CHECK(says("weights.bin", "convert the checkpoint"));
}

}  // namespace
}  // namespace drystone::tensors
