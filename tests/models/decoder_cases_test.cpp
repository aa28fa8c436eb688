// Every decoder family in many shapes against transformers: the folders that
// tests/oracles/decoder_cases.py makes when the repository's .venv is there, and the shared models.
// DRYSTONE_PRINT_TABLE=1 prints the rows of docs/models.md.

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <string>
#include <vector>

#include <ATen/ops/tensor.h>
#include <doctest/doctest.h>
#include <nlohmann/json.hpp>

#include "core/files.h"
#include "models/decoder/generation.h"
#include "models/likelihood.h"
#include "models/load.h"
#include "tests/models/decoder_oracle.h"

using namespace drystone;
namespace fs = std::filesystem;

namespace {

/// float32 against float32 in another order of operations.
constexpr double kTolerance = 1e-5;

const fs::path kSource = DRYSTONE_SOURCE_DIR;
const fs::path kShared = kSource / "../shared/data/models";

/// The folder of all cases, made when it is not there or older than the script that makes it; empty
/// where that is not possible.
fs::path cases() {
  const fs::path folder = fs::path(DRYSTONE_BINARY_DIR) / "decoder_cases";
  const fs::path complete = folder / "complete";
  const bool is_current =
      fs::exists(complete) && fs::last_write_time(complete) >=
                                  fs::last_write_time(kSource / "tests/oracles/decoder_cases.py");
  if (is_current) return folder;
  const fs::path python = kSource / ".venv/bin/python";
  if (!fs::exists(python)) return {};
  const std::string command = "cd '" + kSource.string() + "' && '" + python.string() +
                              "' tests/oracles/decoder_cases.py --out '" + folder.string() +
                              "' 2> /dev/null";
  // No other thread runs, and the command has no text from outside.
  const int status = std::system(command.c_str());  // NOLINT(cert-env33-c, concurrency-mt-unsafe)
  return status == 0 ? folder : fs::path();
}

void print_row(const std::string& name, const test::DecoderErrors& errors) {
  if (std::getenv("DRYSTONE_PRINT_TABLE") == nullptr) return;  // NOLINT(concurrency-mt-unsafe)
  std::string batches;
  for (const std::string& batch : errors.batches) batches += (batches.empty() ? "" : ", ") + batch;
  std::printf("| %s | %s | %.1e | %.1e | %.1e (%zu) |\n", name.c_str(), batches.c_str(),
              errors.logits, errors.loss, errors.gradients, errors.num_gradients);
}

void check(const std::string& name, const test::DecoderErrors& errors) {
  print_row(name, errors);
  CHECK(errors.logits < kTolerance);
  CHECK(errors.loss < kTolerance);
  CHECK(errors.gradients < kTolerance);
  CHECK(errors.num_gradients > 0);
}

}  // namespace

TEST_CASE("Decoder: all cases are transformers', logits, loss and gradients") {
  const fs::path folder = cases();
  if (folder.empty()) {
    MESSAGE("skipped: no .venv with transformers");
    return;
  }
  int compared = 0;
  std::vector<fs::path> all;
  for (const auto& entry : fs::directory_iterator(folder)) all.push_back(entry.path());
  std::sort(all.begin(), all.end());
  for (const fs::path& path : all) {
    if (!fs::exists(path / "config.json")) continue;
    const std::string name = path.filename().string();
    CAPTURE(name);
    const tensors::SafetensorsFile expected(path / "expected.safetensors");
    const auto at_labels = name.find("-classifier-");
    models::ModelSpec spec{.folder = path, .task = models::Task::CausalLm};
    if (at_labels == std::string::npos) {
      const auto model = models::load_model(spec);
      CHECK(test::continues_alike(*model, expected));
      check(name, test::compare_language_model(*model, expected));
    } else {
      spec.num_labels = name.back() - '0';
      spec.task = spec.num_labels == 1 ? models::Task::Regression : models::Task::Classification;
      check(name, test::compare_classifier(*models::load_model(spec), expected));
    }
    ++compared;
  }
  CHECK(compared >= 37);
}

