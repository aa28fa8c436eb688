#pragma once
// One client of a simulation: a session as a deployed one has, and what stands for its machine.

#include <memory>
#include <string>
#include <utility>

#include "client/job.h"
#include "client/session.h"
#include "simulation/shared_versions.h"
#include "simulation/virtual_disk.h"
#include "training/workbench.h"
#include "wire/inproc_transport.h"

namespace drystone::simulation {

/// A base model as some of the clients hold it, and the versions on top of it.
struct Bench {
  Bench(training::WorkbenchConfig config, SharedVersions::FindPayload find_payload)
      : quantization(config.model.quantization),
        workbench(std::move(config)),
        versions(workbench.pristine(), std::move(find_payload)) {}

  std::string quantization;
  training::Workbench workbench;
  SharedVersions versions;
};

/// The arguments outlive it. One thread at a time, but for `bench` and `settings`.
struct VirtualClient {
  VirtualClient(Bench& own_bench, client::JobSettings job_settings,
                const crypto::Identity& identity, client::SessionSettings session_settings,
                client::Contract contract, wire::InprocHub& hub)
      : bench(own_bench),
        settings(std::move(job_settings)),
        session(std::move(session_settings), std::move(contract), identity,
                bench.versions.pristine()),
        disk(bench.versions, session.contract(), hub, session.contract().terms().evaluates),
        transport(hub.connect(settings.client)) {}

  Bench& bench;
  client::JobSettings settings;
  client::Session session;
  VirtualDisk disk;
  std::unique_ptr<wire::ClientTransport> transport;
  int num_jobs = 0;       ///< under way; the client must not go before
  bool has_task = false;  ///< of this round
};

}  // namespace drystone::simulation
