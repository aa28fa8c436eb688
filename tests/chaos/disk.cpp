#include "tests/chaos/disk.h"

#include <algorithm>
#include <cerrno>

namespace drystone::chaos {

namespace {

constexpr std::size_t kSector = 512;

std::pair<std::string_view, std::string_view> split(std::string_view path) {
  const std::size_t slash = path.rfind('/');
  if (slash == std::string_view::npos) return {"", path};
  return {path.substr(0, slash), path.substr(slash + 1)};
}

}  // namespace

Disk::Disk(std::uint64_t seed, bool keeps_pending)
    : random_(seed), keeps_pending_(keeps_pending), root_(std::make_shared<Node>()) {
  root_->is_folder = true;
}

void Disk::heal() {
  errors_.clear();
  crashes_.clear();
}

/// Counts a call. @return why it fails; 0: it does not
int Disk::begin(DiskCall call) {
  if (is_dead_) return EIO;
  const std::uint64_t number = num_calls_++;
  for (const Errors& errors : errors_) {
    if (number < errors.first || number - errors.first >= errors.count) continue;
    const bool takes_room = call != DiskCall::Sync && call != DiskCall::Unlink;
    if (errors.reason == ENOSPC && !takes_room) continue;
    if (errors.reason == EMFILE && call != DiskCall::Create) continue;
    ++num_errors_;
    return errors.reason;
  }
  return 0;
}

bool Disk::dies_here(bool after) {
  for (const Crash& crash : crashes_) {
    if (crash.at != num_calls_ - 1 || crash.is_after != after) continue;
    loses_power_ = crash.loses_power;
    is_dead_ = true;
    return true;
  }
  return false;
}

NodePtr Disk::find(std::string_view path) const {
  NodePtr node = root_;
  while (!path.empty()) {
    const std::size_t slash = std::min(path.find('/'), path.size());
    const std::string_view name = path.substr(0, slash);
    path.remove_prefix(std::min(slash + 1, path.size()));
    if (name.empty()) continue;
    const auto found = node->entries.find(name);
    if (found == node->entries.end()) return nullptr;
    node = found->second;
  }
  return node;
}

std::pair<NodePtr, std::string> Disk::place(std::string_view path) const {
  const auto [folder, name] = split(path);
  return {find(folder), std::string(name)};
}

void Disk::link(const NodePtr& folder, const std::string& name, const NodePtr& node) {
  node->number = ++num_nodes_;
  node->changed = ++num_changes_;
  folder->entries[name] = node;
  if (keeps_pending_) steps_.push_back({folder, name, node, nullptr, {}});
}

int Disk::create(std::string_view path, bool exclusive, NodePtr& node) {
  node = find(path);
  if (node != nullptr) return exclusive ? EEXIST : 0;
  const auto [folder, name] = place(path);
  if (folder == nullptr) return ENOENT;
  if (const int error = begin(DiskCall::Create)) return error;
  if (dies_here(false)) return EIO;
  node = std::make_shared<Node>();
  link(folder, name, node);
  if (keeps_pending_) born_[node.get()] = {folder.get(), name};
  return dies_here(true) ? EIO : 0;
}

int Disk::make_folder(std::string_view path) {
  if (find(path) != nullptr) return EEXIST;
  const auto [folder, name] = place(path);
  if (folder == nullptr) return ENOENT;
  if (const int error = begin(DiskCall::MakeFolder)) return error;
  if (dies_here(false)) return EIO;
  const auto node = std::make_shared<Node>();
  node->is_folder = true;
  link(folder, name, node);
  if (keeps_pending_) born_[node.get()] = {folder.get(), name};
  return dies_here(true) ? EIO : 0;
}

void Disk::apply(const Node::Change& change, core::Bytes& data) {
  if (change.is_truncation) return data.resize(change.offset);
  const std::uint64_t end = change.offset + change.bytes.size();
  if (data.size() < end) data.resize(end);
  std::ranges::copy(change.bytes, data.begin() + static_cast<std::ptrdiff_t>(change.offset));
}

int Disk::write(Node& node, std::uint64_t offset, core::ByteView bytes) {
  if (const int error = begin(DiskCall::Write)) return error;
  const bool dies = dies_here(false);
  if (dies) bytes = bytes.first(random_.below(bytes.size() + 1));
  const std::uint64_t end = offset + bytes.size();
  if (node.data.size() < end) node.data.resize(end);
  std::ranges::copy(bytes, node.data.begin() + static_cast<std::ptrdiff_t>(offset));
  node.changed = ++num_changes_;
  if (keeps_pending_) node.pending.push_back({offset, {bytes.begin(), bytes.end()}, false});
  return dies || dies_here(true) ? EIO : 0;
}

int Disk::truncate(Node& node, std::uint64_t size) {
  if (const int error = begin(DiskCall::Truncate)) return error;
  if (dies_here(false)) return EIO;
  node.data.resize(size);
  node.changed = ++num_changes_;
  if (keeps_pending_) node.pending.push_back({size, {}, true});
  return dies_here(true) ? EIO : 0;
}

/// A file's content, and that it was created, with the folders above; a folder's entries.
int Disk::sync(Node& node) {
  if (const int error = begin(DiskCall::Sync)) return error;
  if (dies_here(false)) return EIO;
  if (keeps_pending_) {
    for (const Node::Change& change : node.pending) apply(change, node.durable);
    node.pending.clear();
    const Node* child = &node;
    for (auto born = born_.find(child); born != born_.end(); born = born_.find(child)) {
      const auto [folder, name] = born->second;
      const auto created = std::ranges::find_if(steps_, [&](const Step& step) {
        return step.node.get() == child && step.from_folder == nullptr;
      });
      if (created != steps_.end()) settle_name(*folder, name, created - steps_.begin());
      born_.erase(born);
      child = folder;
    }
    if (node.is_folder) {
      std::erase_if(steps_, [&](const Step& step) {
        const bool touches = step.folder.get() == &node || step.from_folder.get() == &node;
        if (touches) apply(step);
        return touches;
      });
    }
  }
  return dies_here(true) ? EIO : 0;
}

/// What became of a name up to a step, in order.
void Disk::settle_name(const Node& folder, const std::string& name, std::ptrdiff_t last) {
  std::vector<Step> others;
  for (std::ptrdiff_t i = 0; i < std::ssize(steps_); ++i) {
    Step& step = steps_[static_cast<std::size_t>(i)];
    const bool is_its = (step.folder.get() == &folder && step.name == name) ||
                        (step.from_folder.get() == &folder && step.from_name == name);
    if (i <= last && is_its) {
      apply(step);
    } else {
      others.push_back(std::move(step));
    }
  }
  steps_ = std::move(others);
}

void Disk::apply(const Step& step) {
  if (step.from_folder != nullptr) {
    const auto there = step.from_folder->durable_entries.find(step.from_name);
    if (there != step.from_folder->durable_entries.end() && there->second == step.node) {
      step.from_folder->durable_entries.erase(there);
    }
  }
  if (step.node == nullptr) {
    step.folder->durable_entries.erase(step.name);
  } else {
    step.folder->durable_entries[step.name] = step.node;
  }
}

int Disk::rename(std::string_view from, std::string_view to) {
  const auto [from_folder, from_name] = place(from);
  const auto [folder, name] = place(to);
  if (from_folder == nullptr || folder == nullptr) return ENOENT;
  const auto found = from_folder->entries.find(from_name);
  if (found == from_folder->entries.end()) return ENOENT;
  if (const int error = begin(DiskCall::Rename)) return error;
  if (dies_here(false)) return EIO;
  const NodePtr node = found->second;
  from_folder->entries.erase(found);
  folder->entries[name] = node;
  if (keeps_pending_) steps_.push_back({folder, name, node, from_folder, from_name});
  return dies_here(true) ? EIO : 0;
}

int Disk::unlink(std::string_view path) {
  const auto [folder, name] = place(path);
  if (folder == nullptr || !folder->entries.contains(name)) return ENOENT;
  if (const int error = begin(DiskCall::Unlink)) return error;
  if (dies_here(false)) return EIO;
  folder->entries.erase(name);
  if (keeps_pending_) steps_.push_back({folder, name, nullptr, nullptr, {}});
  return dies_here(true) ? EIO : 0;
}

void Disk::revive(bool lost_power) {
  is_dead_ = false;
  loses_power_ = false;
  if (lost_power && keeps_pending_) lose_power();
}

/// Folders' entries survive up to some moment, of a file's writes any, the last of them torn.
void Disk::lose_power() {
  const std::size_t kept = random_.below(steps_.size() + 1);
  for (std::size_t i = 0; i < kept; ++i) apply(steps_[i]);
  steps_.clear();
  born_.clear();
  settle(root_);
}

void Disk::settle(const NodePtr& node) {
  if (node->is_folder) {
    node->entries = node->durable_entries;
    for (const auto& [name, child] : node->entries) settle(child);
    return;
  }
  const bool keeps_order = random_.below(2) == 0;
  const std::size_t kept = random_.below(node->pending.size() + 1);
  for (std::size_t i = 0; i < node->pending.size(); ++i) {
    Node::Change& change = node->pending[i];
    if (keeps_order ? i > kept : random_.below(2) == 0) continue;
    const bool is_torn = keeps_order ? i == kept : random_.below(4) == 0;
    if (is_torn && !change.is_truncation && change.bytes.size() > kSector) {
      const std::size_t sectors = change.bytes.size() / kSector;
      change.bytes.resize(kSector * random_.below(sectors + 1));
    } else if (is_torn) {
      continue;
    }
    apply(change, node->durable);
  }
  node->pending.clear();
  if (node->data != node->durable) node->changed = ++num_changes_;
  node->data = node->durable;
}

void Disk::rot(std::string_view path, std::uint64_t bit) {
  const NodePtr node = find(path);
  if (node == nullptr || node->is_folder || node->data.empty()) return;
  const std::size_t byte = bit / 8 % node->data.size();
  node->data[byte] ^= static_cast<std::uint8_t>(1U << (bit % 8));
  if (byte < node->durable.size()) node->durable[byte] = node->data[byte];
  node->changed = ++num_changes_;
}

void Disk::list(const Node& folder, const std::string& prefix, std::vector<std::string>& files) {
  for (const auto& [name, node] : folder.entries) {
    if (node->is_folder) {
      list(*node, prefix + name + "/", files);
    } else {
      files.push_back(prefix + name);
    }
  }
}

std::vector<std::string> Disk::files() const {
  std::vector<std::string> files;
  list(*root_, "", files);
  return files;
}

Disks& Disks::instance() {
  static Disks disks;
  return disks;
}

Disk* Disks::find(std::string_view path, std::string_view& rest) const {
  constexpr std::string_view kRoot = "/chaos/";
  if (!path.starts_with(kRoot)) return nullptr;
  path.remove_prefix(kRoot.size());
  const std::size_t slash = std::min(path.find('/'), path.size());
  const auto found = disks_.find(path.substr(0, slash));
  if (found == disks_.end()) return nullptr;
  rest = path.substr(std::min(slash + 1, path.size()));
  while (rest.ends_with('/')) rest.remove_suffix(1);
  return found->second;
}

}  // namespace drystone::chaos
