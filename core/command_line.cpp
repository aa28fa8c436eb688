#include "core/command_line.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <iomanip>
#include <sstream>
#include <type_traits>

#include <CLI/CLI.hpp>

#include "core/config_reader.h"
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
  return error.what();
}

std::string shown(double bound) {
  std::ostringstream text;
  text << std::setprecision(15) << bound;
  return text.str();
}

/// "from 1 to 20", "of at least 1"
std::string words(const NumberRange& range) {
  if (std::isinf(range.most)) return "of at least " + shown(range.least);
  return "from " + shown(range.least) + " to " + shown(range.most);
}

template <typename Number>
std::string number_problem(const std::string& text, const NumberRange& range) {
  Number number{};
  const char* const end = text.data() + text.size();
  const auto [stop, error] = std::from_chars(text.data(), end, number);
  const auto value = static_cast<double>(number);
  const bool is_in_range = value >= range.least && value <= range.most && std::isfinite(value);
  if (error == std::errc() && stop == end && is_in_range) return "";
  const char* const kind = std::is_integral_v<Number> ? "whole number " : "number ";
  return quote(text) + " is no " + kind + words(range);
}

template <typename Number>
CLI::Option* add_number(CLI::App& app, const std::string& name, Number& value,
                        const NumberRange& range, const std::string& help) {
  const auto problem = [range](const std::string& text) {
    return number_problem<Number>(text, range);
  };
  CLI::Option* const option = app.add_option(name, value, help)
                                  ->type_name(std::is_integral_v<Number> ? "N" : "X")
                                  ->check(CLI::Validator(problem, "", "range"));
  const bool is_default = static_cast<double>(value) >= range.least;
  return is_default ? option->capture_default_str() : option;
}

template <typename Text>
CLI::Option* add_text(CLI::App& app, const std::string& name, Text& value,
                      const std::string& help) {
  CLI::Option* option = app.add_option(name, value, help)->type_name("TEXT");
  return value.empty() ? option : option->capture_default_str();
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
  return CommandOption(add_text(*app_, name, value, help));
}

CommandOption CommandLine::option(const std::string& name, std::filesystem::path& value,
                                  const std::string& help) {
  return CommandOption(add_text(*app_, name, value, help));
}

CommandOption CommandLine::option(const std::string& name, std::vector<std::string>& values,
                                  const std::string& help) {
  return CommandOption(add_text(*app_, name, values, help));
}

CommandOption CommandLine::option(const std::string& name,
                                  std::vector<std::filesystem::path>& values,
                                  const std::string& help) {
  return CommandOption(add_text(*app_, name, values, help));
}

CommandOption CommandLine::choice(const std::string& name, std::string& value,
                                  std::vector<std::string> choices, const std::string& help) {
  const std::string shown_choices = join(choices, "|");
  const auto problem = [choices = std::move(choices)](const std::string& given) -> std::string {
    if (std::ranges::find(choices, given) != choices.end()) return "";
    return quote(given) + " is none of " + join(choices);
  };
  return CommandOption(add_text(*app_, name, value, help)
                           ->type_name(shown_choices)
                           ->check(CLI::Validator(problem, "", "choice")));
}

CommandOption CommandLine::number(const std::string& name, int& value, NumberRange range,
                                  const std::string& help) {
  return CommandOption(add_number(*app_, name, value, range, help));
}

CommandOption CommandLine::number(const std::string& name, std::int64_t& value, NumberRange range,
                                  const std::string& help) {
  return CommandOption(add_number(*app_, name, value, range, help));
}

CommandOption CommandLine::number(const std::string& name, std::uint64_t& value, NumberRange range,
                                  const std::string& help) {
  return CommandOption(add_number(*app_, name, value, range, help));
}

CommandOption CommandLine::number(const std::string& name, double& value, NumberRange range,
                                  const std::string& help) {
  return CommandOption(add_number(*app_, name, value, range, help));
}

CommandOption CommandLine::size(const std::string& name, std::int64_t& bytes,
                                const std::string& help) {
  const auto problem = [](const std::string& text) -> std::string {
    if (detail::parse_size(text).value_or(0) > 0) return "";
    return quote(text) + " is no size; give a number with a unit, e.g. 5GB";
  };
  const auto take = [&bytes](const std::string& text) { bytes = *detail::parse_size(text); };
  return CommandOption(app_->add_option_function<std::string>(name, take, help)
                           ->type_name("SIZE")
                           ->default_str(format_bytes(static_cast<std::uint64_t>(bytes)))
                           ->check(CLI::Validator(problem, "", "size")));
}

CommandOption CommandLine::checked(const std::string& name, std::string& value,
                                   std::string (*problem)(std::string_view),
                                   const std::string& help) {
  return CommandOption(
      add_text(*app_, name, value, help)->check(CLI::Validator(problem, "", name)));
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
