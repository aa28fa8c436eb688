// The members of a federated ensemble of language models as PEFT folders: PEFT loads them, and its
// logits are those of the federation's own members.

#include <filesystem>
#include <string>

#include <ATen/core/grad_mode.h>
#include <ATen/ops/allclose.h>
#include <ATen/ops/arange.h>
#include <doctest/doctest.h>

#include "models/load.h"
#include "tensors/factor_set_io.h"
#include "tensors/peft_io.h"
#include "tensors/safetensors.h"
#include "tests/programs/oracle.h"
#include "tests/simulation/tiny_language_model.h"
#include "training/global_model.h"

using namespace drystone;
using test::TinyLanguageModel;
namespace fs = std::filesystem;

namespace {

const models::Batch kTwoRows{.input_ids = at::arange(5, 17).view({2, 6})};

/// A federation's model, and what its versions make of it.
class Federated {
 public:
  explicit Federated(const TinyLanguageModel& letters)
      : model_(
            models::load_model({.folder = letters.path("model"), .task = models::Task::CausalLm})),
        pristine_(training::GlobalState::pristine(*model_)) {}

  /// Of a member as the clients hold it after the last version.
  at::Tensor logits_of_member(const fs::path& versions, std::int64_t number) const {
    training::GlobalStatePtr state = pristine_;
    for (std::uint64_t version = 0; fs::exists(folder(versions, version)); ++version) {
      state = state->apply(version, core::PublishMode::Add,
                           tensors::read_factor_set(folder(versions, version)));
    }
    return logits(*state->member(number));
  }
  /// Of an adapter's folder, as drystone generate and evaluate load it.
  at::Tensor logits_of_folder(const fs::path& adapter) const {
    return logits(*pristine_->apply(0, core::PublishMode::Add, tensors::read_peft(adapter)));
  }
  at::Tensor plain_logits() const { return logits(*pristine_); }

 private:
  static fs::path folder(const fs::path& versions, std::uint64_t version) {
    return versions / ("000" + std::to_string(version)) / "factors.safetensors";
  }
  at::Tensor logits(const training::GlobalState& state) const {
    const at::NoGradGuard no_grad;
    state.install_for_evaluation(*model_);
    return model_->logits(kTwoRows).clone();
  }

  std::unique_ptr<models::Model> model_;
  training::GlobalStatePtr pristine_;
};

}  // namespace

TEST_CASE("ensemble of language models: members' folders are adapters, for PEFT as for us") {
  const std::string entry = "[[clients]]\nmethod = \"lora-ensemble\"\noptions = {members = 2}\n";
  const TinyLanguageModel letters(entry + "rank = 8\n" + entry + entry);
  REQUIRE_FALSE(letters.run("run").failure.has_value());
  const Federated federated(letters);
  const at::Tensor plain = federated.plain_logits();
  const test::Oracle oracle("peft_oracle", "peft, transformers");
  if (!oracle.works()) MESSAGE("without PEFT's side: .venv lacks peft or transformers");
  for (int number = 0; number < 2; ++number) {
    CAPTURE(number);
    const fs::path member = letters.path("run/global/member-" + std::to_string(number));
    const at::Tensor own = federated.logits_of_member(letters.path("run/versions"), number);
    CHECK_FALSE(at::allclose(own, plain, 1e-2, 1e-2));
    CHECK(at::allclose(federated.logits_of_folder(member), own, 1e-4, 1e-5));
    if (!oracle.works()) continue;
    REQUIRE(oracle.run("causal " + letters.path("model").string() + " " + member.string()));
    const tensors::SafetensorsFile peft(member / "logits.safetensors");
    CHECK(at::allclose(peft.tensor("logits"), own, 1e-4, 1e-5));
  }
}
