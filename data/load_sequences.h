#pragma once
// A data file → encoded examples of causal LM, in memory or in a mapped file.

#include <cstddef>
#include <filesystem>
#include <string>
#include <vector>

#include "data/dataset.h"
#include "data/record.h"
#include "data/sequence_encoder.h"

namespace drystone::data {

struct SequenceSource {
  std::filesystem::path file;          ///< JSON lines, CSV or TSV
  RecordFields fields;                 ///< with `sequence` set
  std::filesystem::path model_folder;  ///< whose tokenizer and chat template the encoder has
};

struct LoadedSequences {
  Dataset examples;
  std::vector<std::string> keys;  ///< by example; empty unless fields.key is set
  std::size_t num_skipped = 0;    ///< records with nothing to learn within max_length; a warning
                                  ///< has told the user
};

/// Reads and encodes a data file, holding one record at a time besides the result.
/// @throws core::ConfigError  `FILE:LINE: …` as RecordReader and SequenceEncoder; a file without
///                            anything to learn
LoadedSequences load_sequences(const SequenceSource& source, const SequenceEncoder& encoder);

/// The same without ever holding the data set: the first call encodes into a file in `cache`, named
/// after a fingerprint of the data, the tokenizer's files and all settings; later calls map it. In
/// memory are 16 bytes an example, its key, and the pages in use. A damaged file is made anew.
/// @throws as load_sequences; core::IoError  the file cannot be written
LoadedSequences stream_sequences(const SequenceSource& source, const SequenceEncoder& encoder,
                                 const std::filesystem::path& cache);

}  // namespace drystone::data
