// drystone keys: identities of coordinators and clients, and who may take part.

#include <cstdio>
#include <filesystem>
#include <functional>
#include <memory>
#include <utility>
#include <vector>

#include "cli/commands.h"
#include "cli/keys.h"
#include "core/option_checks.h"
#include "core/text.h"
#include "crypto/identity.h"

namespace drystone::cli {

namespace {

struct Options {
  std::string name;
  std::filesystem::path out = "keys";
  std::filesystem::path client_config = "client.toml";
  OperatorOptions office;
  std::vector<std::filesystem::path> requests;
  std::string role;
  std::string settings;
  std::int64_t max_rank = -1;
  std::int64_t max_examples = -1;
  bool below_quorum = false;
  bool use = false;
};

std::string make_keys(const Options& options) {
  const crypto::Identity identity = crypto::generate_identity(options.name);
  crypto::save_identity(identity, options.out);
  const std::string stem = core::visible((options.out / options.name).string());
  return stem + ".key  keep it secret, it never leaves this machine\n" + stem +
         ".pub  give it to the other side\n";
}

std::string approve_all(const Options& options) {
  GrantOptions grant{.role = options.role, .settings = options.settings};
  if (options.max_rank >= 0) grant.max_rank = options.max_rank;
  if (options.max_examples >= 0) grant.max_examples = options.max_examples;
  std::string text;
  for (const auto& request : options.requests) text += approve(options.office, request, grant);
  return text;
}

void add_office(core::CommandLine& line, OperatorOptions& office) {
  line.option("--config", office.config, "The coordinator's configuration");
  line.option("--state", office.state, "Its state folder (default: output.dir/state)");
}

}  // namespace

Command add_keys(core::CommandLine& line) {
  auto options = std::make_shared<Options>();
  Options& o = *options;
  std::vector<std::pair<core::CommandLine, std::function<std::string()>>> commands;
  const auto add = [&](const char* name, const char* about, std::function<std::string()> body) {
    commands.emplace_back(line.command(name, about), std::move(body));
    return commands.back().first;
  };
  core::CommandLine make = add("new", "Make a new identity: NAME.key (secret) and NAME.pub",
                               [options] { return make_keys(*options); });
  make.option("NAME", o.name, "Name of the party, e.g. client-3").required();
  make.option("--out", o.out, "Folder to write to");
  core::CommandLine request =
      add("request", "Client: make a key, and NAME.request, which asks to be let in with it",
          [options] { return request_key(options->name, options->out); });
  request.option("NAME", o.name, "Name of the client, e.g. client-5").required();
  request.option("--out", o.out, "Folder to write to");
  core::CommandLine renew =
      add("renew", "Client: make a key, and a request to have it in the present one's place",
          [options] {
            return options->use ? use_renewed_key(options->client_config)
                                : renew_key(options->client_config);
          });
  renew.option("--config", o.client_config, "The client's configuration");
  renew.flag("--use", o.use, "It was approved: put the renewed key into its place");
  core::CommandLine approval =
      add("approve", "Coordinator: let clients in, or renew their keys, while it runs",
          [options] { return approve_all(*options); });
  approval.option("FILE", o.requests, "NAME.request of each client").required();
  approval.option("--role", o.role, "What it may do (default: train)")
      .check(core::one_of({"train", "evaluate"}));
  approval
      .option("--max-rank", o.max_rank,
              "Largest rank of its updates (default: as the configuration trains)")
      .check(core::whole_number({.low = 0}));
  approval
      .option("--max-examples", o.max_examples,
              "Most examples it may count for, 0: any number (default: 0)")
      .check(core::whole_number({.low = 0}));
  approval.option("--settings", o.settings, "Whose training settings count (default: plan)")
      .check(core::one_of({"plan", "own"}));
  add_office(approval, o.office);
  core::CommandLine revocation =
      add("revoke", "Coordinator: refuse a client's key from now on, while it runs",
          [options] { return revoke(options->office, options->name, options->below_quorum); });
  revocation.option("NAME", o.name, "Name of the client").required();
  revocation.flag("--below-quorum", o.below_quorum,
                  "Also where fewer clients are left than a round needs");
  add_office(revocation, o.office);
  core::CommandLine listing =
      add("list", "Coordinator: show who may take part, and every change of it",
          [options] { return list(options->office); });
  add_office(listing, o.office);
  return [commands](const core::CommonOptions&, const std::stop_token&) {
    for (const auto& [command, body] : commands) {
      if (command.is_chosen()) std::fputs(body().c_str(), stdout);
    }
    return core::kDone;
  };
}

}  // namespace drystone::cli