TEST_CASE("Decoder: the shared tiny models") {
  for (const char* const name :
       {"gpt2", "llama-gqa", "llama3-rope-tied", "mistral-window", "qwen2-bias"}) {
    const fs::path folder = kShared / "tiny-random" / name;
    if (!fs::exists(folder / "expected.safetensors")) {
      MESSAGE("skipped: no " << folder.string());
      return;
    }
    CAPTURE(name);
    const tensors::SafetensorsFile expected(folder / "expected.safetensors");
    const models::ModelSpec spec{.folder = folder, .task = models::Task::CausalLm};
    const models::Base base = models::load_base(spec);
    const auto model = models::build(spec, base);
    auto& decoder = dynamic_cast<models::Decoder&>(*model);
    models::Weights leaves = test::decoder_leaves(*model);
    const at::Tensor ids = expected.tensor("input_ids");
    models::Batch batch{.input_ids = ids};
    test::DecoderErrors errors;
    errors.batches = {"plain"};
    errors.logits = std::max(
        test::relative_error(model->logits(batch), expected.tensor("logits")),
        test::relative_error(decoder.hidden_states(batch), expected.tensor("hidden_last")));
    batch.labels = ids;
    const at::Tensor loss = model->loss(model->logits(batch), batch);
    errors.loss = test::relative_error(loss.reshape(1), expected.tensor("loss"));
    loss.backward();
    test::compare_gradients(leaves, expected, "grad.", errors);
    check("shared: " + std::string(name), errors);
  }
}

TEST_CASE("Decoder: stories260K's logits, loss and exact reference text") {
  const fs::path folder = kShared / "stories260K";
  if (!fs::exists(folder / "expected.json")) {
    MESSAGE("skipped: no " << folder.string());
    return;
  }
  const auto answers =
      nlohmann::json::parse(core::read_text_file(folder / "expected.json", 1 << 20));
  const tensors::SafetensorsFile expected(folder / "expected_logits.safetensors");
  const auto model = models::load_model({.folder = folder, .task = models::Task::CausalLm});
  CHECK(models::stop_ids_of(folder) == std::vector<std::int64_t>{2});

  std::vector<std::vector<std::int64_t>> prompts = {{1}};
  std::vector<std::vector<std::int64_t>> wanted = {answers.at("bos_greedy_ids")};
  for (std::size_t i = 0; i < answers.at("prompts").size(); ++i) {
    const auto& answer = answers.at("prompts")[i];
    prompts.push_back(answer.at("input_ids"));
    wanted.push_back(answer.at("greedy_ids"));
    const at::Tensor ids = at::tensor(prompts.back(), at::kLong).unsqueeze(0);
    const at::Tensor logits = model->logits({.input_ids = ids}).squeeze(0);
    CHECK(test::relative_error(logits, expected.tensor("logits." + std::to_string(i))) <
          kTolerance);
    const models::Batch batch{.input_ids = ids, .labels = ids};
    const double loss = model->loss(model->logits(batch), batch).item<double>();
    CHECK(std::abs(loss - answer.at("loss").get<double>()) < 1e-4);
    const auto likelihood = models::log_likelihoods(*model, batch).front();
    CHECK(likelihood.num_tokens == ids.numel() - 1);
    CHECK(-likelihood.log_probability / static_cast<double>(likelihood.num_tokens) ==
          doctest::Approx(loss).epsilon(1e-5));
  }
  const auto results = models::generate(*model, prompts, {.max_new_tokens = 200});
  for (std::size_t i = 0; i < prompts.size(); ++i) {
    CAPTURE(i);
    std::vector<std::int64_t> text = prompts[i];
    text.insert(text.end(), results[i].ids.begin(), results[i].ids.end());
    REQUIRE(text.size() >= wanted[i].size());
    text.resize(wanted[i].size());
    CHECK(text == wanted[i]);
  }
}
