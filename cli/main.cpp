// drystone: everything that is neither the server nor a deployed client.

#include <list>

#include "cli/commands.h"
#include "core/log.h"
#include "tensors/process.h"

namespace {

using namespace drystone;

constexpr const char* kAbout =
    "Federated fine-tuning of language models with low-rank adapters of differing ranks.\n\n"
    "  drystone simulate examples/news/federation.toml     a whole federation in one process\n"
    "  drystone provision federation.toml --out parties    one folder a party, for real machines\n"
    "  drystone inspect runs/news --verify                 what a run published, and that it is "
    "true\n\n"
    "The server is drystone-coordinator, a deployed client drystone-client.";

struct Row {
  const char* name;
  const char* help;
  cli::Command (*add)(core::CommandLine&);
};

constexpr Row kCommands[] = {
    {"simulate", "Run a whole federation in one process", cli::add_simulate},
    {"evaluate", "Measure a model, with or without an adapter, on labelled data",
     cli::add_evaluate},
    {"generate", "Continue texts with a language model, with or without an adapter",
     cli::add_generate},
    {"inspect", "Show an adapter or a run folder; check a run's signatures", cli::add_inspect},
    {"merge", "Fold an adapter into a Hugging Face checkpoint", cli::add_merge},
    {"export", "Write an adapter in PEFT's or llama.cpp's format", cli::add_export},
    {"keys", "Make identities; let clients in, renew or revoke them while a federation runs",
     cli::add_keys},
    {"provision", "Make one folder a party, ready to copy to its machine", cli::add_provision},
    {"preflight", "Check keys, addresses, disk, model, data and memory before the first round",
     cli::add_preflight},
    {"status", "Show what a federation is at, who is there and what it waits for", cli::add_status},
    {"tokenize", "Show a tokenizer's ids for lines of text, or the text of ids", cli::add_tokenize},
};

int run(int argc, const char* const* argv, const std::stop_token& stop) {
  core::CommandLine line(kAbout, "drystone");
  core::CommonOptions common;
  core::add_common_options(line, common);
  std::vector<std::pair<core::CommandLine, cli::Command>> commands;
  for (const Row& row : kCommands) {
    core::CommandLine command = line.command(row.name, row.help);
    core::add_common_options(command, common);
    const cli::Command body = row.add(command);
    commands.emplace_back(std::move(command), body);
  }
  if (const auto status = line.parse(argc, argv)) return *status;
  core::init_log(core::parse_log_level(common.log_level));
  for (const auto& [command, body] : commands) {
    if (command.is_chosen()) return body(common, stop);
  }
  return core::kWrongUsage;
}

}  // namespace

int main(int argc, char** argv) {
  drystone::tensors::tune_process();
  return core::run_program([&](const std::stop_token& stop) { return run(argc, argv, stop); });
}
