#include "core/option_checks.h"

#include <doctest/doctest.h>

using namespace drystone;

TEST_CASE("option checks: numbers are told what they may be") {
  const core::OptionCheck count = core::whole_number({.low = 1});
  for (const std::string good : {"1", "9223372036854775807"}) CHECK(count(good).empty());
  for (const std::string bad :
       {"abc", "-1", "0", "1e99", "1.5", "", " 1", "0x10", "9223372036854775808"}) {
    CHECK(count(bad) == "\"" + bad + "\" is no whole number >= 1");
  }
  CHECK(core::whole_number({2, 8})("9") == "\"9\" is no whole number from 2 to 8");

  const core::OptionCheck share = core::real_number({.high = 1.0, .open_low = true});
  for (const std::string good : {"1", "0.5", "1e-3"}) CHECK(share(good).empty());
  for (const std::string bad : {"abc", "-1", "0", "1e99", "1e999", "nan", "inf", "", "0.5x"}) {
    CHECK(share(bad) == "\"" + bad + "\" is no number > 0.0 and <= 1.0");
  }
  CHECK(core::real_number({})("inf") == "\"inf\" is no number >= 0.0");
}

TEST_CASE("option checks: choices, sizes and durations") {
  CHECK(core::one_of({"peft", "gguf"})("peft").empty());
  CHECK(core::one_of({"peft", "gguf"})("gguff") ==
        "\"gguff\" is not supported; did you mean \"gguf\"? supported: peft, gguf");
  CHECK(core::one_of({"peft", "gguf"})("PEFT").starts_with(
      "\"PEFT\" is not supported; did you mean \"peft\"? "));
  for (const std::string good : {"1", "3GB", "10KB", "1.5 MiB"}) CHECK(core::size()(good).empty());
  for (const std::string bad : {"abc", "-1", "1e99", "", "5 gigabytes"}) {
    CHECK(core::size()(bad).starts_with("\"" + bad + "\" is no size; give a number of B, kB, "));
  }
  const core::OptionCheck prior =
      core::either(core::one_of({"evidence"}), core::real_number({.open_low = true}));
  for (const std::string good : {"evidence", "0.5"}) CHECK(prior(good).empty());
  CHECK(prior("0") == "\"0\" is not supported; supported: evidence, and \"0\" is no number > 0.0");
  for (const std::string good : {"1h", "1.5min", "never"}) CHECK(core::patience()(good).empty());
  for (const std::string bad : {"abc", "-1", "1e99", "", "5"}) {
    CHECK(core::patience()(bad).starts_with("\"" + bad + "\" is no duration; give a positive "));
  }
}
