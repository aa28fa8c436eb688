#pragma once
// The comparison as markdown.

#include <filesystem>
#include <map>
#include <string>

#include "bench/methods/comparison.h"

namespace drystone::comparison {

/// A task's rows in the registry's order, as far as they are complete.
struct TaskRows {
  const Task& task;
  Outcome start;  ///< the test texts before any training
  std::vector<Row> rows;
};

/// Two tables, results and learning rates, and what could not be compared.
std::string to_markdown(const TaskRows& rows, const Plan& plan);

/// Puts `text` between the lines "<!-- tables -->" and "<!-- end of tables -->" of FILE; of a file
/// without them, or a new one, it is all there is. @throws core::IoError
void write_tables(const std::filesystem::path& file, const std::string& text);

}  // namespace drystone::comparison
