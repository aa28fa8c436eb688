#include "coordinator/uploads.h"

#include <algorithm>
#include <utility>
#include <vector>

#include "core/error.h"
#include "core/log.h"

namespace drystone::coordinator {

using core::Refusal;

Uploads::Uploads(Store& store, const Gate& gate, wire::ServerTransport& transport,
                 core::Executor& executor, bool keep_updates, Hooks hooks)
    : store_(store),
      gate_(gate),
      transport_(transport),
      executor_(executor),
      keep_updates_(keep_updates),
      hooks_(std::move(hooks)) {}

void Uploads::take(Upload upload) {
  const std::string client = upload.manifest.client;
  const auto found = uploads_.find(client);
  if (found != uploads_.end() && found->second.is_judged) return;
  if (found != uploads_.end()) {
    Transfer& transfer = found->second;
    const wire::UpdateManifest& earlier = transfer.upload.manifest;
    const bool goes_on = transfer.receiver && earlier.payload == upload.manifest.payload &&
                         earlier.payload_bytes == upload.manifest.payload_bytes;
    if (goes_on) {
      transfer.receiver->reset_window();  // what was asked for may be lost, or still arrive
      transfer.asked_before = last_asked_[client].end;
      transfer.upload = std::move(upload);
      return ask_for_more(client);
    }
    const core::Digest payload = earlier.payload;
    uploads_.erase(found);
    release(payload);
    begin_waiting(payload);
  }
  uploads_.emplace(client, Transfer{.upload = std::move(upload), .receiver = {}});
  begin(client);
}

void Uploads::begin(const std::string& client) {
  try {
    fetch(client);
  } catch (const std::exception& error) {
    reject(client, hooks_.own_trouble(client, error));
  }
}

void Uploads::fetch(const std::string& client) {
  Transfer& transfer = uploads_.at(client);
  const core::Digest& payload = transfer.upload.manifest.payload;
  const std::uint64_t claimed = transfer.upload.manifest.payload_bytes;
  if (store_.blobs().contains(payload)) {
    if (store_.blobs().size(payload) == claimed) return check(client);
    return reject(client, {Refusal::PayloadMismatch, "claims " + std::to_string(claimed) +
                                                         " bytes for a payload of another size"});
  }
  const bool is_on_its_way = std::ranges::any_of(uploads_, [&](const auto& entry) {
    return entry.second.receiver && entry.second.upload.manifest.payload == payload;
  });
  if (is_on_its_way) return;
  transfer.receiver.emplace(store_.blobs(), payload, claimed);
  Asked& asked = last_asked_[client];
  if (asked.payload != payload) asked = {.payload = payload};
  transfer.asked_before = asked.end;
  ask_for_more(client);
}

// Those who waited for another client's transfer of `payload`, which has ended.
void Uploads::begin_waiting(const core::Digest& payload) {
  std::vector<std::string> waiting;
  for (const auto& [client, transfer] : uploads_) {
    const bool waits = !transfer.receiver && !transfer.is_judged;
    if (waits && transfer.upload.manifest.payload == payload) waiting.push_back(client);
  }
  for (const std::string& client : waiting) {
    if (uploads_.contains(client)) begin(client);
  }
}

void Uploads::ask_for_more(const std::string& client) {
  wire::BlobReceiver& receiver = *uploads_.at(client).receiver;
  if (receiver.is_complete()) return check(client);
  std::uint64_t& end = last_asked_[client].end;
  for (wire::Want& want : receiver.next_wants()) {
    end = std::max(end, want.offset + want.length);
    transport_.send(client, want);
  }
}

core::Expected<void> Uploads::take(const std::string& client, const wire::Chunk& chunk) {
  const auto found = uploads_.find(client);
  if (found == uploads_.end()) {
    // On its way when the upload ended, or an earlier life of this coordinator: no fault of anyone.
    const auto asked = last_asked_.find(client);
    if (asked == last_asked_.end() || asked->second.payload == chunk.blob) return {};
    return core::refuse(Refusal::MalformedFrame, "a chunk that was not asked for");
  }
  Transfer& transfer = found->second;
  if (!transfer.receiver || chunk.blob != transfer.upload.manifest.payload) return {};
  const std::uint64_t next = transfer.receiver->num_received();
  const bool is_stale =
      chunk.offset < next || (chunk.offset > next && chunk.offset < transfer.asked_before);
  if (is_stale) return {};  // asked for twice: around a reconnect, or by a transfer that ended
  try {
    const auto taken = transfer.receiver->accept(chunk);
    if (taken) {
      ask_for_more(client);
    } else {
      reject(client, taken.error());
    }
  } catch (const core::IoError& error) {
    reject(client, hooks_.own_trouble(client, error));
  }
  return {};
}

void Uploads::check(const std::string& client) {
  Transfer& transfer = uploads_.at(client);
  transfer.receiver.reset();
  transfer.is_judged = true;
  const core::Digest payload = transfer.upload.manifest.payload;
  ++being_checked_[payload];
  executor_.post([this, client, payload, max_rank = gate_.max_rank(client),
                  path = store_.blobs().path(payload)] {
    PayloadVerdict verdict;
    std::string trouble;
    try {
      verdict = gate_.check_payload(max_rank, path);
    } catch (const std::exception& error) {
      trouble = error.what();
    }
    return [this, client, payload, verdict, trouble] {
      if (--being_checked_[payload] == 0) being_checked_.erase(payload);
      const auto found = uploads_.find(client);
      const bool is_current = found != uploads_.end() && found->second.is_judged &&
                              found->second.upload.manifest.payload == payload;
      if (!is_current) return release(payload);  // the round closed meanwhile
      if (trouble.empty()) return judge(client, verdict);
      reject(client, hooks_.own_trouble(client, core::IoError(trouble)));
    };
  });
  begin_waiting(payload);
}

void Uploads::judge(const std::string& client, const PayloadVerdict& verdict) {
  if (!verdict) return reject(client, verdict.error());
  uploads_.at(client).upload.norms = *verdict;
  try {
    hooks_.accept(uploads_.at(client).upload);
  } catch (const std::exception& error) {
    return reject(client, hooks_.own_trouble(client, error));
  }
  hooks_.accepted(uploads_.extract(client).mapped().upload);
}

void Uploads::reject(const std::string& client, const core::Failure& failure) {
  auto node = uploads_.extract(client);
  if (node.empty()) return;
  const Upload upload = std::move(node.mapped().upload);
  node = {};  // its receiver holds the partial file
  release(upload.manifest.payload);
  begin_waiting(upload.manifest.payload);
  hooks_.rejected(upload, failure);
}

void Uploads::drop(const std::string& client) {
  auto node = uploads_.extract(client);
  if (node.empty()) return;
  const core::Digest payload = node.mapped().upload.manifest.payload;
  node = {};  // its receiver holds the partial file
  release(payload);
  begin_waiting(payload);
}

std::vector<std::string> Uploads::drop() {
  const auto dropped = std::exchange(uploads_, {});
  std::vector<std::string> clients;
  for (const auto& [client, transfer] : dropped) {
    clients.push_back(client);
    if (!transfer.receiver) release(transfer.upload.manifest.payload);
  }
  return clients;
}

void Uploads::release(const core::Digest& payload) {
  const bool is_uploaded = std::ranges::any_of(
      uploads_, [&](const auto& entry) { return entry.second.upload.manifest.payload == payload; });
  if (is_uploaded || being_checked_.contains(payload)) return;
  try {
    if (store_.needs(payload, keep_updates_)) return;
    store_.blobs().remove(payload);
  } catch (const core::IoError& error) {  // the next start sweeps it
    core::log_warning("a payload that nobody needs stays", {{"reason", error.what()}});
  }
}

}  // namespace drystone::coordinator
