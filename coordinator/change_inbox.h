#pragma once
// Where `drystone keys` leaves signed roster changes for the coordinator: STATE/changes/N.change.

#include <cstdint>
#include <filesystem>
#include <string>

#include "core/expected.h"
#include "wire/messages.h"

namespace drystone::coordinator {

/// A folder of files that appear whole and are taken in the order of their numbers.
class ChangeInbox {
 public:
  explicit ChangeInbox(const std::filesystem::path& state) : folder_(state / "changes") {}

  /// Leaves a change there; it survives a power cut after return.
  /// @return false: another change of this number is there
  /// @throws core::IoError
  bool put(std::uint64_t number, const wire::Signed& change) const;
  /// Whether there is a change of this number: one look at one name.
  bool contains(std::uint64_t number) const;
  /// Refuses with MalformedFrame what cannot be read, or is no change's file.
  core::Expected<wire::Signed> read(std::uint64_t number) const;
  /// It counts: its file goes.
  void remove(std::uint64_t number) const;
  /// It will never count: its file gets out of the way as N.change.refused.
  /// @throws core::IoError
  void set_aside(std::uint64_t number) const;

  std::filesystem::path file(std::uint64_t number) const;
  std::filesystem::path refused_file(std::uint64_t number) const;

 private:
  std::filesystem::path folder_;
};

}  // namespace drystone::coordinator
