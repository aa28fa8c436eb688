#pragma once
// What a client's method remembers of its own trainings, on disk.

#include <cstdint>
#include <filesystem>
#include <map>
#include <optional>
#include <string>

#include <ATen/core/Tensor.h>

#include "core/bytes.h"

namespace drystone::client {

/// One file a round. A training that is done again (a crash, a round that was planned anew) finds
/// what it found the first time, whatever it left then, and so gives the same bits. One thread at a
/// time for a folder.
class ClientMemory {
 public:
  using Tensors = std::map<std::string, at::Tensor>;

  /// @param folder      made when something is kept; "" keeps nothing
  /// @param federation  whose rounds they are: another's files count as absent
  ClientMemory(std::filesystem::path folder, std::string federation);

  /// What the newest round before `round` left; empty: nothing. @throws core::IoError  unreadable
  Tensors before(std::uint64_t round) const;
  /// Survives a power cut after return; drops what no later or repeated round needs.
  /// @throws core::IoError
  void keep(std::uint64_t round, const Tensors& tensors) const;

  /// A round's file, to be carried between the machines that train a simulation's clients.
  struct Kept {
    std::uint64_t round = 0;
    core::Bytes file;
  };
  /// The file behind before(). @throws core::IoError
  std::optional<Kept> carry_before(std::uint64_t round) const;
  /// What the round itself left, if anything. @throws core::IoError
  std::optional<Kept> carry(std::uint64_t round) const;
  /// As keep(). @throws core::IoError
  void put(const Kept& kept) const;

 private:
  std::filesystem::path file(std::uint64_t round) const;
  std::optional<std::uint64_t> newest_before(std::uint64_t round) const;

  std::filesystem::path folder_;
  std::string federation_;
};

}  // namespace drystone::client
