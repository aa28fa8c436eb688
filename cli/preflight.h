#pragma once
// Checks before the first round, each one line: those that the programs make when they start, and
// what would otherwise show itself hours later.

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "core/config.h"

namespace drystone::cli {

enum class Verdict : std::uint8_t { Ok, Warn, Fail };

struct Finding {
  Verdict verdict = Verdict::Ok;
  std::string what;    ///< "keys", "address", "disk" …
  std::string detail;  ///< what was found
  std::string remedy;  ///< of what is not ok; may be empty
};

/// Makes checks and keeps what they find. None of them ends the others.
class Preflight {
 public:
  /// Runs a check whose text says what is well. Whatever it throws is a failure; each warning that
  /// it logs is one of its own.
  /// @return whether it did not fail
  bool check(const std::string& what, const std::function<std::string()>& body);
  void add(Finding finding) { findings_.push_back(std::move(finding)); }
  /// What cannot be looked at as long as `because` fails.
  void skip(const std::string& what, const std::string& because);

  const std::vector<Finding>& findings() const { return findings_; }
  bool has_failed() const;

 private:
  std::vector<Finding> findings_;
};

/// "TEXT; REMEDY", as errors are worded, in its parts.
Finding finding_of(Verdict verdict, const std::string& what, const std::string& text);

/// Lines "ok    keys: …".
std::string to_text(const std::vector<Finding>& findings);
/// {"ok": bool, "checks": [{"verdict", "what", "detail", "remedy"}]}
std::string to_json(const std::vector<Finding>& findings);

/// What a configuration is of: who has the roster is the coordinator, who has the coordinator's key
/// a client, and without either it is simulated.
enum class Party : std::uint8_t { Coordinator, Client, Simulation };
Party party_of(const core::Config& config);

/// All checks of a configuration. Writes nothing but a file that it removes; binds the address for
/// a moment, or connects to it.
/// @param device  auto | cpu | cuda[:N]
std::vector<Finding> preflight(const core::Config& config, const std::string& device);

/// Its parts, one file each.
void check_coordinator(const core::Config& config, Preflight& preflight);
void check_client(const core::Config& config, const std::string& device, Preflight& preflight);
void check_simulation(const core::Config& config, const std::string& device, Preflight& preflight);

}  // namespace drystone::cli
