#include "core/command_line.h"

#include <type_traits>

#include <CLI/CLI.hpp>

#include "core/error.h"
#include "core/text.h"

namespace drystone::core {

namespace {

const CLI::App& innermost(const CLI::App& app) {
  const auto commands = app.get_subcommands();
  return commands.empty() ? app : innermost(*commands.front());
}

std::string full_name(const CLI::App& app) {
  const CLI::App* parent = app.get_parent();
  return parent == nullptr ? app.get_name() : full_name(*parent) + " " + app.get_name();
}

std::vector<std::string> option_names(const CLI::App& app) {
  std::vector<std::string> names;
  for (const auto* option : app.get_options()) {
    for (const auto& name : option->get_lnames()) names.push_back("--" + name);
  }
  return names;
}

std::vector<std::string> command_names(const CLI::App& app) {
  std::vector<std::string> names;
  for (const auto* command : app.get_subcommands([](const CLI::App*) { return true; })) {
    names.push_back(command->get_name());
  }
  return names;
}

/// What is wrong with a command line that CLI11 refused with `error`.
std::string usage_problem(const CLI::App& app, const CLI::ParseError& error) {
  const auto unexpected = app.remaining();
  const auto commands = command_names(app);
  if (!unexpected.empty() && unexpected.front().starts_with("-")) {
    const std::string name = unexpected.front().substr(0, unexpected.front().find('='));
    return name + ": unknown option; did you mean " + nearest(name, option_names(app)) + "?";
  }
  if (!unexpected.empty() && !commands.empty()) {
    return unexpected.front() + ": unknown command; did you mean " +
           nearest(unexpected.front(), commands) + "? Commands: " + join(commands);
  }
  if (!unexpected.empty()) {
    return unexpected.front() + ": one argument more than this takes; remove it";
  }
  if (!commands.empty() && app.get_subcommands().empty()) {
    return "a command is missing; give one of " + join(commands);
  }
  const std::string problem = error.what();
  const std::size_t missing = problem.find(": 1 required ");
  return missing == std::string::npos ? problem : problem.substr(0, missing) + ": needs a value";
}

template <typename Value>
CLI::Option* add_option(CLI::App& app, const std::string& name, Value& value,
                        const std::string& help) {
  return app.add_option(name, value, help)->type_name("TEXT");
}

template <typename Number>
CLI::Option* add_number(CLI::App& app, const std::string& name, Number& value,
                        const std::string& help) {
  const char* const letter = std::is_integral_v<Number> ? "N" : "X";
  return app.add_option(name, value, help)->type_name(letter)->capture_default_str();
}

}  // namespace

CommandOption& CommandOption::required() {
  option_->required();
  return *this;
}

CommandOption& CommandOption::excludes(const CommandOption& other) {
  option_->excludes(other.option_);
  return *this;
}

CommandOption& CommandOption::check(OptionCheck problem) {
  if (!problem(option_->get_default_str()).empty()) option_->default_str("");
  option_->check(CLI::Validator(std::move(problem), ""));
  return *this;
}

CommandOption& CommandOption::value_name(const std::string& name) {
  option_->type_name(name);
  return *this;
}

CommandOption& CommandOption::split_at_commas() {
  option_->delimiter(',');
  return *this;
}

bool CommandOption::is_given() const { return option_->count() > 0; }

CommandLine::CommandLine(const std::string& about, const std::string& program)
    : app_(std::make_shared<CLI::App>(about, program)) {
  app_->set_help_flag("-h,--help", "Print this help and exit");
}

CommandLine CommandLine::command(const std::string& name, const std::string& about) {
  app_->require_subcommand(1);
  CLI::App* const made = app_->add_subcommand(name, about);
  made->set_help_flag("-h,--help", "Print this help and exit");
  return CommandLine(app_->get_subcommand_ptr(made));
}

bool CommandLine::is_chosen() const { return app_->parsed(); }

CommandOption CommandLine::flag(const std::string& name, bool& value, const std::string& help) {
  return CommandOption(app_->add_flag(name, value, help));
}

CommandOption CommandLine::option(const std::string& name, std::string& value,
                                  const std::string& help) {
  CLI::Option* const option = add_option(*app_, name, value, help);
  return CommandOption(value.empty() ? option : option->capture_default_str());
}

CommandOption CommandLine::option(const std::string& name, std::filesystem::path& value,
                                  const std::string& help) {
  CLI::Option* const option = add_option(*app_, name, value, help);
  return CommandOption(value.empty() ? option : option->capture_default_str());
}

CommandOption CommandLine::option(const std::string& name, std::vector<std::string>& values,
                                  const std::string& help) {
  return CommandOption(add_option(*app_, name, values, help));
}

CommandOption CommandLine::option(const std::string& name,
                                  std::vector<std::filesystem::path>& values,
                                  const std::string& help) {
  return CommandOption(add_option(*app_, name, values, help));
}

CommandOption CommandLine::option(const std::string& name, int& value, const std::string& help) {
  return CommandOption(add_number(*app_, name, value, help));
}

CommandOption CommandLine::option(const std::string& name, std::int64_t& value,
                                  const std::string& help) {
  return CommandOption(add_number(*app_, name, value, help));
}

CommandOption CommandLine::option(const std::string& name, std::uint64_t& value,
                                  const std::string& help) {
  return CommandOption(add_number(*app_, name, value, help));
}

CommandOption CommandLine::option(const std::string& name, double& value, const std::string& help) {
  return CommandOption(add_number(*app_, name, value, help));
}

CommandOption CommandLine::size_option(const std::string& name, std::uint64_t& bytes,
                                       const std::string& help) {
  const auto take = [&bytes](const std::string& text) {
    bytes = static_cast<std::uint64_t>(*parse_size(text));
  };
  CLI::Option* const option = app_->add_option_function<std::string>(name, take, help);
  option->type_name("SIZE")->default_str(format_bytes(bytes));
  return CommandOption(option).check(size());
}

void CommandLine::add_version(const std::string& text) {
  app_->set_version_flag("--version", text, "Print the version and exit");
}

std::optional<int> CommandLine::parse(int argc, const char* const* argv) {
  try {
    app_->parse(argc, argv);
    return std::nullopt;
  } catch (const CLI::Success& success) {
    return app_->exit(success);
  } catch (const CLI::ParseError& error) {
    const CLI::App& command = innermost(*app_);
    throw ConfigError(usage_problem(command, error) + "; see " + full_name(command) + " --help");
  }
}

}  // namespace drystone::core
