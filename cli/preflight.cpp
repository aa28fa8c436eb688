#include "cli/preflight.h"

#include <algorithm>
#include <exception>
#include <new>
#include <utility>

#include <nlohmann/json.hpp>

#include "core/held_warnings.h"
#include "core/text.h"

namespace drystone::cli {

namespace {

std::string first_line(const std::string& text) { return text.substr(0, text.find('\n')); }

const char* name_of(Verdict verdict) {
  switch (verdict) {
    case Verdict::Ok: return "ok";
    case Verdict::Warn: return "warn";
    case Verdict::Fail: break;
  }
  return "fail";
}

}  // namespace

Finding finding_of(Verdict verdict, const std::string& what, const std::string& text) {
  const std::string line = first_line(text);
  const std::size_t end = line.find("; ");
  if (end == std::string::npos) return {verdict, what, line, ""};
  return {verdict, what, line.substr(0, end), line.substr(end + 2)};
}

bool Preflight::check(const std::string& what, const std::function<std::string()>& body) {
  core::HeldWarnings warnings;
  const auto fail = [&](const std::string& why) {
    add(finding_of(Verdict::Fail, what, why));
    return false;
  };
  bool holds = true;
  std::string detail;
  try {
    detail = body();
  } catch (const std::bad_alloc&) {
    holds = fail("not enough memory for this check; free some");
  } catch (const std::exception& error) {
    holds = fail(error.what());
  }
  const std::vector<std::string> said = warnings.take();
  for (const std::string& line : said) add(finding_of(Verdict::Warn, what, line));
  if (holds && !detail.empty()) add({Verdict::Ok, what, detail, ""});
  return holds;
}

void Preflight::skip(const std::string& what, const std::string& because) {
  add({Verdict::Warn, what, "not looked at", "mend \"" + because + "\" first"});
}

bool Preflight::has_failed() const {
  return std::ranges::any_of(
      findings_, [](const Finding& finding) { return finding.verdict == Verdict::Fail; });
}

std::string to_text(const std::vector<Finding>& findings) {
  std::string text;
  for (const Finding& finding : findings) {
    const std::string verdict = name_of(finding.verdict);
    const std::string remedy = finding.remedy.empty() ? "" : "; " + finding.remedy;
    text += verdict + std::string(6 - verdict.size(), ' ') +
            core::visible(finding.what + ": " + finding.detail + remedy) + "\n";
  }
  return text;
}

std::string to_json(const std::vector<Finding>& findings) {
  using Json = nlohmann::ordered_json;
  Json checks = Json::array();
  bool is_ok = true;
  for (const Finding& finding : findings) {
    is_ok = is_ok && finding.verdict != Verdict::Fail;
    checks.push_back({{"verdict", name_of(finding.verdict)},
                      {"what", finding.what},
                      {"detail", finding.detail},
                      {"remedy", finding.remedy}});
  }
  return Json{{"ok", is_ok}, {"checks", checks}}.dump(2, ' ', false,
                                                      Json::error_handler_t::replace) +
         "\n";
}

Party party_of(const core::Config& config) {
  if (!config.security.coordinator_key.empty()) return Party::Client;
  return config.security.allow.empty() ? Party::Simulation : Party::Coordinator;
}

std::vector<Finding> preflight(const core::Config& config, const std::string& device) {
  Preflight checks;
  switch (party_of(config)) {
    case Party::Coordinator: check_coordinator(config, checks); break;
    case Party::Client: check_client(config, device, checks); break;
    case Party::Simulation: check_simulation(config, device, checks); break;
  }
  return checks.findings();
}

}  // namespace drystone::cli
