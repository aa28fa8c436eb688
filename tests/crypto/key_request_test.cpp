#include "crypto/key_request.h"

#include <doctest/doctest.h>

#include "core/error.h"
#include "core/files.h"
#include "tests/temporary_folder.h"

using namespace drystone;

namespace {

crypto::Identity identity(const std::string& name, const std::string& seed = "requests") {
  return crypto::derive_identity(name, core::as_bytes(seed));
}

std::string replaced(std::string text, const std::string& from, const std::string& to) {
  return text.replace(text.find(from), from.size(), to);
}

void check_refused(const test::TemporaryFolder& folder, const std::string& text,
                   const std::string& complaint) {
  CAPTURE(text);
  const auto file = folder.write("hostile.request", text);
  try {
    crypto::load_request(file);
    FAIL("accepted");
  } catch (const core::Error& error) {
    CHECK_MESSAGE(std::string(error.what()).find(complaint) != std::string::npos, error.what());
  }
}

}  // namespace

TEST_CASE("key request: says whose keys they are, and which key they replace") {
  const test::TemporaryFolder folder;
  const crypto::Identity own = identity("client-5");
  crypto::save_request(own, nullptr, folder / "a.request");
  const crypto::KeyRequest request = crypto::load_request(folder / "a.request");
  CHECK(request.identity.name == "client-5");
  CHECK(request.identity.curve == own.public_part.curve);
  CHECK(request.identity.signing == own.public_part.signing);
  CHECK_FALSE(request.replaces.has_value());

  const crypto::Identity renewed = identity("client-5", "renewed");
  crypto::save_request(renewed, &own, folder / "b.request");
  const crypto::KeyRequest renewal = crypto::load_request(folder / "b.request");
  CHECK(renewal.identity.signing == renewed.public_part.signing);
  CHECK(renewal.replaces == own.public_part.signing);
}

TEST_CASE("key request: anything edited is refused, with the line and the remedy") {
  const test::TemporaryFolder folder;
  const crypto::Identity own = identity("client-5");
  const crypto::Identity renewed = identity("client-5", "renewed");
  crypto::save_request(renewed, &own, folder / "a.request");
  const std::string text = core::read_text_file(folder / "a.request", 1 << 20);
  const auto hex = [](const auto& bytes) { return core::to_hex(bytes); };
  const std::string other = hex(identity("other").public_part.signing);
  check_refused(folder, replaced(text, "client-5", "client-6"), "signature: does not verify");
  check_refused(folder, replaced(text, hex(renewed.public_part.curve), other),
                "signature: does not verify");
  check_refused(folder, replaced(text, hex(renewed.public_part.signing), other),
                "signature: does not verify");
  check_refused(folder, replaced(text, hex(own.public_part.signing), other),
                "signature: does not verify");
  check_refused(folder, replaced(text, "client-5", "../etc"), "name: use 1 to 128");
  check_refused(folder, replaced(text, "curve", "curwe"), "curwe: unknown key");
  check_refused(folder, text.substr(0, text.find("consent")), "consent: missing");
  check_refused(folder, text.substr(0, text.size() / 2), ".request:");
  check_refused(folder, "", "this is no request");
  check_refused(folder, text + "# " + std::string(5000, 'x'), "hostile.request");
}

TEST_CASE("key request: who replaces a key must own it") {
  const test::TemporaryFolder folder;
  const crypto::Identity own = identity("client-5");
  const crypto::Identity thief = identity("client-5", "thief");
  crypto::save_request(thief, &thief, folder / "a.request");
  std::string text = core::read_text_file(folder / "a.request", 1 << 20);
  const std::string replaces = "replaces = \"" + core::to_hex(thief.public_part.signing);
  const std::string victim = "replaces = \"" + core::to_hex(own.public_part.signing);
  check_refused(folder, replaced(text, replaces, victim), "does not verify");
}

TEST_CASE("key request: fingerprints tell keys apart, and not names") {
  const crypto::PublicIdentity a = identity("a").public_part;
  crypto::PublicIdentity renamed = a;
  renamed.name = "b";
  CHECK(crypto::fingerprint(a) == crypto::fingerprint(renamed));
  CHECK(crypto::fingerprint(a).size() == 39);
  for (crypto::PublicKey* key : {&renamed.curve, &renamed.signing}) {
    ++key->front();
    CHECK(crypto::fingerprint(a) != crypto::fingerprint(renamed));
    --key->front();
  }
}
