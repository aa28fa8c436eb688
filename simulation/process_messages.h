#pragma once
// What the processes of one simulation tell each other. They are one program that trusts itself:
// nothing is signed but what was signed before, and what cannot be read ends the run.

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "client/client_memory.h"
#include "client/job.h"
#include "wire/messages.h"

namespace drystone::simulation {

// ---- from process 0 -------------------------------------------------------------------------

/// A published version; goes on to others from process to process.
struct PublishedVersion {
  wire::Signed manifest;
  core::Bytes payload;
};
/// A client of a slot.
struct ClientOrder {
  std::string client;
  std::optional<client::ClientMemory::Kept> memory = {};  ///< of the newest round before
};
/// Trains the clients of a slot from the plan's base version, which may still be on its way.
struct SlotOrder {
  std::uint64_t slot = 0;
  bool together = false;  ///< as a group, even of one
  wire::RoundPlan plan;   ///< without cohort and settings
  std::uint64_t rounds = 0;
  std::vector<ClientOrder> clients;
};

// ---- to process 0 ---------------------------------------------------------------------------

/// What has to be the same in all processes, and how many trainings this one does at a time.
struct Ready {
  std::string host;
  std::string software;
  std::string base_sha256;
  std::string data_sha256;
  std::string federation;
  std::string device;     ///< "cpu", "cuda"
  std::string processor;  ///< may differ, and with it the last bits
  std::uint64_t num_workers = 0;
};
/// Of one client; neither update nor failure: the training was stopped.
struct ClientAnswer {
  std::optional<client::Update> update = {};
  std::string failure = {};
  std::optional<client::ClientMemory::Kept> memory = {};  ///< what the training left
};
struct SlotAnswer {
  std::uint64_t slot = 0;
  std::vector<ClientAnswer> clients;  ///< in the order's order
};
/// This process cannot go on.
struct Trouble {
  std::string host;
  std::string reason;
};

using ProcessMessage = std::variant<PublishedVersion, SlotOrder, Ready, SlotAnswer, Trouble>;

std::shared_ptr<const core::Bytes> encode(const ProcessMessage& message);
/// Allocates no more than the bytes at hand say. @throws core::Error  they are no such message
ProcessMessage decode_process_message(core::ByteView bytes);

}  // namespace drystone::simulation
