#include "models/device.h"

#include <string>

#include <ATen/Context.h>
#include <doctest/doctest.h>

#include "core/error.h"

using drystone::core::ConfigError;
using drystone::models::parse_device;

TEST_CASE("parse_device: cpu, and auto where there is no other") {
  CHECK(parse_device("cpu").is_cpu());
  CHECK(parse_device("auto").is_cuda() == at::hasCUDA());
}

TEST_CASE("parse_device: cuda where there is a device, else an error that says what it needs") {
  if (at::hasCUDA()) {
    CHECK(parse_device("cuda").index() == 0);
    CHECK(parse_device("cuda:0").index() == 0);
    CHECK_THROWS_AS(parse_device("cuda:120"), ConfigError);
    return;
  }
  CHECK_THROWS_AS(parse_device("cuda:0"), ConfigError);
  try {
    parse_device("cuda");
  } catch (const ConfigError& error) {
    CHECK(std::string(error.what()).find("give cpu or auto") != std::string::npos);
  }
}

TEST_CASE("parse_device: other words are refused") {
  for (const char* const word :
       {"", "gpu", "cuda:", "cuda:-1", "cuda:1x", "cuda1", "CPU", "cuda:999999999999"}) {
    CAPTURE(word);
    CHECK_THROWS_AS(parse_device(word), ConfigError);
  }
}
