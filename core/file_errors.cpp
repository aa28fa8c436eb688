#include "core/file_errors.h"

#include <cerrno>
#include <string_view>

namespace drystone::core {

namespace {

const char* remedy(int number) {
  switch (number) {
    case ENOENT: return "check the path, and that its folder exists";
    case ENOTDIR: return "a part of the path is a file: give another path";
    case EISDIR: return "give the path of a file";
    case EACCES:
    case EPERM: return "give this user the permission, or use another path";
    case EROFS: return "use a path on a file system that can be written";
    case EEXIST:
    case ENOTEMPTY: return "move away what is there, or use another path";
    case ENAMETOOLONG: return "use a shorter path";
    case EXDEV: return "keep both on one file system";
    case ENOSPC:
    case EDQUOT: return "make room on the disk";
    case EFBIG: return "raise the limit of a file's size (ulimit -f)";
    case EMFILE:
    case ENFILE: return "raise the limit of open files (ulimit -n)";
    default: return "check the disk";
  }
}

/// What std::filesystem was doing: between "filesystem error: " and what the system says.
std::string operation(const std::filesystem::filesystem_error& error) {
  constexpr std::string_view kBegin = "filesystem error: ";
  const std::string_view text = error.what();
  const std::size_t end = text.find(": " + error.code().message());
  if (!text.starts_with(kBegin) || end == std::string_view::npos) return "cannot be used";
  return std::string(text.substr(kBegin.size(), end - kBegin.size()));
}

}  // namespace

IoError file_error(const std::filesystem::path& path, const std::string& what,
                   const std::error_code& error) {
  return IoError(path.string() + ": " + what + ": " + error.message() + "; " +
                 remedy(error.value()));
}

IoError file_error(const std::filesystem::filesystem_error& error) {
  std::string paths = error.path1().string();
  if (!error.path2().empty()) paths += " and " + error.path2().string();
  return file_error(paths, operation(error), error.code());
}

void throw_errno(const std::filesystem::path& path, const std::string& what) {
  throw file_error(path, what, {errno, std::generic_category()});
}

}  // namespace drystone::core
