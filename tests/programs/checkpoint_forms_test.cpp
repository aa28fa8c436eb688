// Checkpoints and adapters in the forms that people have them: drystone evaluate and merge give
// what transformers and PEFT compute, or refuse in one sentence. The forms are in the oracle.

#include <cmath>
#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include <doctest/doctest.h>
#include <nlohmann/json.hpp>

#include "tests/programs/oracle.h"
#include "tests/programs/process.h"
#include "tests/temporary_folder.h"

using namespace drystone;
namespace fs = std::filesystem;
using Json = nlohmann::json;

namespace {

struct Outcome {
  int status = 0;
  std::string output;
};

Outcome run(const fs::path& form, const std::string& name, std::vector<std::string> arguments) {
  test::Process process("drystone", arguments, form / (name + ".log"));
  const int status = process.wait();
  return {status, process.output()};
}

std::vector<std::string> with_adapter(const fs::path& form, std::vector<std::string> arguments) {
  if (!fs::exists(form / "adapter")) return arguments;
  arguments.insert(arguments.end(), {"--adapter", (form / "adapter").string()});
  return arguments;
}

Outcome evaluate(const fs::path& form, const Json& about) {
  std::vector<std::string> arguments = {"evaluate",
                                        "--model",
                                        (form / "model").string(),
                                        "--data",
                                        (form / "data.jsonl").string(),
                                        "--task",
                                        about["task"],
                                        "--json",
                                        "--log-level",
                                        "error",
                                        "--threads",
                                        "1"};
  for (const auto& more : about["arguments"]) arguments.push_back(more);
  return run(form, "evaluate", with_adapter(form, arguments));
}

Outcome merge(const fs::path& form) {
  return run(form, "merge",
             with_adapter(form, {"merge", "--model", (form / "model").string(), "--out",
                                 (form / "merged").string(), "--log-level", "error"}));
}

double loss_in(const std::string& output) {
  const Json report = Json::parse(output.substr(output.find("{\n")), nullptr, false);
  return report.is_object() && report.contains("loss") ? report["loss"].get<double>() : NAN;
}

/// One line that holds the sentence, and nothing that only a programmer understands.
void check_refusal(const Outcome& outcome, const std::string& sentence) {
  CAPTURE(outcome.output);
  CHECK((outcome.status == 1 || outcome.status == 2));
  const std::size_t at = outcome.output.find("drystone: error: ");
  REQUIRE(at != std::string::npos);
  CHECK(outcome.output.find(sentence, at) != std::string::npos);
  CHECK(outcome.output.find('\n', at) + 1 == outcome.output.size());
  for (const char* const word : {"GlobalState", "index out of range", "dtype, but got"}) {
    CHECK(outcome.output.find(word) == std::string::npos);
  }
}

void check_form(const fs::path& form) {
  CAPTURE(form.filename().string());
  const Json about = Json::parse(std::ifstream(form / "case.json"));
  const Outcome measured = evaluate(form, about);
  if (about.contains("refusal")) {
    check_refusal(measured, about["refusal"]);
    if (!about["merge"]) return;
    check_refusal(merge(form), about["refusal"]);
    CHECK_FALSE(fs::exists(form / "merged"));
    return;
  }
  CAPTURE(measured.output);
  REQUIRE(measured.status == 0);
  const double expected = about["loss"];
  CHECK(std::abs(loss_in(measured.output) - expected) <
        about["tolerance"].get<double>() * expected);
  if (!about["merge"]) return;
  const Outcome merged = merge(form);
  CAPTURE(merged.output);
  REQUIRE(merged.status == 0);
}

}  // namespace

TEST_CASE(
    "checkpoint forms: transformers' and PEFT's numbers, or a refusal that names the reason") {
  const test::Oracle oracle("checkpoint_forms", "peft, transformers");
  if (!oracle.works()) {
    MESSAGE("skipped: .venv lacks peft or transformers");
    return;
  }
  const test::TemporaryFolder folder;
  REQUIRE(oracle.run("make " + folder.path().string()));
  std::size_t forms = 0;
  for (const auto& form : fs::directory_iterator(folder.path())) {
    check_form(form.path());
    ++forms;
  }
  CHECK(forms >= 140);
  CHECK(oracle.run("check " + folder.path().string()));
}
