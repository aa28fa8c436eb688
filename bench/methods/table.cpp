#include "bench/methods/table.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <fstream>
#include <functional>
#include <sstream>

#include "core/error.h"
#include "core/text.h"

namespace drystone::comparison {

namespace {

using core::format_fixed;

struct Spread {
  double mean = 0.0;
  double deviation = 0.0;  ///< of a sample; 0 for one value
};

Spread spread_of(const std::vector<double>& values) {
  Spread spread;
  for (const double value : values) spread.mean += value / static_cast<double>(values.size());
  if (values.size() < 2) return spread;
  for (const double value : values) spread.deviation += std::pow(value - spread.mean, 2);
  spread.deviation = std::sqrt(spread.deviation / static_cast<double>(values.size() - 1));
  return spread;
}

using Value = std::function<double(const Outcome&)>;

std::vector<double> values_of(const Row& row, const Value& value) {
  std::vector<double> values;
  for (const Outcome& outcome : row.tests) values.push_back(value(outcome));
  return values;
}

Value number(const std::string& name) {
  return [name](const Outcome& outcome) { return outcome.at(name); };
}

std::string with_deviation(const Spread& spread, int digits) {
  return format_fixed(spread.mean, digits) + " ± " + format_fixed(spread.deviation, digits);
}

/// Student's t, one side, 95 %, by the degrees of freedom.
double student(std::size_t freedom) {
  constexpr std::array kQuantiles = {6.31, 2.92, 2.35, 2.13, 2.02, 1.94, 1.89, 1.86, 1.83};
  return freedom <= kQuantiles.size() ? kQuantiles.at(freedom - 1) : 1.8;
}

/// Test loss less that of LoRA, seed by seed.
std::string against(const Row& row, const Row& lora) {
  if (row.settings.method == lora.settings.method) return "–";
  std::vector<double> differences = values_of(row, number("loss"));
  const std::vector<double> reference = values_of(lora, number("loss"));
  if (differences.size() != reference.size()) return "–";
  for (std::size_t i = 0; i < differences.size(); ++i) differences[i] -= reference[i];
  const Spread spread = spread_of(differences);
  std::string text = (spread.mean > 0.0 ? "+" : "") + with_deviation(spread, 3);
  if (differences.size() < 2) return text;
  const double count = static_cast<double>(differences.size());
  const double noise = student(differences.size() - 1) * spread.deviation / std::sqrt(count);
  if (std::abs(spread.mean) > noise) text += spread.mean > 0.0 ? ", **worse**" : ", better";
  return text;
}

const Row* find(const TaskRows& rows, std::string_view method) {
  for (const Row& row : rows.rows) {
    if (row.settings.method == method && row.problem.empty()) return &row;
  }
  return nullptr;
}

bool classifies(const TaskRows& rows) { return rows.task.config().model.task == "classification"; }

Value quality(const TaskRows& rows) {
  if (!classifies(rows)) return number("perplexity");
  return [](const Outcome& outcome) { return 100.0 * outcome.at("accuracy"); };
}

std::string result_line(const TaskRows& rows, const Row& row, const Row* lora) {
  const int digits = classifies(rows) ? 1 : 2;
  const auto mean = [&](const std::string& name) {
    return spread_of(values_of(row, number(name))).mean;
  };
  const double rounds = static_cast<double>(rows.task.config().federation.rounds);
  std::string line = "| " + row.settings.method + " | " + std::to_string(row.settings.rank) +
                     " | " + std::to_string(row.num_parameters) + " | " +
                     core::format_double(row.rate) + " | " +
                     with_deviation(spread_of(values_of(row, quality(rows))), digits) + " | " +
                     with_deviation(spread_of(values_of(row, number("loss"))), 3) + " | " +
                     (lora == nullptr ? "–" : against(row, *lora)) + " | " +
                     format_fixed(mean("bytes") / rounds / 1e3, 0) + " | " +
                     format_fixed(std::max(0.0, mean("start_seconds")) / rounds, 2) + " | " +
                     format_fixed(mean("step_seconds") * 1e3, 1) + " | ";
  if (lora != nullptr) {
    const double step = spread_of(values_of(*lora, number("step_seconds"))).mean;
    line += format_fixed(mean("step_seconds") / step, 2);
  }
  return line + " | " + format_fixed(mean("passes") / mean("steps"), 1) + " |\n";
}

std::string results(const TaskRows& rows) {
  const Row* lora = find(rows, "lora");
  std::string text = std::string("| method | rank | parameters | rate | ") +
                     (classifies(rows) ? "accuracy, %" : "perplexity") +
                     " | loss | less LoRA's loss | KB up a round | start, s | step, ms | × LoRA | "
                     "passes a step |\n|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|\n" +
                     "| before training | | 0 | | " +
                     format_fixed(quality(rows)(rows.start), classifies(rows) ? 1 : 2) + " | " +
                     format_fixed(rows.start.at("loss"), 3) + " | | | | | | |\n";
  for (const Row& row : rows.rows) {
    if (row.problem.empty()) text += result_line(rows, row, lora);
  }
  return text;
}

std::string learning_rates(const TaskRows& rows) {
  std::map<double, bool> rates;
  for (const Row& row : rows.rows) {
    for (const auto& [rate, outcome] : row.grid) rates[rate] = true;
  }
  std::string text = "| method |";
  std::string rule = "\n|---|";
  for (const auto& [rate, used] : rates) {
    text += " " + core::format_double(rate) + " |";
    rule += "--:|";
  }
  text += rule + "\n";
  for (const Row& row : rows.rows) {
    if (row.grid.empty()) continue;
    text += "| " + row.settings.method + " |";
    for (const auto& [rate, used] : rates) {
      const auto tried = row.grid.find(rate);
      std::string cell;
      if (tried != row.grid.end()) {
        cell = tried->second.is_good() ? format_fixed(tried->second.at("loss"), 3) : "not finite";
      }
      if (tried != row.grid.end() && rate == row.rate) cell = "**" + cell + "**";
      text += " " + cell + " |";
    }
    text += "\n";
  }
  return text;
}

}  // namespace

std::string to_markdown(const TaskRows& rows, const Plan& plan) {
  const core::Config& config = rows.task.config();
  std::string text = "## " + rows.task.name() + "\n\n" + std::to_string(config.federation.rounds) +
                     " rounds of " + std::to_string(config.training.max_steps) + " steps of " +
                     std::to_string(config.training.batch_size) + " texts of at most " +
                     std::to_string(config.model.max_length) + " tokens; " +
                     std::to_string(plan.seeds) + " seeds.\n\n" + results(rows) +
                     "\nLearning rates and the loss on validation texts (one seed):\n\n" +
                     learning_rates(rows);
  for (const Row& row : rows.rows) {
    if (!row.problem.empty()) {
      text += "\nNot compared: " + row.settings.method + ": " + row.problem + "\n";
    }
  }
  return text + "\n";
}

void write_tables(const std::filesystem::path& file, const std::string& text) {
  const std::string begin = "<!-- tables -->\n";
  const std::string end = "<!-- end of tables -->\n";
  std::ostringstream old;
  if (std::filesystem::exists(file)) old << std::ifstream(file).rdbuf();
  std::string page = old.str();
  const auto from = page.find(begin);
  const auto to = page.find(end);
  if (from == std::string::npos || to == std::string::npos || to < from) {
    page = begin + "\n" + text + end;
  } else {
    page = page.substr(0, from) + begin + "\n" + text + page.substr(to);
  }
  if (file.has_parent_path()) std::filesystem::create_directories(file.parent_path());
  std::ofstream stream(file);
  stream << page;
  if (!stream.flush()) throw core::IoError(file.string() + ": cannot be written");
}

}  // namespace drystone::comparison
