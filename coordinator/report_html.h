#pragma once
// report.html: the run as one page that needs nothing else.

#include <string>

#include "coordinator/report.h"

namespace drystone::coordinator {

/// A table of rounds and a curve of the test score; no script, no outside resource.
std::string to_html(const RunReport& report);

}  // namespace drystone::coordinator
