#include <doctest/doctest.h>

#include "core/client_list.h"
#include "tests/coordinator/harness.h"

using namespace drystone;
using namespace drystone::test;

namespace {

/// The first plan of a federation whose configuration lists client-1 alone of its two clients.
wire::RoundPlan first_plan(Federation& federation) {
  federation.start_with({"client-1", "client-2"});
  return wire::decode_plan(federation.next<wire::Task>("client-1").value().plan.bytes).value();
}

}  // namespace

TEST_CASE("client settings: a plan names those of its cohort, zeros for who is not listed") {
  const TemporaryFolder dir;
  Federation federation(dir.path());
  const auto listed = core::list_clients(federation.config());
  REQUIRE(listed.size() == 1);
  REQUIRE(listed.front().name == "client-1");
  const std::string text = core::settings_text(federation.config(), listed.front());
  const auto plan = first_plan(federation);
  REQUIRE(plan.cohort == std::vector<std::string>{"client-1", "client-2"});
  REQUIRE(plan.settings.size() == 2);
  CHECK(plan.settings[0] == crypto::sha256(core::as_bytes(text)));
  CHECK(plan.settings[1] == core::Digest{});
}

TEST_CASE("client settings: where the roster leaves each its own, a plan says nothing of them") {
  const TemporaryFolder dir;
  Federation federation(dir.path());
  federation.roster().clients.at("client-1").has_own_settings = true;
  CHECK(first_plan(federation).settings.empty());
}
