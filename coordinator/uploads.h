#pragma once
// Updates on their way: from an offer that passed the gate to the verdict on its payload.

#include <functional>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "coordinator/gate.h"
#include "coordinator/store.h"
#include "core/executor.h"
#include "wire/blob_transfer.h"
#include "wire/transport.h"

namespace drystone::coordinator {

struct Upload {
  wire::UpdateManifest manifest;
  wire::Signed offer;
  double seconds = 0.0;                                ///< the client's own figure, unsigned
  std::optional<aggregation::UpdateNorms> norms = {};  ///< once the payload passed the gate
};

/// At most one upload a client and one transfer a payload: two receivers must not write to one
/// partial file. Not thread-safe; payloads are checked by the executor.
class Uploads {
 public:
  struct Hooks {
    /// The payload passed: makes the update durable. @throws core::IoError  rejected after all
    std::function<void(const Upload&)> accept;
    /// The update is durable, and no longer an upload.
    std::function<void(const Upload&)> accepted;
    /// Nothing of the upload is left.
    std::function<void(const Upload&, const core::Failure&)> rejected;
    /// What the client is told of trouble that is not its own.
    std::function<core::Failure(const std::string& client, const std::exception&)> own_trouble;
  };

  /// All outlive the uploads, and so do the tasks that these post. @param keep_updates  output's
  Uploads(Store& store, const Gate& gate, wire::ServerTransport& transport,
          core::Executor& executor, bool keep_updates, Hooks hooks);

  bool contains(const std::string& client) const { return uploads_.contains(client); }
  /// Takes the place of the client's earlier upload, unless that one's verdict is on its way. The
  /// same payload again (after a reconnect) goes on where it stopped.
  void take(Upload upload);
  /// A part of a payload. Refuses one that was never asked for; late ones are nobody's fault.
  core::Expected<void> take(const std::string& client, const wire::Chunk& chunk);
  /// Forgets every upload; of an abandoned round the beginnings of payloads stay, so that the next
  /// attempt takes them up. @return  whose they were
  std::vector<std::string> drop();
  /// Forgets one client's upload and what came of it.
  void drop(const std::string& client);
  /// Deletes a payload unless an upload, an accepted update or a version is made of the same bytes.
  /// One that is being checked comes back here afterwards.
  void release(const core::Digest& payload);

 private:
  struct Transfer {
    Upload upload;
    /// Empty while another client sends the very same bytes, and once they are in the store.
    std::optional<wire::BlobReceiver> receiver;
    bool is_judged = false;  ///< the payload is here and its check is under way
    /// End of what an earlier transfer asked for: chunks of it may still arrive.
    std::uint64_t asked_before = 0;
  };
  struct Asked {
    core::Digest payload{};
    std::uint64_t end = 0;
  };

  void begin(const std::string& client);
  void fetch(const std::string& client);
  void begin_waiting(const core::Digest& payload);
  void ask_for_more(const std::string& client);
  void check(const std::string& client);
  void judge(const std::string& client, const PayloadVerdict& verdict);
  void reject(const std::string& client, const core::Failure& failure);

  Store& store_;
  const Gate& gate_;
  wire::ServerTransport& transport_;
  core::Executor& executor_;
  const bool keep_updates_;
  const Hooks hooks_;
  std::map<std::string, Transfer> uploads_;            ///< by client
  std::map<std::string, Asked> last_asked_;            ///< by client
  std::map<core::Digest, std::size_t> being_checked_;  ///< checks under way, by payload
};

}  // namespace drystone::coordinator
