#pragma once
// The file formats behind RecordReader. Private to this folder.

#include <memory>

#include "data/json_records.h"
#include "data/line_source.h"
#include "data/record.h"

namespace drystone::data {

class RecordFormat {
 public:
  virtual ~RecordFormat() = default;
  virtual bool next(Record& record) = 0;
  /// Where the last record began.
  virtual Place place() const = 0;
};

std::unique_ptr<RecordFormat> make_jsonl_format(JsonRecords values, RecordFields fields);

/// @param separator  ',' for CSV; '\t' for TSV, which has no quoting
std::unique_ptr<RecordFormat> make_delimited_format(LineSource lines, const RecordFields& fields,
                                                    char separator);

}  // namespace drystone::data
