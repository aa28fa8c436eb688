#include "core/copied_file.h"

#include "core/files.h"
#include "core/mapped_file.h"

namespace drystone::core {

void copy_content(const std::filesystem::path& from, const std::filesystem::path& to) {
  const MappedFile source(from);
  write_file_atomic(to, source.bytes());
}

}  // namespace drystone::core
