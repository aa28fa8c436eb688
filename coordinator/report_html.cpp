#include "coordinator/report_html.h"

#include <algorithm>
#include <optional>
#include <vector>

#include "core/text.h"

namespace drystone::coordinator {

namespace {

constexpr const char* kStyle =
    "body{font:16px/1.5 system-ui,sans-serif;max-width:64rem;margin:2rem auto;padding:0 1rem}"
    "table{border-collapse:collapse;width:100%}th,td{padding:.3rem .6rem;text-align:right;"
    "border-bottom:1px solid #8884}code{font-size:85%;word-break:break-all}"
    "svg{width:100%;height:auto;color:#36c}@media(prefers-color-scheme:dark){body{background:#111;"
    "color:#ddd}svg{color:#8af}}";

std::string escaped(const std::string& text) {
  std::string result;
  for (const char c : core::visible(text)) {
    switch (c) {
      case '<': result += "&lt;"; break;
      case '>': result += "&gt;"; break;
      case '&': result += "&amp;"; break;
      case '"': result += "&quot;"; break;
      default: result += c;
    }
  }
  return result;
}

std::string cell(const std::string& text) { return "<td>" + escaped(text) + "</td>"; }

std::optional<double> score(const std::optional<Metrics>& metrics, const std::string& name) {
  if (!metrics || !metrics->contains(name)) return std::nullopt;
  return metrics->at(name);
}

std::string shown(std::optional<double> value) {
  return value ? core::format_fixed(*value, 4) : "–";
}

// The score before the first round and after each, as a polyline over the width of the page.
std::string curve(const RunReport& report) {
  const std::string name = score_name(report);
  std::vector<std::pair<double, double>> points;
  if (const auto before = score(report.before, name)) points.emplace_back(0.0, *before);
  for (const RoundReport& round : report.rounds) {
    const auto after = score(round.eval, name);
    if (after) points.emplace_back(static_cast<double>(round.round), *after);
  }
  if (points.size() < 2) return {};
  const auto [low, high] = std::ranges::minmax(points, {}, &std::pair<double, double>::second);
  const double span = std::max(high.second - low.second, 1e-12);
  std::string line;
  std::string dots;
  for (const auto& [round, value] : points) {
    const std::string x = core::format_fixed(40.0 + 720.0 * round / points.back().first, 1);
    const std::string y = core::format_fixed(200.0 - 160.0 * (value - low.second) / span, 1);
    line += x + "," + y + " ";
    dots += "<circle cx='" + x + "' cy='" + y + "' r='4' fill='currentColor'><title>round " +
            core::format_fixed(round, 0) + ": " + core::format_fixed(value, 4) +
            "</title></circle>";
  }
  return "<h2>Test " + name + "</h2><svg viewBox='0 0 800 230' role='img' aria-label='Test " +
         name + " by round'><polyline fill='none' stroke='currentColor' stroke-width='2' points='" +
         line + "'/>" + dots + "</svg>";
}

std::string row(const RoundReport& round, const std::string& name) {
  const std::string least = round.since_restart ? "≥ " : "";
  return "<tr>" + cell(std::to_string(round.round)) +
         cell(std::to_string(round.accepted) + "/" + std::to_string(round.asked)) +
         cell(core::format_fixed(round.train_loss, 4)) + cell(shown(score(round.eval, "loss"))) +
         (name == "loss" ? "" : cell(shown(score(round.eval, name)))) +
         cell(least + core::format_bytes(round.bytes_up)) +
         cell(least + core::format_bytes(round.bytes_down)) +
         cell(std::to_string(round.stack_rank) + " → " + std::to_string(round.compact_rank)) +
         cell(round.exactness) + cell(std::to_string(round.zero_updates.size())) +
         cell(least + core::format_duration(round.seconds)) + "</tr>";
}

}  // namespace

std::string to_html(const RunReport& report) {
  const std::string name = score_name(report);
  const std::string extra = name == "loss" ? "" : "<th>" + name + "</th>";
  std::string page = "<!doctype html><html lang='en'><meta charset='utf-8'><title>" +
                     escaped(report.name) + "</title><style>" + kStyle + "</style><h1>" +
                     escaped(report.name) + "</h1><p>Seed " + std::to_string(report.seed) + ", " +
                     (report.device.empty() ? "" : escaped(report.device) + ", ") +
                     core::format_duration(report.seconds) + "<br>configuration <code>" +
                     report.config_hash + "</code><br>head <code>" + core::to_hex(report.head) +
                     "</code></p>" + curve(report) +
                     "<h2>Rounds</h2><table><tr><th>round</th><th>clients</th><th>train loss</th>"
                     "<th>test loss</th>" +
                     extra +
                     "<th>up</th><th>down</th><th>rank (stacked → kept)</th><th>exactness</th>"
                     "<th>zero updates</th><th>time</th></tr>"
                     "<tr><td>before</td><td></td><td></td>" +
                     cell(shown(score(report.before, "loss"))) +
                     (name == "loss" ? "" : cell(shown(score(report.before, name)))) +
                     "<td></td><td></td><td></td><td></td><td></td><td></td></tr>";
  for (const RoundReport& round : report.rounds) page += row(round, name);
  return page + "</table></html>\n";
}

}  // namespace drystone::coordinator
