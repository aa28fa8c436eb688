#pragma once
// The options, arguments and commands of a program. CLI11 stands behind it, in one source file
// alone: it takes longer to compile than most of what uses it.
//
//   core::CommandLine line("What it does.", "drystone-client");
//   core::CommonOptions common;
//   core::add_common_options(line, common);
//   line.option("CONFIG", file, "Configuration").required();
//   if (const auto status = line.parse(argc, argv)) return *status;

#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "core/option_checks.h"

namespace CLI {
class App;
class Option;
}  // namespace CLI

namespace drystone::core {

/// An option "--name", or an argument "NAME" that stands alone. Variables outlive the parsing; what
/// they hold is the default.
class CommandOption {
 public:
  explicit CommandOption(CLI::Option* option) : option_(option) {}

  CommandOption& required();
  CommandOption& excludes(const CommandOption& other);
  /// A default that it refuses stands for none.
  CommandOption& check(OptionCheck problem);
  /// What --help calls its value.
  CommandOption& value_name(const std::string& name);
  /// "a,b" is two values.
  CommandOption& split_at_commas();
  bool is_given() const;

 private:
  CLI::Option* option_;
};

/// A program's command line or one of its commands': a handle, cheap to copy. Those of commands
/// live as long as the program's own.
class CommandLine {
 public:
  /// @param about  opens --help, which comes with it
  CommandLine(const std::string& about, const std::string& program);

  /// A command, of which one has to be given then.
  CommandLine command(const std::string& name, const std::string& about);
  /// This command is the one that was given.
  bool is_chosen() const;

  CommandOption flag(const std::string& name, bool& value, const std::string& help);
  CommandOption option(const std::string& name, std::string& value, const std::string& help);
  CommandOption option(const std::string& name, std::filesystem::path& value,
                       const std::string& help);
  /// May be repeated.
  CommandOption option(const std::string& name, std::vector<std::string>& values,
                       const std::string& help);
  CommandOption option(const std::string& name, std::vector<std::filesystem::path>& values,
                       const std::string& help);
  CommandOption option(const std::string& name, int& value, const std::string& help);
  CommandOption option(const std::string& name, std::int64_t& value, const std::string& help);
  CommandOption option(const std::string& name, std::uint64_t& value, const std::string& help);
  CommandOption option(const std::string& name, double& value, const std::string& help);
  /// Checked by core::size.
  CommandOption size_option(const std::string& name, std::uint64_t& bytes, const std::string& help);

  /// What --version prints.
  void add_version(const std::string& text);

  /// After --help or --version, which print to stdout, the exit status to return at once; otherwise
  /// std::nullopt.
  /// @throws ConfigError  wrong usage; unknown options and commands name the nearest known one
  std::optional<int> parse(int argc, const char* const* argv);

 private:
  explicit CommandLine(std::shared_ptr<CLI::App> app) : app_(std::move(app)) {}

  std::shared_ptr<CLI::App> app_;
};

}  // namespace drystone::core
