#include "data/sequence_file.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <utility>

#include <unistd.h>

#include "core/bytes.h"
#include "core/check.h"
#include "core/error.h"
#include "core/files.h"
#include "core/temporary_files.h"
#include "data/token_label.h"

namespace drystone::data {

namespace {

static_assert(std::endian::native == std::endian::little, "files are mapped as they are");

constexpr std::array<char, 8> kMagic = {'D', 'R', 'Y', 'S', 'E', 'Q', '2', '\n'};

struct Header {
  std::array<char, 8> magic = kMagic;
  Fingerprint made_from;
  std::uint64_t num_examples = 0;
  std::uint64_t num_tokens = 0;
  std::uint64_t key_bytes = 0;
  std::uint64_t num_skipped = 0;
  std::uint64_t num_cut = 0;   ///< examples that max_length shortened
  std::uint64_t num_lost = 0;  ///< tokens that it took from them
  Fingerprint checksum;        ///< of table and keys
};
static_assert(sizeof(Header) == 88 && std::is_trivially_copyable_v<Header>);

Fingerprint checksum_of(std::string_view table, std::string_view keys) {
  FingerprintMaker maker;
  maker.add(table);
  maker.add(keys);
  return maker.finish();
}

std::uint64_t mixed(std::uint64_t value) {  // the finaliser of SplitMix64
  value = (value ^ (value >> 30)) * 0xBF58476D1CE4E5B9;
  value = (value ^ (value >> 27)) * 0x94D049BB133111EB;
  return value ^ (value >> 31);
}

std::string_view bytes_of(std::span<const std::uint64_t> words) {
  return {reinterpret_cast<const char*>(words.data()), words.size_bytes()};
}

}  // namespace

std::string Fingerprint::hex() const { return core::to_hex(core::as_bytes(bytes_of(words))); }

void FingerprintMaker::add(std::string_view bytes) {
  auto& [first, second] = state_.words;
  const auto absorb = [&](std::uint64_t word) {
    first = mixed(first ^ word);
    second = std::rotl(second ^ word, 29) * 0x9FB21C651E98DF25 + first;
  };
  absorb(bytes.size());
  while (!bytes.empty()) {
    std::uint64_t word = 0;
    const std::size_t count = std::min(bytes.size(), sizeof(word));
    std::memcpy(&word, bytes.data(), count);
    absorb(word);
    bytes.remove_prefix(count);
  }
}

void FingerprintMaker::add_file(const std::filesystem::path& file) {
  constexpr std::size_t kPiece = std::size_t{16} << 20;
  const core::MappedFile mapping(file);
  for (std::string_view rest = core::as_text(mapping.bytes()); !rest.empty();) {
    const std::size_t count = std::min(rest.size(), kPiece);
    add(rest.substr(0, count));
    rest.remove_prefix(count);
    mapping.forget_pages();
  }
}

SequenceFile::SequenceFile(const std::filesystem::path& file, const Fingerprint& made_from,
                           std::int64_t vocab_size)
    : path_(file), mapping_(file) {
  read_layout(made_from);
  check_starts();
  check_tokens(vocab_size);
}

void SequenceFile::fail(const std::string& problem) const {
  throw core::IoError(path_.string() + ": " + problem + "; remove the file, it will be made again");
}

void SequenceFile::read_layout(const Fingerprint& made_from) {
  const core::ByteView bytes = mapping_.bytes();
  Header header;
  if (bytes.size() < sizeof(header)) fail("cut short");
  std::memcpy(&header, bytes.data(), sizeof(header));
  if (header.magic != kMagic) fail("not a file of encoded examples");
  if (header.made_from != made_from) fail("made from other data or settings");
  // Each count is below the file's size before it is multiplied.
  const std::uint64_t size = bytes.size() - sizeof(header);
  const bool is_sane = header.num_tokens <= size && header.num_examples < size &&
                       header.key_bytes <= size && header.num_examples > 0;
  constexpr std::uint64_t kTokenBytes = 2 * sizeof(text::TokenId);
  constexpr std::uint64_t kStartBytes = sizeof(std::uint64_t);
  if (!is_sane || kTokenBytes * header.num_tokens + kStartBytes * (header.num_examples + 1) +
                          header.key_bytes !=
                      size) {
    fail("sizes do not fit");
  }
  const std::uint8_t* const tokens = bytes.data() + sizeof(header);
  const std::uint8_t* const starts = tokens + kTokenBytes * header.num_tokens;
  tokens_ = {reinterpret_cast<const text::TokenId*>(tokens), 2 * header.num_tokens};
  starts_ = {reinterpret_cast<const std::uint64_t*>(starts), header.num_examples + 1};
  keys_ = bytes.last(header.key_bytes);
  num_skipped_ = header.num_skipped;
  cut_ = {header.num_cut, header.num_lost};
  if (checksum_of(bytes_of(starts_), core::as_text(keys_)) != header.checksum) fail("damaged");
}

void SequenceFile::check_starts() const {
  const bool ascends = std::ranges::adjacent_find(starts_, std::greater_equal()) == starts_.end();
  if (starts_.front() != 0 || 2 * starts_.back() != tokens_.size() || !ascends) {
    fail("its table of examples is damaged");
  }
}

void SequenceFile::check_tokens(std::int64_t vocab_size) const {
  constexpr std::size_t kPiece = std::size_t{4} << 20;
  std::size_t since_release = 0;
  for (std::size_t example = 0; example < size(); ++example) {
    const auto is_id = [&](text::TokenId id) { return id >= 0 && id < vocab_size; };
    const auto is_label = [&](text::TokenId label) { return label == kNoLabel || is_id(label); };
    if (!std::ranges::all_of(ids(example), is_id) ||
        !std::ranges::all_of(labels(example), is_label)) {
      fail("ids outside the vocabulary");
    }
    since_release += length(example);
    if (since_release >= kPiece) {
      mapping_.forget_pages();
      since_release = 0;
    }
  }
}

std::vector<std::string> SequenceFile::keys() const {
  std::vector<std::string> keys;
  std::string_view rest = core::as_text(keys_);
  while (!rest.empty()) {
    std::uint32_t length = 0;
    if (rest.size() < sizeof(length)) fail("its keys are damaged");
    std::memcpy(&length, rest.data(), sizeof(length));
    rest.remove_prefix(sizeof(length));
    if (length > rest.size()) fail("its keys are damaged");
    keys.emplace_back(rest.substr(0, length));
    rest.remove_prefix(length);
  }
  if (!keys.empty() && keys.size() != size()) fail("its keys are damaged");
  return keys;
}

SequenceFileWriter::SequenceFileWriter(std::filesystem::path file, const Fingerprint& made_from)
    : file_(std::move(file)), made_from_(made_from) {
  std::error_code ignored;  // opening fails and says why
  std::filesystem::create_directories(file_.parent_path(), ignored);
  temporary_ = core::temporary_beside(file_);
  stream_.open(temporary_, std::ios::binary | std::ios::trunc);
  if (!stream_) {
    throw core::IoError(temporary_.string() +
                        ": cannot write; check the folder, or set data.cache");
  }
  const Header empty;
  stream_.write(reinterpret_cast<const char*>(&empty), sizeof(empty));
}

SequenceFileWriter::~SequenceFileWriter() {
  if (is_finished_) return;
  stream_.close();
  std::error_code ignored;
  std::filesystem::remove(temporary_, ignored);
}

void SequenceFileWriter::add(std::span<const text::TokenId> ids,
                             std::span<const text::TokenId> labels) {
  core::require(!ids.empty() && ids.size() == labels.size(), "SequenceFileWriter: wrong example");
  for (const auto& part : {ids, labels}) {
    stream_.write(reinterpret_cast<const char*>(part.data()),
                  static_cast<std::streamsize>(part.size_bytes()));
  }
  starts_.push_back(starts_.back() + ids.size());
}

void SequenceFileWriter::add_key(const std::string& key) {
  const auto length = static_cast<std::uint32_t>(key.size());
  keys_.append(reinterpret_cast<const char*>(&length), sizeof(length));
  keys_ += key;
}

void SequenceFileWriter::finish() {
  const std::string_view table = bytes_of(starts_);
  stream_.write(table.data(), static_cast<std::streamsize>(table.size()));
  stream_.write(keys_.data(), static_cast<std::streamsize>(keys_.size()));
  const Header header{.magic = kMagic,
                      .made_from = made_from_,
                      .num_examples = size(),
                      .num_tokens = starts_.back(),
                      .key_bytes = keys_.size(),
                      .num_skipped = num_skipped_,
                      .num_cut = cut_.examples(),
                      .num_lost = cut_.tokens(),
                      .checksum = checksum_of(table, keys_)};
  stream_.seekp(0);
  stream_.write(reinterpret_cast<const char*>(&header), sizeof(header));
  stream_.close();
  if (!stream_) {
    throw core::IoError(temporary_.string() + ": writing failed; is the disk full?");
  }
  std::filesystem::rename(temporary_, file_);
  is_finished_ = true;
}

}  // namespace drystone::data
