// Fuzz target: a data file. The first byte chooses its format and what is read of it.

#include <array>

#include <zlib.h>

#include "core/error.h"
#include "core/files.h"
#include "data/record_reader.h"
#include "tests/fuzz/fuzz_target.h"
#include "tests/temporary_folder.h"

using namespace drystone;

namespace {

constexpr std::array<const char*, 6> kNames = {"a.jsonl",    "a.csv",    "a.tsv",
                                               "a.jsonl.gz", "a.csv.gz", "b.jsonl"};

const test::TemporaryFolder& folder() {
  static const test::TemporaryFolder instance;
  return instance;
}

data::RecordFields fields_of(std::uint8_t choice) {
  data::RecordFields fields{.text = "text", .label = "label"};
  if (choice >= 128) fields.sequence = data::SequenceFields{};
  if (choice % 3 == 0) fields.text_pair = "pair";
  return fields;
}

core::Bytes zipped(const core::Bytes& bytes) {
  const auto file = folder() / "seed.gz";
  const gzFile stream = gzopen(file.c_str(), "wb");
  gzwrite(stream, bytes.data(), static_cast<unsigned>(bytes.size()));
  gzclose(stream);
  return core::read_file(file, 1 << 20);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size == 0) return 0;
  const char* const name = kNames.at(data[0] % kNames.size());
  const auto file = folder().write(name, std::string(core::as_text({data + 1, size - 1})));
  try {
    data::RecordReader reader(file, fields_of(data[0]));
    data::Record record;
    while (reader.next(record)) {
    }
  } catch (const core::ConfigError&) {
  } catch (const core::IoError&) {
  }
  return 0;
}

namespace drystone::test {

std::vector<core::Bytes> seed_inputs(std::uint64_t seed) {
  static constexpr std::array<std::string_view, 3> kTexts = {
      "{\"text\": \"a\", \"label\": 1, \"pair\": \"b\"}\n"
      "{\"input_ids\": [1, 2], \"labels\": [-100, 2]}\n"
      "{\"messages\": [{\"role\": \"user\", \"content\": \"q\"}, {\"role\": \"assistant\", "
      "\"content\": \"r\"}]}\n{\"instruction\": \"i\", \"output\": \"o\"}\n",
      "text,label,pair\n\"a \"\"b\"\"\nc\",x,y\r\nd,e,f\n", "text\tlabel\tpair\na\tb\tc\n"};
  const auto choice = static_cast<std::uint8_t>(seed);
  const std::size_t format = choice % kNames.size();
  const std::string_view text = kTexts.at(format % 3);
  core::Bytes content(text.begin(), text.end());
  if (format == 3 || format == 4) content = zipped(content);
  content.insert(content.begin(), choice);
  return {content};
}

}  // namespace drystone::test
