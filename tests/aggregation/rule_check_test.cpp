#include "aggregation/rule_check.h"

#include <string>

#include <doctest/doctest.h>

#include "core/error.h"
#include "tests/temporary_folder.h"

namespace drystone::aggregation {
namespace {

std::string message_of(const std::string& toml) {
  const test::TemporaryFolder folder;
  const core::Config config = core::load_config(folder.write("bad.toml", toml));
  try {
    check_rule(config);
  } catch (const core::ConfigError& error) {
    const std::string message = error.what();
    return message.substr(message.find("bad.toml"));
  }
  return "accepted";
}

TEST_CASE("check_rule: an unknown name is refused with those that exist") {
  CHECK(message_of("[aggregation]\nrule = \"florra\"") ==
        R"(bad.toml:2: aggregation.rule: "florra" is not supported; did you mean "flora"? )"
        R"(supported: flora, fedit, zero-pad)");
}

TEST_CASE("check_rule: a rule of one rank needs it of all clients") {
  CHECK(
      message_of("[aggregation]\nrule = \"fedit\"\n"
                 "[[clients]]\nrank = 64\n[[clients]]\nrank = 8") ==
      R"(bad.toml:2: aggregation.rule: "fedit" averages factors of one rank, but [[clients]] has )"
      R"(the ranks 8, 64; use rule = "zero-pad" or "flora")");
  CHECK(message_of("[aggregation]\nrule = \"fedit\"\n[[clients]]\nrank = 8\n[[clients]]") ==
        "accepted");
}

TEST_CASE("check_rule: what is averaged has the same modules everywhere") {
  const std::string clients = "[[clients]]\ntarget_modules = [\"query\"]\n[[clients]]";
  CHECK(message_of("[aggregation]\nrule = \"zero-pad\"\n" + clients) ==
        R"(bad.toml:2: aggregation.rule: "zero-pad" averages factors module by module, but )"
        R"([[clients]] have different target_modules; give all the same, or use rule = "flora")");
  CHECK(message_of("[aggregation]\nrule = \"flora\"\n" + clients) == "accepted");
}

}  // namespace
}  // namespace drystone::aggregation
