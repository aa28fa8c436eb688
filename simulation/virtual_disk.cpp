#include "simulation/virtual_disk.h"

#include <algorithm>
#include <utility>

#include "core/check.h"
#include "crypto/hash.h"
#include "wire/limits.h"

namespace drystone::simulation {

using client::DiskResult;

DiskResult VirtualDisk::run(client::DiskJob job) {
  return std::visit([this](auto& j) { return run(j); }, job);
}

DiskResult VirtualDisk::run(client::SeekJob& job) {
  hub_.count_sent(job.bytes);
  return client::Received{.is_whole = true};
}

DiskResult VirtualDisk::run(client::ReceiveJob& /*job*/) {
  core::ensure(false, "simulation: a payload arrives that was not asked for");
  return client::Written{};
}

DiskResult VirtualDisk::run(client::FoldJob& job) {
  if (keeps_states_) return client::Folded{versions_.fold(*job.state, job.manifest, contract_)};
  versions_.follow(job.manifest, contract_);
  return client::Folded{versions_.pristine()};
}

DiskResult VirtualDisk::run(client::CheckUpdateJob& job) {
  return client::UpdateChecked{update_ && update_->digest == job.payload};
}

DiskResult VirtualDisk::run(client::ReadJob& job) {
  const wire::Want& want = job.want;
  const bool is_there = update_ && update_->digest == want.blob;
  const std::uint64_t size = is_there ? update_->payload.size() : 0;
  if (!is_there || want.offset >= size) {
    return client::PieceRead{wire::Refused{core::Refusal::PayloadMismatch, "no such update"}};
  }
  const std::uint64_t length = std::min({want.length, wire::kMaxChunkBytes, size - want.offset});
  const auto begin = update_->payload.begin() + static_cast<std::ptrdiff_t>(want.offset);
  return client::PieceRead{wire::Chunk{
      want.blob, want.offset, core::Bytes(begin, begin + static_cast<std::ptrdiff_t>(length))}};
}

DiskResult VirtualDisk::run(client::StoreUpdateJob& job) {
  update_ = StoredUpdate{crypto::sha256(job.payload), std::move(job.payload)};
  return client::Written{};
}

DiskResult VirtualDisk::run(client::SaveContractJob& /*job*/) { return client::Written{}; }

DiskResult VirtualDisk::run(client::RemoveJob& job) {
  if (update_ && update_->digest == job.payload) update_.reset();
  return client::Written{};
}

DiskResult VirtualDisk::run(client::SweepJob& /*job*/) { return client::Written{}; }

}  // namespace drystone::simulation
