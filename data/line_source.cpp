#include "data/line_source.h"

#include <algorithm>
#include <new>

#include <zlib.h>

#include "core/error.h"
#include "core/regular_file.h"
#include "text/utf8.h"

namespace drystone::data {

namespace {

constexpr std::size_t kBufferBytes = std::size_t{1} << 16;

gzFile as_gzip(void* handle) { return static_cast<gzFile>(handle); }

}  // namespace

void LineSource::Closer::operator()(void* file) const { gzclose_r(as_gzip(file)); }

LineSource::LineSource(const std::filesystem::path& file)
    : file_(std::make_shared<const std::string>(file.string())), buffer_(kBufferBytes) {
  core::RegularFile opened(file, core::kMostMappedBytes);
  handle_.reset(gzdopen(opened.descriptor(), "rb"));  // reads plain files as they are
  if (!handle_) throw std::bad_alloc();
  opened.release();  // it is zlib's now
}

bool LineSource::refill() {
  const int count = gzread(as_gzip(handle_.get()), buffer_.data(), kBufferBytes);
  int code = Z_OK;
  const char* const message = gzerror(as_gzip(handle_.get()), &code);
  if (count < 0 || code == Z_BUF_ERROR) {  // the latter: the gzip stream ends too early
    throw core::IoError(*file_ + ": cannot read (" + message + "); fetch the file again");
  }
  position_ = 0;
  filled_ = static_cast<std::size_t>(count);
  check_ratio();
  return filled_ > 0;
}

void LineSource::check_ratio() {
  constexpr std::uint64_t kAlways = std::uint64_t{1} << 28;
  constexpr std::uint64_t kMostTimes = 200;
  total_ += filled_;
  const z_off_t packed = total_ > kAlways ? gzoffset(as_gzip(handle_.get())) : 0;
  if (packed <= 0 || total_ <= kMostTimes * static_cast<std::uint64_t>(packed)) return;
  throw core::ConfigError(*file_ + ": unpacks to more than " + std::to_string(kMostTimes) +
                          " times its size; is this a data file? If so, unpack it");
}

bool LineSource::next(std::string& line) {
  line.clear();
  if (position_ == filled_ && !refill()) return false;
  ++line_;
  for (;;) {
    const char* const begin = buffer_.data() + position_;
    const char* const end = buffer_.data() + filled_;
    const char* const stop = std::find(begin, end, '\n');
    line.append(begin, stop);
    position_ += static_cast<std::size_t>(stop - begin);
    if (line.size() > kMaxRecordBytes) {
      throw core::ConfigError(where(line_) + ": line is longer than 64 MiB; is this a text file?");
    }
    if (stop != end) {
      ++position_;
      break;
    }
    if (!refill()) break;
  }
  check_text(line);
  return true;
}

void LineSource::check_text(std::string& line) {
  if (line_ == 1 && line.starts_with("\xEF\xBB\xBF")) line.erase(0, 3);
  if (const auto bad = text::find_invalid_utf8(line)) {
    throw core::ConfigError(where(line_) + ": byte " + std::to_string(*bad + 1) +
                            " is not valid UTF-8; convert the file, e.g. with iconv -t UTF-8");
  }
}

}  // namespace drystone::data
