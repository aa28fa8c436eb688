// drystone tokenize: lines in, lists of ids out, and back.

#include <doctest/doctest.h>

#include "tests/programs/process.h"
#include "tests/temporary_folder.h"

using namespace drystone;
using test::Process;

namespace {

constexpr const char* kTokenizer = R"({"model": {"type": "WordLevel", "unk_token": "?",
    "vocab": {"?": 0, "the": 1, "cat": 2}}, "pre_tokenizer": {"type": "WhitespaceSplit"}})";

}  // namespace

TEST_CASE("programs: tokenize and its inverse") {
  const test::TemporaryFolder folder;
  const auto path = [&folder](const char* name) { return folder.path() / name; };
  std::ofstream(path("tokenizer.json")) << kTokenizer;
  std::ofstream(path("text")) << "the cat\n\ncat dog\n";
  Process encode("drystone", {"tokenize", "--model", folder.path()}, path("ids"), path("text"));
  CHECK(encode.wait() == 0);
  CHECK(encode.output() == "[1, 2]\n[]\n[2, 0]\n");
  Process decode("drystone", {"tokenize", "--model", folder.path(), "--decode"}, path("back"),
                 path("ids"));
  CHECK(decode.wait() == 0);
  CHECK(decode.output() == "the cat\n\ncat ?\n");
  Process wrong("drystone", {"tokenize", "--model", folder.path(), "--decode"}, path("wrong"),
                path("text"));
  CHECK(wrong.wait() == 1);
  CHECK(wrong.output().find("line 1: not a list of token ids") != std::string::npos);
}
