#include "coordinator/console.h"

#include <algorithm>
#include <chrono>
#include <functional>
#include <optional>
#include <span>
#include <vector>

#include "core/log.h"
#include "core/metrics.h"
#include "core/text.h"

namespace drystone::coordinator {

namespace {

constexpr auto kTellsAfter = std::chrono::seconds(1);
constexpr auto kShowsEvery = std::chrono::milliseconds(50);

std::string describe(const Metrics& metrics) {
  std::string text;
  for (const auto& [name, value] : metrics) {
    text += (text.empty() ? "" : ", ") + name + " " + core::format_fixed(value, 4);
  }
  return text;
}

constexpr std::size_t kShown = 20;  ///< of many clients

/// The first names, and how many more there are.
std::string few(const std::vector<std::string>& names) {
  const std::size_t shown = std::min(names.size(), kShown);
  std::string text = core::join(std::span(names).first(shown));
  if (names.size() > shown) text += " and " + std::to_string(names.size() - shown) + " more";
  return text;
}

}  // namespace

Console::Console(core::ProgressBoard& board, std::int64_t rounds)
    : board_(board), rounds_(rounds) {}

Console::~Console() = default;

void Console::on_joined(const std::string& client, const wire::Hello& hello) {
  if (++num_joined_ > kShown) {
    further_examples_ += static_cast<std::int64_t>(hello.num_examples);
    return;
  }
  core::log_info("joined", {{"client", std::string_view(client)},
                            {"device", std::string_view(hello.device)},
                            {"examples", static_cast<std::int64_t>(hello.num_examples)}});
}

void Console::on_planned(const wire::RoundPlan& plan) {
  bars_.clear();
  large_.reset();
  tell_further_joined();
  if (plan.cohort.size() > kShown) {
    large_.emplace(LargeRound{.bar = board_.add("round " + std::to_string(plan.round) + ", clients",
                                                std::ssize(plan.cohort)),
                              .began = clock_.now(),
                              .asked = std::ssize(plan.cohort)});
  }
  core::log_info("round begins", {{"round", static_cast<std::int64_t>(plan.round)},
                                  {"asked", static_cast<std::int64_t>(plan.cohort.size())},
                                  {"from_version", static_cast<std::int64_t>(plan.base_version)}});
}

void Console::tell_further_joined() {
  if (num_joined_ > kShown) {
    core::log_info("joined as well", {{"clients", static_cast<std::int64_t>(num_joined_ - kShown)},
                                      {"examples", further_examples_}});
  }
  num_joined_ = 0;
  further_examples_ = 0;
}

void Console::on_progress(const std::string& client, const wire::Progress& progress) {
  const bool trains = progress.loss != 0.0;
  if (large_ && trains) return;
  auto found = bars_.find(client);
  const auto step = static_cast<std::int64_t>(progress.step);
  if (found == bars_.end()) {
    const auto total = static_cast<std::int64_t>(progress.num_steps);
    found =
        bars_.emplace(client, Progress{.bar = board_.add(client, total, step), .note = {}}).first;
  }
  found->second.bar.update(
      step, trains ? found->second.note.text(clock_.now(), {.loss = progress.loss,
                                                            .num_tokens = progress.num_tokens,
                                                            .peak_bytes = progress.peak_bytes})
                   : "evaluating");
  if (progress.step == progress.num_steps) finish_bar(client);
}

void Console::on_accepted(const wire::UpdateManifest& manifest, double seconds) {
  finish_bar(manifest.client);
  const std::string bytes = core::format_bytes(manifest.payload_bytes);
  const auto log = large_ ? core::log_to_file : core::log;
  log(core::LogLevel::Info, "update accepted",
      {{"client", std::string_view(manifest.client)},
       {"loss", manifest.train_loss},
       {"bytes", std::string_view(bytes)},
       {"seconds", seconds}});
  if (!large_) return;
  ++large_->accepted;
  large_->tokens += manifest.num_tokens;
  show_round();
}

void Console::show_round() {
  const core::Instant now = clock_.now();
  const bool is_last = large_->accepted == large_->asked;
  if (large_->shown && now - *large_->shown < kShowsEvery && !is_last) return;
  large_->shown = now;
  const double seconds = std::chrono::duration<double>(now - large_->began).count();
  const auto speed = [&](double count, const char* unit) {
    return core::format_fixed(count / std::max(seconds, 1e-3), 1) + unit;
  };
  large_->bar.update(large_->accepted,
                     speed(static_cast<double>(large_->accepted), " clients/s  ") +
                         speed(static_cast<double>(large_->tokens), " tokens/s  ") +
                         core::format_bytes(core::peak_rss_bytes()));
}

/// Of all rounds to come, if they take as long as this one.
std::string Console::time_left(const RoundReport& round) const {
  const auto left = static_cast<double>(rounds_) - static_cast<double>(round.round);
  return core::format_duration(std::max(0.0, left) * round.seconds);
}

void Console::on_refused(const std::string& client, const core::Failure& failure) {
  finish_bar(client);
  const std::string reason = core::name(failure.code);
  const bool is_one_of_many = large_ && failure.code == core::Refusal::Timeout;
  const auto log = is_one_of_many ? core::log_to_file : core::log;
  log(core::LogLevel::Warning, "refused",
      {{"client", std::string_view(client)},
       {"reason", std::string_view(reason)},
       {"detail", std::string_view(failure.detail)}});
}

void Console::on_abandoned(std::uint64_t round, const std::string& reason) {
  core::log_warning("round abandoned", {{"round", static_cast<std::int64_t>(round)},
                                        {"reason", std::string_view(reason)}});
}

void Console::on_waiting(const KeepWaiting& facts) {
  const std::string missing = few(facts.missing);
  core::log_warning("still waiting for clients",
                    {{"present", static_cast<std::int64_t>(facts.present)},
                     {"quorum", static_cast<std::int64_t>(facts.quorum)},
                     {"missing", std::string_view(missing)}});
}

void Console::on_missing(const NameMissing& facts) {
  const std::string names = few(facts.clients);
  core::log_warning(
      facts.were_asked ? "no answer by the deadline"
                       : "not asked in this round: not there, or silent in an earlier one",
      {{"round", static_cast<std::int64_t>(facts.round)}, {"clients", std::string_view(names)}});
}

void Console::on_published(const RoundReport& round) {
  if (large_) large_->bar.finish();
  large_.reset();
  tell_further_joined();
  const std::string left = time_left(round);
  if (round.simulated) {
    const std::string taken = core::format_duration(round.simulated->seconds);
    const std::string clock = core::format_duration(round.simulated->clock);
    core::log_info("simulated time",
                   {{"round", static_cast<std::int64_t>(round.round)},
                    {"took", std::string_view(taken)},
                    {"since_start", std::string_view(clock)},
                    {"late", static_cast<std::int64_t>(round.simulated->late)},
                    {"dropped", static_cast<std::int64_t>(round.simulated->dropped)},
                    {"surplus", static_cast<std::int64_t>(round.simulated->surplus)}});
  }
  core::log_info("version published", {{"version", static_cast<std::int64_t>(round.version)},
                                       {"stack_rank", round.stack_rank},
                                       {"compact_rank", round.compact_rank},
                                       {"exactness", std::string_view(round.exactness)},
                                       {"seconds", round.seconds},
                                       {"clients_per_second", static_cast<double>(round.accepted) /
                                                                  std::max(round.seconds, 1e-3)},
                                       {"time_left", std::string_view(left)}});
  for (const auto& [client, factor] : round.lowered) {
    core::log_warning("its update is far larger than the round's median: weight lowered",
                      {{"client", std::string_view(client)}, {"to_share", factor}});
  }
  if (round.zero_updates.empty()) return;
  const std::string zeros = few(round.zero_updates);
  core::log_warning("updates of nothing but zeros: they count and dilute the others",
                    {{"round", static_cast<std::int64_t>(round.round)},
                     {"clients", std::string_view(zeros)},
                     {"cause",
                      "in these clients' logs: a learning rate too small, no gradient, or "
                      "closed components"}});
}

void Console::on_summed(std::uint64_t version, std::int64_t done, std::int64_t total) {
  if (!sum_began_) sum_began_ = clock_.now();
  if (!sum_bar_ && clock_.now() - *sum_began_ > kTellsAfter && done < total) {
    sum_bar_ = board_.add("global/ of version " + std::to_string(version), total, done);
  }
  if (sum_bar_) sum_bar_->update(done, "modules");
  if (done < total) return;
  if (sum_bar_) sum_bar_->finish();
  sum_bar_.reset();
  sum_began_.reset();
}

void Console::on_evaluated(std::uint64_t version, const Metrics& metrics) {
  const std::string text = describe(metrics);
  core::log_info("version evaluated", {{"version", static_cast<std::int64_t>(version)},
                                       {"metrics", std::string_view(text)}});
}

void Console::finish_bar(const std::string& client) {
  const auto found = bars_.find(client);
  if (found == bars_.end()) return;
  found->second.bar.finish();
  bars_.erase(found);
}

namespace {

using Row = std::vector<std::string>;

constexpr const char* kNothingEvaluated =
    "nothing was evaluated: there is no data.test, or no evaluator came\n";

std::string shown_score(const std::optional<Metrics>& metrics, const std::string& name) {
  if (!metrics || !metrics->contains(name)) return "–";
  const double value = metrics->at(name);
  return name == "accuracy" ? core::format_fixed(100.0 * value, 1) + " %"
                            : core::format_fixed(value, 4);
}

std::string loss(const std::optional<Metrics>& metrics) {
  if (!metrics || !metrics->contains("loss")) return "–";
  return core::format_fixed(metrics->at("loss"), 3);
}

std::string ranks(const RoundReport& round) {
  return std::to_string(round.stack_rank) + " → " + std::to_string(round.compact_rank);
}

/// A column that an ordinary run does not have.
void add_column(const RunReport& report, std::vector<Row>& rows, const std::string& title,
                const std::function<std::string(const RoundReport&)>& cell) {
  rows[0].push_back(title);
  rows[1].emplace_back();
  for (std::size_t i = 0; i < report.rounds.size(); ++i) {
    rows[i + 2].push_back(cell(report.rounds[i]));
  }
}

std::string simulated_time(const RoundReport& round) {
  return round.simulated ? core::format_duration(round.simulated->seconds) : "–";
}

std::string simulated_energy(const RoundReport& round) {
  constexpr double kWattHour = 3600.0;
  return round.simulated ? core::format_fixed(round.simulated->joules / kWattHour, 2) + " Wh" : "–";
}

bool is_evaluated(const RunReport& report) {
  return report.before || std::ranges::any_of(report.rounds, [](const RoundReport& round) {
           return round.eval.has_value();
         });
}

/// The columns and the row of what nobody measured.
void leave_out_evaluation(std::vector<Row>& rows) {
  constexpr std::ptrdiff_t kTestLoss = 3;
  rows.erase(rows.begin() + 1);
  for (Row& row : rows) row.erase(row.begin() + kTestLoss, row.begin() + kTestLoss + 2);
}

std::size_t columns(const std::string& utf8) {
  std::size_t count = 0;
  for (const char c : utf8) count += (static_cast<unsigned char>(c) & 0xc0) != 0x80 ? 1 : 0;
  return count;
}

std::string aligned(const std::vector<Row>& rows) {
  std::vector<std::size_t> widths(rows.front().size(), 0);
  for (const Row& row : rows) {
    for (std::size_t i = 0; i < row.size(); ++i) widths[i] = std::max(widths[i], columns(row[i]));
  }
  std::string text;
  for (const Row& row : rows) {
    for (std::size_t i = 0; i < row.size(); ++i) {
      text += std::string(widths[i] - columns(row[i]) + (i == 0 ? 0 : 3), ' ') + row[i];
    }
    text += '\n';
  }
  return text;
}

}  // namespace

std::string results_table(const RunReport& report) {
  const std::string name = score_name(report);
  std::vector<Row> rows = {{"round", "clients", "train loss", "test loss", name, "up", "down",
                            "rank (stacked → kept)", "exactness", "time"}};
  rows.push_back(Row{"before", "", "", loss(report.before), shown_score(report.before, name), "",
                     "", "", "", ""});
  for (const RoundReport& round : report.rounds) {
    const std::string least = round.since_restart ? "≥ " : "";
    rows.push_back({std::to_string(round.round),
                    std::to_string(round.accepted) + "/" + std::to_string(round.asked),
                    core::format_fixed(round.train_loss, 3), loss(round.eval),
                    shown_score(round.eval, name), least + core::format_bytes(round.bytes_up),
                    least + core::format_bytes(round.bytes_down), ranks(round), round.exactness,
                    least + core::format_duration(round.seconds)});
  }
  const bool any_zero = std::ranges::any_of(
      report.rounds, [](const RoundReport& round) { return !round.zero_updates.empty(); });
  if (any_zero) {
    add_column(report, rows, "zero updates",
               [](const RoundReport& round) { return std::to_string(round.zero_updates.size()); });
  }
  const bool any_simulated = std::ranges::any_of(
      report.rounds, [](const RoundReport& round) { return round.simulated.has_value(); });
  if (any_simulated) {
    add_column(report, rows, "simulated", simulated_time);
    add_column(report, rows, "energy", simulated_energy);
  }
  const bool evaluated = is_evaluated(report);
  if (!evaluated) leave_out_evaluation(rows);
  return aligned(rows) + (evaluated ? "" : kNothingEvaluated) + "\nhead " +
         core::to_hex(report.head) + "\n";
}

}  // namespace drystone::coordinator
