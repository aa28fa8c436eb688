#include "client/disk.h"

#include <string>
#include <utility>

#include "client/fold.h"
#include "core/temporary_files.h"

namespace drystone::client {

Disk::Disk(DiskSettings settings, const Contract& contract)
    : settings_(std::move(settings)),
      layout_(*contract.terms().layout),
      max_rank_(contract.max_rank()),
      blobs_(settings_.blobs),
      storage_(blobs_, contract.max_storage()) {
  core::sweep_temporaries(settings_.contract.parent_path());
}

DiskResult Disk::run(const DiskJob& job) {
  return std::visit([this](const auto& j) { return run(j); }, job);
}

DiskResult Disk::run(const SeekJob& job) {
  if (download_) {
    download_->reset_window();
  } else {
    if (storage_.holds(job.payload, job.bytes)) return Received{.is_whole = true};
    storage_.make_room(job.payload, job.bytes);
    download_.emplace(blobs_, job.payload, job.bytes);
  }
  return received();
}

DiskResult Disk::run(const ReceiveJob& job) {
  // What is there already was asked for twice, around a reconnect.
  if (job.chunk.offset >= download_->num_received()) {
    if (const auto accepted = download_->accept(job.chunk); !accepted) {
      download_.reset();
      return Received{.damage = accepted.error().detail};
    }
  }
  return received();
}

Received Disk::received() {
  if (!download_->is_complete()) return {.wants = download_->next_wants()};
  download_.reset();
  return {.is_whole = true};
}

DiskResult Disk::run(const FoldJob& job) {
  const std::filesystem::path payload = blobs_.path(job.manifest.payload);
  Folded folded{fold(*job.state, job.manifest, payload, layout_, max_rank_)};
  storage_.release(job.manifest.payload);
  return folded;
}

DiskResult Disk::run(const CheckUpdateJob& job) {
  return UpdateChecked{storage_.holds(job.payload, job.bytes)};
}

DiskResult Disk::run(const ReadJob& job) {
  auto chunk = wire::answer(blobs_, job.want);
  if (chunk) return PieceRead{std::move(*chunk)};
  return PieceRead{wire::Refused{chunk.error().code, chunk.error().detail}};
}

DiskResult Disk::run(const StoreUpdateJob& job) {
  blobs_.put(job.payload);
  return Written{};
}

DiskResult Disk::run(const SaveContractJob& job) {
  write_contract(settings_.contract, job.text);
  return Written{};
}

DiskResult Disk::run(const RemoveJob& job) {
  blobs_.remove(job.payload);
  return Written{};
}

DiskResult Disk::run(const SweepJob& job) {
  storage_.sweep(job.needed);
  return Written{};
}

}  // namespace drystone::client
