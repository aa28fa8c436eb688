#pragma once
// A machine's disk in memory: what was written, what of it would survive a power failure, and the
// faults that a schedule plans for it.

#include <cstdint>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "core/bytes.h"
#include "core/seed.h"

namespace drystone::chaos {

enum class DiskCall : std::uint8_t { Create, Write, Truncate, Sync, Rename, Unlink, MakeFolder };

/// A file or folder.
struct Node {
  struct Change {  ///< of a file, since its last sync
    std::uint64_t offset = 0;
    core::Bytes bytes;
    bool is_truncation = false;  ///< to `offset`
  };
  using Entries = std::map<std::string, std::shared_ptr<Node>, std::less<>>;

  std::uint64_t number = 0;
  std::int64_t changed = 0;
  bool is_folder = false;
  core::Bytes data;
  core::Bytes durable;          ///< what a power failure leaves for certain
  std::vector<Change> pending;  ///< on top of `durable`
  Entries entries;
  Entries durable_entries;
};
using NodePtr = std::shared_ptr<Node>;

/// Paths begin behind the disk's own folder, as "blobs/partial/ab"; "" is that folder. Calls give 0
/// or an errno. A disk that has died changes no more: whatever its machine still does in that
/// moment never happened.
class Disk {
 public:
  struct Errors {  ///< calls that fail, by their number in this disk's whole life
    std::uint64_t first = 0;
    std::uint64_t count = 0;
    int reason = 0;
  };
  struct Crash {
    std::uint64_t at = 0;   ///< call
    bool is_after = false;  ///< it is done before the machine dies; otherwise a part of it
    bool loses_power = false;
  };

  /// @param keeps_pending  power failures may come: unsynced changes are remembered
  Disk(std::uint64_t seed, bool keeps_pending);

  void plan(const Errors& errors) { errors_.push_back(errors); }
  void plan(const Crash& crash) { crashes_.push_back(crash); }
  /// No planned fault comes any more.
  void heal();

  NodePtr find(std::string_view path) const;
  /// @param exclusive  it must not exist
  int create(std::string_view path, bool exclusive, NodePtr& node);
  int make_folder(std::string_view path);
  int write(Node& node, std::uint64_t offset, core::ByteView bytes);
  int truncate(Node& node, std::uint64_t size);
  int sync(Node& node);
  int rename(std::string_view from, std::string_view to);
  int unlink(std::string_view path);

  bool is_dead() const { return is_dead_; }
  void die() { is_dead_ = true; }
  bool lost_power() const { return loses_power_; }
  /// The machine starts again. @param lost_power  unsynced changes survive in part
  void revive(bool lost_power);
  /// Flips a bit of a file, durably.
  void rot(std::string_view path, std::uint64_t bit);

  std::uint64_t num_calls() const { return num_calls_; }
  std::uint64_t num_errors() const { return num_errors_; }
  /// Paths of all files.
  std::vector<std::string> files() const;

 private:
  struct Step {  ///< of a folder's entries, not durable yet
    NodePtr folder;
    std::string name;
    NodePtr node;  ///< nullptr: the name goes
    NodePtr from_folder;
    std::string from_name;  ///< a rename's
  };

  int begin(DiskCall call);
  bool dies_here(bool after);
  std::pair<NodePtr, std::string> place(std::string_view path) const;
  void link(const NodePtr& folder, const std::string& name, const NodePtr& node);
  void settle_name(const Node& folder, const std::string& name, std::ptrdiff_t last);
  static void apply(const Step& step);
  static void apply(const Node::Change& change, core::Bytes& data);
  void lose_power();
  void settle(const NodePtr& node);
  static void list(const Node& folder, const std::string& prefix, std::vector<std::string>& files);

  core::SplitMix64 random_;
  bool keeps_pending_;
  NodePtr root_;
  std::vector<Step> steps_;
  std::map<const Node*, std::pair<const Node*, std::string>> born_;  ///< where a file was created
  std::vector<Errors> errors_;
  std::vector<Crash> crashes_;
  std::uint64_t num_calls_ = 0;
  std::uint64_t num_errors_ = 0;
  std::uint64_t num_nodes_ = 0;
  std::int64_t num_changes_ = 0;
  bool is_dead_ = false;
  bool loses_power_ = false;
};

/// The disks that the process's own file calls reach, as /chaos/NAME: see posix_calls.cpp and
/// sqlite_files.cpp.
class Disks {
 public:
  static Disks& instance();
  void mount(const std::string& name, Disk* disk) { disks_[name] = disk; }
  void unmount_all() { disks_.clear(); }
  /// Whose disk a path is on and what it is called there; nullptr: the machine's own.
  Disk* find(std::string_view path, std::string_view& rest) const;

 private:
  std::map<std::string, Disk*, std::less<>> disks_;
};

/// Files that are open through the process's own calls.
std::size_t num_open_files();
/// What random numbers of the system are drawn from, so that names of temporary files repeat.
void seed_system_random(std::uint64_t seed);
/// Makes SQLite use the disks.
void use_disks_for_sqlite();
std::uint64_t next_system_random();

}  // namespace drystone::chaos
