// Identities on disk: NAME.key (mode 0600) and NAME.pub.

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/check.h"
#include "core/error.h"
#include "crypto/identity.h"
#include "crypto/key_pairs.h"
#include "crypto/names.h"
#include "crypto/toml_document.h"

namespace drystone::crypto {

namespace {

namespace fs = std::filesystem;

[[noreturn]] void fail_io(const fs::path& file, const std::string& what,
                          const std::string& remedy) {
  throw core::IoError(file.string() + ": " + what + " (" + std::strerror(errno) + "); " + remedy);
}

/// Creates `file`; an existing one, or a link in its place, is never overwritten or followed.
void write_new_file(const fs::path& file, std::string_view text, mode_t mode) {
  const int fd = ::open(file.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, mode);
  if (fd < 0) fail_io(file, "cannot be created", "choose another name or folder");
  bool is_written = ::fchmod(fd, mode) == 0;  // whatever the umask says
  while (is_written && !text.empty()) {
    const ssize_t written = ::write(fd, text.data(), text.size());
    if (written < 0 && errno == EINTR) continue;
    is_written = written > 0;
    if (is_written) text.remove_prefix(static_cast<std::size_t>(written));
  }
  is_written = is_written && ::fsync(fd) == 0;
  const int saved_errno = errno;
  ::close(fd);
  if (is_written) return;
  ::unlink(file.c_str());
  errno = saved_errno;
  fail_io(file, "cannot be written", "check the disk");
}

fs::path with_suffix(const fs::path& path, const char* suffix) {
  const bool has_suffix = path.extension() == ".key" || path.extension() == ".pub";
  fs::path file = has_suffix ? fs::path(path).replace_extension() : path;
  return file += suffix;
}

/// A key that others can read is no secret any more: refused, as OpenSSH does.
void require_private(const fs::path& file) {
  struct stat status{};
  if (::stat(file.c_str(), &status) != 0) {
    fail_io(file, "no such key", "create one with `drystone keys new NAME`");
  }
  if ((status.st_mode & 077) != 0) {
    throw core::ConfigError(file.string() +
                            ": the secret key is open to other users; run `chmod 600 " +
                            file.string() + "`");
  }
}

/// A pair of two parties' files would be told to the peer as a foreign key only.
void require_pair(const PublicIdentity& own, const fs::path& key_file) {
  const fs::path file = with_suffix(key_file, ".pub");
  std::error_code error;
  if (!fs::exists(file, error)) return;
  const PublicIdentity known = load_public_identity(file);
  if (known.name == own.name && known.curve == own.curve && known.signing == own.signing) return;
  throw core::ConfigError(key_file.string() + ": does not belong to " + file.string() +
                          " beside it; restore the two files that were made together");
}

const std::string& party_name(const TomlTable& table) {
  const std::string& name = table.text("name");
  if (!is_party_name(name)) table.fail("name", kPartyNameRule);
  return name;
}

PublicKey public_key(const TomlTable& table, std::string_view key) {
  PublicKey result{};
  std::ranges::copy(table.hex(key, result.size()), result.begin());
  return result;
}

std::string hex_line(std::string_view key, core::ByteView bytes) {
  return std::string(key) + " = \"" + core::to_hex(bytes) + "\"\n";
}

}  // namespace

void save_identity(const Identity& identity, const fs::path& dir) {
  const PublicIdentity& known = identity.public_part;
  core::require(is_party_name(known.name), "save_identity: not a name: '" + known.name + "'");
  std::error_code ignored;
  fs::create_directories(dir, ignored);  // the open below reports what is wrong
  const fs::path secret_file = dir / (known.name + ".key");
  const fs::path public_file = dir / (known.name + ".pub");
  for (const fs::path& file : {secret_file, public_file}) {
    if (fs::exists(fs::symlink_status(file, ignored))) {
      throw core::IoError(file.string() + ": exists already; choose another name or remove it");
    }
  }
  const std::string name_line = "name = \"" + known.name + "\"\n";
  std::string secret =
      "# Secret keys of a Drystone party. Never leave the machine they are for.\n" + name_line +
      hex_line("curve_secret", identity.curve_secret.view()) +
      hex_line("signing_secret", identity.signing_secret.view());
  try {
    write_new_file(secret_file, secret, 0600);
  } catch (...) {
    wipe(secret);
    throw;
  }
  wipe(secret);
  write_new_file(public_file,
                 "# Public keys of a Drystone party: goes into the coordinator's roster.\n" +
                     name_line + hex_line("curve", known.curve) +
                     hex_line("signing", known.signing),
                 0644);
}

Identity load_identity(const fs::path& path) {
  const fs::path file = with_suffix(path, ".key");
  require_private(file);
  TomlTable table = read_toml(file);
  table.allow_only({"name", "curve_secret", "signing_secret"});
  SecretBytes curve(table.hex("curve_secret", 32));
  SecretBytes signing(table.hex("signing_secret", 32));
  const std::string name = party_name(table);
  wipe(table);
  Identity identity = restore_identity(name, std::move(curve), std::move(signing));
  require_pair(identity.public_part, file);
  return identity;
}

PublicIdentity load_public_identity(const fs::path& path) {
  const TomlTable table = read_toml(with_suffix(path, ".pub"));
  table.allow_only({"name", "curve", "signing"});
  return {.name = party_name(table),
          .curve = public_key(table, "curve"),
          .signing = public_key(table, "signing")};
}

}  // namespace drystone::crypto
