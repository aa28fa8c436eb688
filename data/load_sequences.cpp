#include "data/load_sequences.h"

#include <array>
#include <memory>
#include <optional>

#include "core/error.h"
#include "core/log.h"
#include "data/lost_tokens.h"
#include "data/record_reader.h"
#include "data/sequence_file.h"

namespace drystone::data {

namespace {

constexpr std::string_view kFormat = "drystone sequences 2";

/// Everything that the encoded examples depend on.
Fingerprint fingerprint(const SequenceSource& source, const SequenceEncoder& encoder) {
  static constexpr std::array kTokenizerFiles = {"tokenizer.json",
                                                 "tokenizer.model",
                                                 "vocab.txt",
                                                 "vocab.json",
                                                 "merges.txt",
                                                 "tokenizer_config.json",
                                                 "special_tokens_map.json",
                                                 "added_tokens.json",
                                                 "additional_chat_templates/default.jinja",
                                                 "chat_template.jinja",
                                                 "chat_template.json",
                                                 "spiece.model",
                                                 "spm.model"};
  FingerprintMaker maker;
  maker.add(kFormat);
  const SequenceOptions& options = encoder.options();
  for (const std::string& setting :
       {options.prompt_template, options.answer_field, std::to_string(options.max_length),
        std::to_string(static_cast<int>(options.loss_on)), source.fields.text, source.fields.key,
        std::to_string(encoder.tokenizer().vocab_size()), std::to_string(options.num_rows)}) {
    maker.add(setting);
  }
  for (const char* const name : kTokenizerFiles) {
    const std::filesystem::path file = source.model_folder / name;
    if (!std::filesystem::is_regular_file(file)) continue;
    maker.add(name);
    maker.add_file(file);
  }
  maker.add_file(source.file);
  return maker.finish();
}

void warn_of_skipped(const std::filesystem::path& file, std::size_t skipped, std::size_t kept,
                     std::int64_t max_length) {
  if (skipped == 0) return;
  core::log_warning("records left out: nothing to learn within max_length",
                    {{"file", file.string()},
                     {"left_out", static_cast<std::int64_t>(skipped)},
                     {"kept", static_cast<std::int64_t>(kept)},
                     {"max_length", max_length}});
}

[[noreturn]] void fail_empty(const std::filesystem::path& file, std::size_t skipped) {
  throw core::ConfigError(
      file.string() + (skipped == 0 ? ": no records; give a file with at least one"
                                    : ": none of " + std::to_string(skipped) +
                                          " records has anything to learn within model.max_length; "
                                          "raise it"));
}

void write_file(const SequenceSource& source, const SequenceEncoder& encoder,
                SequenceFileWriter& writer) {
  RecordReader reader(source.file, source.fields);
  const SequenceEncoder whole(encoder.tokenizer(), text::ChatTemplate::load(source.model_folder),
                              unbound(encoder.options()));
  const std::int64_t max_length = encoder.options().max_length;
  std::size_t skipped = 0;
  for (Record record; reader.next(record);) {
    if (const auto example = encoder.encode(record, record.where.str())) {
      writer.add(example->ids, example->labels);
      writer.add_lost(num_lost(whole, record, example->ids.size(), max_length));
      if (!source.fields.key.empty()) writer.add_key(record.key);
    } else {
      writer.skip();
      ++skipped;
    }
  }
  if (writer.size() == 0) fail_empty(source.file, skipped);
  writer.finish();
}

std::shared_ptr<const SequenceFile> open_cached(const std::filesystem::path& file,
                                                const Fingerprint& made_from,
                                                std::int64_t vocab_size) {
  if (!std::filesystem::is_regular_file(file)) return nullptr;
  try {
    return std::make_shared<const SequenceFile>(file, made_from, vocab_size);
  } catch (const core::IoError& error) {
    core::log_warning("a file of encoded examples is made anew", {{"reason", error.what()}});
    return nullptr;
  }
}

}  // namespace

LoadedSequences load_sequences(const SequenceSource& source, const SequenceEncoder& encoder) {
  RecordReader reader(source.file, source.fields);
  LoadedSequences loaded;
  for (Record record; reader.next(record);) {
    if (!encoder.add(record, record.where.str(), loaded.examples)) {
      ++loaded.num_skipped;
    } else if (!source.fields.key.empty()) {
      loaded.keys.push_back(record.key);
    }
  }
  if (loaded.examples.empty()) fail_empty(source.file, loaded.num_skipped);
  warn_of_skipped(source.file, loaded.num_skipped, loaded.examples.size(),
                  encoder.options().max_length);
  return loaded;
}

LoadedSequences stream_sequences(const SequenceSource& source, const SequenceEncoder& encoder,
                                 const std::filesystem::path& cache) {
  const Fingerprint made_from = fingerprint(source, encoder);
  const std::int64_t vocab_size = encoder.tokenizer().vocab_size();
  const std::filesystem::path file = cache / (made_from.hex() + ".sequences");
  auto examples = open_cached(file, made_from, vocab_size);
  if (examples == nullptr) {
    SequenceFileWriter writer(file, made_from);
    write_file(source, encoder, writer);
    examples = std::make_shared<const SequenceFile>(file, made_from, vocab_size);
  }
  LoadedSequences loaded{Dataset(examples), {}, examples->num_skipped()};
  examples->cut().warn(source.file.string(), examples->size(), encoder.options().max_length);
  if (!source.fields.key.empty()) loaded.keys = examples->keys();
  warn_of_skipped(source.file, loaded.num_skipped, loaded.examples.size(),
                  encoder.options().max_length);
  return loaded;
}

}  // namespace drystone::data
