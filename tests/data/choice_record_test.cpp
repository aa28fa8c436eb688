#include "data/choice_record.h"

#include <algorithm>

#include <doctest/doctest.h>

#include "core/error.h"
#include "tests/text/files.h"

using namespace drystone::data;
using drystone::core::ConfigError;
using drystone::test::contains;
using drystone::test::message_of;
using drystone::test::TemporaryFolder;
using drystone::test::write_file;
using Texts = std::vector<std::string>;

namespace {

std::vector<ChoiceRecord> read(const std::string& content, const ChoiceFields& fields = {},
                               std::size_t most = 0) {
  const TemporaryFolder folder;
  return read_choice_records(write_file(folder, "q.jsonl", content), fields, most);
}

ChoiceRecord one(std::string line) {
  std::ranges::replace(line, '\n', ' ');
  return read(line).front();
}

std::string refusal(const std::string& content, const ChoiceFields& fields = {}) {
  return message_of<ConfigError>([&] { read(content, fields); });
}

/// A question with the choices "a ball", "a dog", "a tree", "a cat".
std::string question(const std::string& answer) {
  return R"({"question": "Lily has", "choices": ["a ball", "a dog", "a tree", "a cat"], )"
         R"("answer": )" +
         answer + "}\n";
}

}  // namespace

TEST_CASE("choice record: an answer is a number from 0, a letter of any case or a text") {
  CHECK(one(question("2")).truth == 2);
  CHECK(one(question("\"2\"")).truth == 2);
  CHECK(one(question("\"B\"")).truth == 1);
  CHECK(one(question("\"b\"")).truth == 1);
  CHECK(one(question("\"a cat\"")).truth == 3);
  for (const char* const none :
       {"4", "-1", "\"E\"", "\"4\"", "\"a fox\"", "\"\"", "null", "[1]", "1.5", "true"}) {
    CAPTURE(none);
    CHECK(contains(refusal(question(none)), "q.jsonl:1: the right answer "));
  }
}

TEST_CASE("choice record: ARC, CommonsenseQA and OpenBookQA label their choices") {
  const auto hub = one(R"({"id": "x", "question": "Why?", "answerKey": "3",
      "choices": {"text": ["a", "b", "c", "2"], "label": ["1", "2", "3", "4"]}})");
  CHECK(hub.question == "Why?");
  CHECK(hub.choices == Texts{"a", "b", "c", "2"});
  CHECK(hub.truth == 2);
  const auto original = one(R"({"id": "x", "answerKey": "C", "question": {"stem": "Why?",
      "choices": [{"text": "d", "label": "A"}, {"text": "e", "label": "B"}, {"text": "A",
      "label": "C"}]}})");
  CHECK(original.choices == Texts{"d", "e", "A"});
  CHECK(original.truth == 2);
  const auto open = one(R"({"question_stem": "Why?", "answerKey": "A",
      "choices": {"text": ["a", "b"], "label": ["B", "A"]}})");
  CHECK(open.truth == 1);
  CHECK(one(R"({"question": "Why?", "choices": {"X": "a", "Y": "b"}, "answer": "Y"})").truth == 1);
}

TEST_CASE("choice record: HellaSwag as the LM evaluation harness words it") {
  const auto record = one(R"({"ind": 4, "activity_label": "Removing ice from car",
      "ctx_a": "Then, the man writes over the snow [header]  covering.", "ctx_b": "then HE",
      "ctx": "unused", "label": "3", "endings": [", the [step] man adds.", "a  b", "c [title] d",
      " e "]})");
  CHECK(record.question ==
        "Removing ice from car: Then, the man writes over the snow  covering. Then he");
  CHECK(record.choices == Texts{", the man adds.", "a b", "c. d", "e"});
  CHECK(record.truth == 3);
  CHECK(record.is_beginning);
  const auto bare = one(R"({"ctx": "He", "endings": ["runs", "[x]"], "label": 0})");
  CHECK(bare.question == "He");
  CHECK(bare.choices == Texts{"runs", "[x]"});
  CHECK_FALSE(one(question("0")).is_beginning);
}

TEST_CASE("choice record: what is a letter, a number or a text at once is read as others are") {
  const std::string choices = R"({"question": "Which?", "choices": ["C", "A", "B"], "answer": )";
  CHECK(one(choices + "\"A\"}").truth == 1);
  const auto letters = read(question("\"D\"") + choices + "\"A\"}\n" + question("\"C\""));
  CHECK(letters[1].truth == 0);
  const std::string digits = R"({"question": "1+1", "choices": ["1", "2", "3"], "answer": )";
  CHECK(one(digits + "2}").truth == 2);
  CHECK(one(digits + "\"2\"}").truth == 1);
  CHECK(read(question("\"0\"") + digits + "\"2\"}")[1].truth == 2);
  CHECK(one(R"({"question": "?", "choices": [1, 2.5], "answer": "2.5"})").truth == 1);
}

TEST_CASE("choice record: own fields, the first ones, an array, and what is refused") {
  const std::string own = R"({"q": "Why?", "o": ["", "größe"], "k": 1})";
  const auto record = read(own, {"q", "o", "k"}).front();
  CHECK(record.choices == Texts{"", "größe"});
  CHECK(record.truth == 1);
  CHECK(contains(refusal(own, {"x", "o", "k"}), "no JSON object with \"x\""));
  CHECK(contains(refusal(own), "question or question_stem or ctx; name the field by"));
  CHECK(read(question("1") + question("2"), {}, 1).size() == 1);
  CHECK(read("[\n" + question("1") + ",\n" + question("2") + "]").size() == 2);
  CHECK(contains(refusal("[1]"), "q.jsonl:1: record 1: no JSON object"));
  for (const char* const choices :
       {"\"a\"", "[]", "[\"a\"]", "[\"a\", null]", "[{\"text\": \"a\"}]", "{\"A\": []}",
        "{\"text\": [\"a\", \"b\"], \"label\": [\"A\"]}"}) {
    CAPTURE(choices);
    CHECK(contains(
        refusal(std::string(R"({"question": "?", "answer": 0, "choices": )") + choices + "}"),
        "needs a question and 2 to 26 choices"));
  }
}
