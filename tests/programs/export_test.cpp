// drystone export, read back by the gguf package and by ourselves.

#include <filesystem>
#include <string>

#include <doctest/doctest.h>

#include "tests/programs/oracle.h"
#include "tests/programs/process.h"
#include "tests/temporary_folder.h"

using namespace drystone;
namespace fs = std::filesystem;

namespace {

/// Exit status of `drystone export`; its output goes to FOLDER/log.
int run_export(const fs::path& folder, const std::vector<std::string>& more) {
  std::vector<std::string> arguments = {"export", "--adapter", (folder / "adapter").string()};
  arguments.insert(arguments.end(), more.begin(), more.end());
  test::Process process("drystone", arguments, folder / "log");
  return process.wait();
}

std::string output_of(const fs::path& folder) {
  std::ostringstream text;
  text << std::ifstream(folder / "log").rdbuf();
  return text.str();
}

/// An adapter of one module by hand, so that this needs no Python.
void write_adapter(const fs::path& folder, const std::string& model_type,
                   const std::string& module = "model.layers.0.mlp.up_proj") {
  fs::create_directories(folder / "adapter");
  fs::create_directories(folder / "base");
  std::ofstream(folder / "base/config.json") << R"({"model_type": ")" << model_type << R"("})";
  std::ofstream(folder / "adapter/adapter_config.json")
      << R"({"peft_type": "LORA", "r": 1, "lora_alpha": 1, "base_model_name_or_path": "gone"})";
  const std::string name = "base_model.model." + module;
  const std::string header = "{\"" + name + R"(.lora_A.weight":)" +
                             R"({"dtype":"F32","shape":[1,1],"data_offsets":[0,4]},")" + name +
                             R"(.lora_B.weight":)" +
                             R"({"dtype":"F32","shape":[1,1],"data_offsets":[4,8]}})";
  std::ofstream file(folder / "adapter/adapter_model.safetensors", std::ios::binary);
  const std::uint64_t length = header.size();
  file.write(reinterpret_cast<const char*>(&length), sizeof(length));
  file << header << std::string(8, '\0');
}

}  // namespace

TEST_CASE("drystone export: the gguf package reads every tensor, of every family") {
  test::check_families("gguf_oracle", "gguf, safetensors", 9, [](const fs::path& family) {
    const std::string out = (family / "adapter.gguf").string();
    return run_export(family, {"--format", "gguf", "--out", out});
  });
}

TEST_CASE("drystone export: a PEFT folder, and what is refused by name") {
  const test::TemporaryFolder folder;
  write_adapter(folder.path(), "llama");
  const std::string out = (folder.path() / "out").string();
  CHECK(run_export(folder.path(), {"--format", "peft", "--out", out}) == 0);
  CHECK(fs::exists(folder.path() / "out/adapter_model.safetensors"));

  CHECK(run_export(folder.path(), {"--format", "peft", "--out", out}) == 2);
  CHECK(output_of(folder.path()).find("exists already") != std::string::npos);
  const std::string file = (folder.path() / "x.gguf").string();
  CHECK(run_export(folder.path(), {"--format", "gguf", "--out", file}) == 2);
  CHECK(output_of(folder.path()).find("--model") != std::string::npos);
  const std::string base = (folder.path() / "base").string();
  write_adapter(folder.path(), "bert");
  CHECK(run_export(folder.path(), {"--format", "gguf", "--out", file, "--model", base}) == 2);
  CHECK(output_of(folder.path()).find("\"bert\" has no adapters") != std::string::npos);
  CHECK_FALSE(fs::exists(file));
  write_adapter(folder.path(), "gemma", "lm_head");
  CHECK(run_export(folder.path(), {"--format", "gguf", "--out", file, "--model", base}) == 2);
  CHECK(output_of(folder.path()).find("adapts lm_head, which is tied") != std::string::npos);
  write_adapter(folder.path(), "qwen2");
  CHECK(run_export(folder.path(), {"--format", "gguf", "--out", file, "--model", base}) == 0);
  CHECK(fs::exists(file));
}

TEST_CASE("drystone export: a full disk leaves nothing behind") {
  const test::TemporaryFolder folder;
  write_adapter(folder.path(), "qwen2");
  const std::string base = (folder.path() / "base").string();
  for (const char* const format : {"peft", "gguf"}) {
    const std::string out = (folder.path() / "out").string();
    const int status = [&] {
      const test::FullDisk full;
      return run_export(folder.path(), {"--format", format, "--out", out, "--model", base});
    }();
    CHECK(status == 1);
    CHECK_FALSE(fs::exists(out));
    CHECK_FALSE(fs::exists(out + ".part"));
  }
}

TEST_CASE("drystone export: --rank and --tolerance tell what they cost, and do not go together") {
  const test::TemporaryFolder folder;
  write_adapter(folder.path(), "llama");
  const std::string out = (folder.path() / "out").string();
  CHECK(run_export(folder.path(),
                   {"--format", "peft", "--out", out, "--rank", "1", "--tolerance", "0.1"}) == 2);
  CHECK(run_export(folder.path(), {"--format", "peft", "--out", out, "--rank", "0"}) == 2);
  CHECK(run_export(folder.path(), {"--format", "peft", "--out", out, "--tolerance", "1"}) == 2);
  CHECK_FALSE(fs::exists(out));
  CHECK(run_export(folder.path(), {"--format", "peft", "--out", out, "--rank", "1"}) == 0);
  CHECK(output_of(folder.path()).find("rank 1 cut to 1: relative error 0") != std::string::npos);
}
