#include "core/devices.h"

#include <fstream>
#include <string>

#include <doctest/doctest.h>

#include "core/error.h"
#include "tests/temporary_folder.h"

using namespace drystone;
using namespace std::chrono_literals;

namespace {

std::filesystem::path written(const test::TemporaryFolder& folder, const std::string& text) {
  const auto file = folder / "devices.toml";
  std::ofstream(file) << text;
  return file;
}

std::string refusal(const std::string& text) {
  const test::TemporaryFolder folder;
  try {
    core::load_devices(written(folder, text));
  } catch (const core::ConfigError& error) {
    return error.what();
  }
  return "accepted";
}

constexpr const char* kPhone = "[[devices]]\nname = \"phone\"\ntokens_per_second = 50\n";

}  // namespace

TEST_CASE("devices: every key is read, with its unit") {
  const test::TemporaryFolder folder;
  const auto devices = core::load_devices(written(folder, std::string(kPhone) + R"(share = 3
memory = "2GB"
up = "1MB"
down = "500kB"
latency = "50ms"
watts = 4.5
failures = 0.25
available = ["22:30-06:00", "12:00-24:00"]
[[devices]]
name = "server"
tokens_per_second = 1e4
)"));
  REQUIRE(devices.size() == 2);
  const core::Device phone{.name = "phone",
                           .share = 3.0,
                           .tokens_per_second = 50.0,
                           .memory = 2'000'000'000,
                           .up = 1'000'000,
                           .down = 500'000,
                           .latency = 50ms,
                           .watts = 4.5,
                           .failures = 0.25,
                           .available = {{22h + 30min, 6h}, {12h, 24h}}};
  CHECK(devices[0] == phone);
  CHECK(devices[1] == core::Device{.name = "server", .tokens_per_second = 1e4});
}

TEST_CASE("devices: what is wrong is named with its line") {
  const std::string phone = kPhone;
  CHECK(refusal("") != "accepted");
  CHECK(refusal("[[devices]]\ntokens_per_second = 1\n").find("name") != std::string::npos);
  CHECK(refusal("[[devices]]\nname = \"a\"\n").find("tokens_per_second") != std::string::npos);
  CHECK(refusal(phone + phone).find("twice") != std::string::npos);
  CHECK(refusal(phone + "speed = 2\n").find(":4: devices.0.speed") != std::string::npos);
  for (const char* line :
       {"share = -1", "tokens_per_second = 0", "failures = 1", "watts = nan", "memory = \"big\"",
        "latency = 3", "available = [\"6-7\"]", "available = [\"06:00-06:00\"]",
        "available = [\"25:00-06:00\"]", "available = [\"24:30-06:00\"]",
        "available = [\"06:60-07:00\"]", "available = \"always\""}) {
    CAPTURE(line);
    std::string text = phone;
    if (std::string(line).starts_with("tokens")) text = "[[devices]]\nname = \"phone\"\n";
    CHECK(refusal(text + line + "\n").find("devices.toml:") != std::string::npos);
  }
}

TEST_CASE("devices: those of examples/ are read") {
  for (const char* name : {"phones", "offices", "hospitals"}) {
    CHECK(core::load_devices(DRYSTONE_SOURCE_DIR "/examples/devices/" + std::string(name) + ".toml")
              .size() == 3);
  }
}
