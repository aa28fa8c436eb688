#include "coordinator/change_inbox.h"

#include <algorithm>
#include <cerrno>
#include <system_error>

#include <unistd.h>

#include "core/error.h"
#include "core/file_errors.h"
#include "core/files.h"
#include "core/regular_file.h"
#include "core/temporary_files.h"
#include "wire/durable_file.h"
#include "wire/limits.h"

namespace drystone::coordinator {

namespace fs = std::filesystem;

fs::path ChangeInbox::file(std::uint64_t number) const {
  return folder_ / (std::to_string(number) + ".change");
}

fs::path ChangeInbox::refused_file(std::uint64_t number) const {
  return file(number) += ".refused";
}

// link(2), unlike rename(2), takes nobody's place: of two that are made at a time one stays.
bool ChangeInbox::put(std::uint64_t number, const wire::Signed& change) const {
  core::Bytes bytes(change.signature.begin(), change.signature.end());
  bytes.insert(bytes.end(), change.bytes.begin(), change.bytes.end());
  const fs::path name = file(number);
  const fs::path temporary = core::temporary_beside(name);
  core::write_file_atomic(temporary, bytes, 0600);
  const int failed = ::link(temporary.c_str(), name.c_str()) == 0 ? 0 : errno;
  std::error_code ignored;
  fs::remove(temporary, ignored);
  if (failed == EEXIST) return false;
  if (failed != 0)
    throw core::file_error(name, "cannot be made", {failed, std::generic_category()});
  core::sync_folder(folder_);
  return true;
}

bool ChangeInbox::contains(std::uint64_t number) const {
  std::error_code absent;
  return fs::exists(fs::symlink_status(file(number), absent));
}

core::Expected<wire::Signed> ChangeInbox::read(std::uint64_t number) const {
  wire::Signed change;
  const std::size_t overhead = change.signature.size();
  core::Bytes bytes;
  try {
    bytes = core::read_file(file(number), overhead + wire::kMaxRosterChangeBytes);
  } catch (const core::IoError& error) {
    return core::refuse(core::Refusal::MalformedFrame, error.what());
  }
  if (bytes.size() <= overhead) {
    return core::refuse(core::Refusal::MalformedFrame, "is cut off");
  }
  const auto split = bytes.begin() + static_cast<std::ptrdiff_t>(overhead);
  std::copy(bytes.begin(), split, change.signature.begin());
  change.bytes.assign(split, bytes.end());
  return change;
}

void ChangeInbox::remove(std::uint64_t number) const {
  std::error_code ignored;  // what stays is of a number that is past
  fs::remove(file(number), ignored);
}

void ChangeInbox::set_aside(std::uint64_t number) const {
  wire::move_file(file(number), refused_file(number));
}

}  // namespace drystone::coordinator
