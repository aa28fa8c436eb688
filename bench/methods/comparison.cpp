#include "bench/methods/comparison.h"

#include <cmath>
#include <limits>

#include "core/error.h"

namespace drystone::comparison {

namespace {

constexpr std::uint64_t kGridSeed = 1000;

double loss_of(const Outcome& outcome) {
  const double loss =
      outcome.is_good() ? outcome.at("loss") : std::numeric_limits<double>::quiet_NaN();
  return std::isfinite(loss) ? loss : std::numeric_limits<double>::infinity();
}

class Search {
 public:
  Search(const Task& task, const Plan& plan, RunFile& runs, const RunHook& on_run,
         const std::stop_token& stop)
      : task_(task), plan_(plan), runs_(runs), on_run_(on_run), stop_(stop) {}

  std::optional<Row> row(const adapters::Method& method) {
    Row row;
    try {
      row.settings = task_.settings_for(method);
      row.num_parameters = task_.num_parameters(row.settings);
    } catch (const core::ConfigError& error) {
      row.problem = error.what();
      return row;
    }
    if (!search_rate(row)) return std::nullopt;
    if (!std::isfinite(loss_of(row.grid.at(row.rate)))) {
      row.problem = row.grid.at(row.rate).problem;
      return row;
    }
    for (std::int64_t seed = 1; seed <= plan_.seeds; ++seed) {
      const auto outcome = run(row.settings, row.rate, static_cast<std::uint64_t>(seed), kTest);
      if (!outcome) return std::nullopt;
      if (!outcome->is_good()) row.problem = outcome->problem;
      row.tests.push_back(*outcome);
    }
    return row;
  }

 private:
  /// @return false: stopped
  bool search_rate(Row& row) {
    const double middle = task_.config().training.learning_rate;
    for (std::int64_t i = 0; i < plan_.grid; ++i) {
      const std::int64_t power = i - plan_.grid / 2;
      if (!try_rate(row, rounded(middle * std::pow(plan_.factor, power)))) return false;
    }
    for (std::int64_t i = 0; i < plan_.extend; ++i) {
      const double lowest = row.grid.begin()->first;
      const double highest = row.grid.rbegin()->first;
      if (row.rate > lowest && row.rate < highest) break;
      const double next = row.rate == lowest ? lowest / plan_.factor : highest * plan_.factor;
      if (!try_rate(row, rounded(next))) return false;
    }
    return true;
  }

  bool try_rate(Row& row, double rate) {
    const auto outcome = run(row.settings, rate, kGridSeed, kValidation);
    if (!outcome) return false;
    row.grid[rate] = *outcome;
    if (row.grid.size() == 1 || loss_of(*outcome) < loss_of(row.grid.at(row.rate))) row.rate = rate;
    return true;
  }

  /// Two digits: 3e-4, not 2.9999999e-4.
  static double rounded(double rate) {
    const double unit = std::pow(10.0, std::floor(std::log10(rate)) - 1.0);
    return std::stod(core_text(std::round(rate / unit) * unit));
  }
  static std::string core_text(double value) {
    char text[32];
    std::snprintf(text, sizeof(text), "%.2g", value);
    return text;
  }

  std::optional<Outcome> run(core::TrainingConfig settings, double rate, std::uint64_t seed,
                             const std::string& examples) {
    settings.learning_rate = rate;
    const std::string key = task_.key(settings, seed, examples);
    if (auto known = runs_.find(key)) return known;
    std::optional<Outcome> outcome;
    try {
      outcome = task_.run(settings, seed, examples, stop_);
    } catch (const core::Error& error) {  // a loss that is not finite
      outcome = Outcome{.numbers = {}, .problem = error.what()};
    }
    if (!outcome) return std::nullopt;
    runs_.add(key, *outcome);
    on_run_(settings, examples, seed, *outcome);
    return outcome;
  }

  const Task& task_;
  const Plan& plan_;
  RunFile& runs_;
  const RunHook& on_run_;
  const std::stop_token& stop_;
};

}  // namespace

std::optional<Row> compare(const Task& task, const adapters::Method& method, const Plan& plan,
                           RunFile& runs, const RunHook& on_run, const std::stop_token& stop) {
  return Search(task, plan, runs, on_run, stop).row(method);
}

}  // namespace drystone::comparison
