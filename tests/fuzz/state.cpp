// Fuzz target: the coordinator's state.sqlite. What opens can be read to its end.

#include "coordinator/store.h"
#include "core/error.h"
#include "core/files.h"
#include "tests/fuzz/fuzz_target.h"
#include "tests/temporary_folder.h"
#include "tests/wire/samples.h"

using namespace drystone;

namespace {

const test::TemporaryFolder& folder() {
  static const test::TemporaryFolder instance;
  return instance;
}

void remove_state() {
  for (const char* name : {"state.sqlite", "state.sqlite-wal", "state.sqlite-shm"}) {
    std::filesystem::remove(folder() / name);
  }
}

void read_all(const coordinator::Store& store) {
  store.federation();
  const coordinator::MachineState state = store.load();
  store.versions(0, 100);
  store.rounds();
  store.evaluations();
  store.updates(state.version);
  store.state_hash();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  remove_state();
  folder().write("state.sqlite", std::string(core::as_text({data, size})));
  try {
    read_all(coordinator::Store(folder().path()));
  } catch (const core::Error&) {
  }
  return 0;
}

namespace drystone::test {

std::vector<core::Bytes> seed_inputs(std::uint64_t seed) {
  core::SplitMix64 random(seed);
  remove_state();
  {
    coordinator::Store store(folder().path(),
                             {.federation = std::string(64, '0'), .coordinator = {}});
    const wire::VersionManifest version = sample_version(random);
    store.publish(version, {wire::encode(version), {}}, {});
    const wire::RoundPlan plan = sample_plan(random);
    store.save_plan(plan, {wire::encode(plan), {}});
    coordinator::StoredUpdate update;
    update.update.client = "c";
    update.update.manifest = wire::encode(sample_update(random));
    store.save_update(plan.round, plan.attempt, update);
  }
  return {core::read_file(folder() / "state.sqlite", 1 << 24)};
}

}  // namespace drystone::test
