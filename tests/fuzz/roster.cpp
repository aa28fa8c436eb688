// Fuzz target: roster.toml. What loads can be saved and loads again.

#include "crypto/roster.h"

#include "core/error.h"
#include "core/files.h"
#include "core/seed.h"
#include "tests/fuzz/fuzz_target.h"
#include "tests/temporary_folder.h"

using namespace drystone;

namespace {

const test::TemporaryFolder& folder() {
  static const test::TemporaryFolder instance;
  return instance;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const auto file = folder().write("roster.toml", std::string(core::as_text({data, size})));
  crypto::Roster roster;
  try {
    roster = crypto::load_roster(file);
  } catch (const core::ConfigError&) {
    return 0;
  }
  crypto::save_roster(roster, folder() / "again.toml");
  if (crypto::load_roster(folder() / "again.toml").clients.size() != roster.clients.size()) {
    std::abort();
  }
  return 0;
}

namespace drystone::test {

std::vector<core::Bytes> seed_inputs(std::uint64_t seed) {
  core::SplitMix64 random(seed);
  crypto::Roster roster;
  for (std::uint64_t i = 0; i <= random.below(3); ++i) {
    crypto::RosterEntry& entry = roster.clients["client-" + std::to_string(i)];
    for (auto* key : {&entry.identity.signing, &entry.identity.curve}) {
      for (std::uint8_t& byte : *key) byte = static_cast<std::uint8_t>(random());
    }
    entry.role = random.below(2) == 0 ? crypto::Role::Train : crypto::Role::Evaluate;
    entry.max_rank = static_cast<std::int64_t>(random.below(64));
  }
  crypto::save_roster(roster, folder() / "seed.toml");
  return {core::read_file(folder() / "seed.toml", 1 << 20)};
}

}  // namespace drystone::test
