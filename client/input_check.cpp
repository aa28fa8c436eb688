#include "client/input_check.h"

#include <algorithm>
#include <filesystem>
#include <functional>
#include <string>
#include <system_error>

#include "core/config_paths.h"
#include "core/error.h"
#include "core/log.h"
#include "data/record_reader.h"
#include "data/sequence_encoder.h"

namespace drystone::client {

namespace fs = std::filesystem;

namespace {

/// What is wrong with a path of the configuration.
using Fail = std::function<void(const fs::path&, const char* problem, const std::string& remedy)>;

data::RecordFields fields_of(const core::Config& config) {
  return data::record_fields(config.data, config.model.task == "causal-lm");
}

bool has_record(const fs::path& file, const data::RecordFields& fields) {
  data::RecordReader reader(file, fields);
  data::Record record;
  return reader.next(record);
}

void check_files(const core::Config& config, const Fail& fail) {
  const fs::path& pattern = config.data.train;
  const auto files = data::matching_files(pattern);
  if (files.empty()) {
    fail(pattern, "no data file there",
         "name one that exists, a folder, or files as in folder/client_*.jsonl");
  }
  const auto fields = fields_of(config);
  const bool any =
      std::ranges::any_of(files, [&](const fs::path& file) { return has_record(file, fields); });
  if (!any) fail(pattern, "its files hold no records", "give files with at least one each");
}

void check_file(const core::Config& config, const std::string& key, const fs::path& file,
                const Fail& fail) {
  const bool trains = key == "data.train";
  std::error_code error;
  if (fs::is_directory(file, error)) {
    fail(file, "is a folder",
         std::string("name a file") +
             (trains ? ", or set data.partition = \"by-file\" for one file a client" : ""));
  }
  if (!fs::exists(file, error)) {
    const bool is_pattern = trains && file.filename().string().find('*') != std::string::npos;
    fail(file, "no such file",
         std::string("name one that exists") +
             (is_pattern ? ", or set data.partition = \"by-file\" for one file a client" : ""));
  }
  data::RecordFields fields = fields_of(config);
  if (!trains) fields.key.clear();
  if (has_record(file, fields)) return;
  fail(file, "holds no records",
       std::string("give a file with at least one") + (trains ? "" : ", or remove the key"));
}

void check_data(const core::Config& config, const std::string& key, const fs::path& file) {
  if (file.empty()) return;
  const Fail fail = [&](const fs::path& path, const char* problem, const std::string& remedy) {
    throw core::path_error(config, key, path, problem, remedy);
  };
  std::error_code error;
  const bool are_many = key == "data.train" && config.data.partition == "by-file" &&
                        (!fs::exists(file, error) || fs::is_directory(file, error));
  if (are_many) {
    check_files(config, fail);
  } else {
    check_file(config, key, file, fail);
  }
}

bool is_blank(const std::string& text) {
  return text.find_first_not_of(" \t\r\n") == std::string::npos;
}

bool has_text(const data::Record& record) {
  return !is_blank(record.text) || (record.text_pair && !is_blank(*record.text_pair)) ||
         !record.input_ids.empty() || !record.fields.empty() || !record.messages.empty();
}

}  // namespace

void check_model(const core::Config& config) {
  const fs::path& folder = config.model.path;
  if (folder.empty()) {
    throw core::config_error(config, "model.path",
                             "is missing; name the folder of the base model, e.g. "
                             "path = \"models/minilm\" under [model]");
  }
  std::error_code error;
  if (fs::exists(folder / "config.json", error)) return;
  const bool is_there = fs::exists(folder, error);
  throw core::path_error(
      config, "model.path", folder,
      is_there ? "is no model folder (there is no config.json)" : "no such folder",
      "name one that holds config.json and the model's other files");
}

void check_inputs(const core::Config& config) {
  check_model(config);
  check_data(config, "data.train", config.data.train);
  check_data(config, "data.test", config.data.test);
}

void check_simulation_inputs(const core::Config& config) {
  if (config.data.train.empty()) {
    check_model(config);
    throw core::config_error(config, "data.train",
                             "is missing; name the file of the training texts, e.g. "
                             "train = \"train.jsonl\" under [data]");
  }
  check_inputs(config);
}

void warn_of_empty_texts(const char* key, std::span<const data::Record> records) {
  const auto first = std::ranges::find_if_not(records, has_text);
  if (first == records.end()) return;
  const auto count = std::count_if(first, records.end(),
                                   [](const data::Record& record) { return !has_text(record); });
  const std::string where = first->where.str();
  core::log_warning("records with an empty text, which teaches nothing; remove them",
                    {{"key", key},
                     {"first", std::string_view(where)},
                     {"empty", static_cast<std::int64_t>(count)},
                     {"records", static_cast<std::int64_t>(records.size())}});
}

}  // namespace drystone::client
