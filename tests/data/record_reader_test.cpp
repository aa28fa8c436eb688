#include "data/record_reader.h"

#include <doctest/doctest.h>
#include <sys/stat.h>
#include <zlib.h>

#include "core/error.h"
#include "tests/text/files.h"

using namespace drystone::data;
using namespace drystone::text;
using drystone::core::ConfigError;
using drystone::core::IoError;
using drystone::test::contains;
using drystone::test::message_of;
using drystone::test::TemporaryFolder;
using drystone::test::write_file;

namespace {

std::vector<Record> read(const std::string& name, std::string_view content,
                         const RecordFields& fields = {}) {
  const TemporaryFolder folder;
  return read_records(write_file(folder, name, content), fields);
}

/// The message without the folder in front of the file's name.
std::string refusal(const std::string& name, std::string_view content,
                    const RecordFields& fields = {}) {
  const std::string message = message_of<ConfigError>([&] { read(name, content, fields); });
  const std::size_t at = message.find(name);
  return at == std::string::npos ? message : message.substr(at);
}

std::string gzip(const std::string& content) {
  std::string packed(content.size() + 100, '\0');
  z_stream stream{};
  REQUIRE(deflateInit2(&stream, 6, Z_DEFLATED, 15 + 16, 8, Z_DEFAULT_STRATEGY) == Z_OK);
  std::string input = content;
  stream.next_in = reinterpret_cast<Bytef*>(input.data());
  stream.avail_in = static_cast<uInt>(input.size());
  stream.next_out = reinterpret_cast<Bytef*>(packed.data());
  stream.avail_out = static_cast<uInt>(packed.size());
  REQUIRE(deflate(&stream, Z_FINISH) == Z_STREAM_END);
  packed.resize(stream.total_out);
  deflateEnd(&stream);
  return packed;
}

}  // namespace

TEST_CASE("jsonl: texts and labels of every type") {
  const auto records = read("a.jsonl",
                            "\xEF\xBB\xBF{\"text\": \"a\\nb \\u00e9\", \"label\": \"x\"}\r\n"
                            "\n  \n"
                            "{\"text\": \"\", \"label\": 7}\n"
                            "{\"label\": 0.5, \"text\": \"c\"}\n"
                            "{\"text\": \"d\", \"label\": true}\n"
                            "{\"text\": \"e\", \"label\": null}\n"
                            "{\"text\": \"f\"}");
  REQUIRE(records.size() == 6);
  CHECK(records[0].text == "a\nb é");
  CHECK(records[0].label == Label(std::string("x")));
  CHECK(records[1].text.empty());
  CHECK(records[1].where.str().ends_with("a.jsonl:4"));
  CHECK(records[1].label == Label(std::int64_t{7}));
  CHECK(records[2].label == Label(0.5));
  CHECK(records[3].label == Label(std::string("true")));
  CHECK(records[4].label == Label());
  CHECK(records[5].text == "f");
}

TEST_CASE("jsonl: NaN and infinities, which Python writes, are missing values") {
  const auto records = read("a.jsonl",
                            "{\"text\": \"NaN\", \"label\": NaN, \"other\": [-Infinity, 1]}\n"
                            "{\"text\": \"b\", \"label\": 1, \"other\": Infinity}\n");
  REQUIRE(records.size() == 2);
  CHECK(records[0].text == "NaN");
  CHECK(records[0].label == Label());
  CHECK(records[1].label == Label(std::int64_t{1}));
}

TEST_CASE("jsonl: configured fields, keys and ready ids") {
  const RecordFields fields{.text = "sentence", .label = "score", .key = "role"};
  const auto records = read("a.jsonl",
                            "{\"sentence\": \"a\", \"score\": 1, \"role\": \"king\"}\n"
                            "{\"input_ids\": [101, 5, 102], \"labels\": 2, \"role\": 3}\n",
                            fields);
  REQUIRE(records.size() == 2);
  CHECK(records[0].key == "king");
  CHECK(records[1].key == "3");
  CHECK(records[1].input_ids == std::vector<TokenId>{101, 5, 102});
  CHECK(records[1].label == Label(std::int64_t{2}));
  CHECK(records[1].text.empty());
}

TEST_CASE("jsonl: errors name the line and the remedy") {
  const std::string good = "{\"text\": \"a\", \"label\": 1}\n";
  CHECK(contains(refusal("a.jsonl", good + "\n{\"text\": \"b\""), "a.jsonl:3: not valid JSON"));
  CHECK(contains(refusal("a.jsonl", good + "[1]\n"), "a.jsonl:2: not a JSON object"));
  CHECK(contains(refusal("a.jsonl", good + std::string(1'000'000, '[') + "\n"),
                 "a.jsonl:2: nested deeper than 64 levels; write one complete JSON object a line"));
  CHECK(contains(refusal("a.jsonl", "{\"text\": \"a\", \"text\": \"b\"}\n"), "stands twice"));
  CHECK(contains(refusal("a.jsonl", "{\"sentence\": \"a\"}\n"),
                 "a.jsonl:1: no field \"text\" (found: sentence); set data.text_field"));
  CHECK(contains(refusal("a.jsonl", "{\"text\": 5}\n"), "field \"text\" is a number"));
  CHECK(contains(refusal("a.jsonl", "{\"text\": \"a\", \"label\": [1]}\n"), "label is an array"));
  CHECK(contains(refusal("a.jsonl", "{\"text\": \"a\", \"label\": 18446744073709551615}\n"),
                 "out of range"));
  CHECK(contains(refusal("a.jsonl", "{\"input_ids\": []}\n"), "at least one integer"));
  CHECK(contains(refusal("a.jsonl", "{\"input_ids\": [1, -1]}\n"), "integers >= 0"));
  CHECK(contains(refusal("a.jsonl", "{\"input_ids\": [4294967296]}\n"), "integers >= 0"));
  CHECK(contains(refusal("a.jsonl", good, {.key = "role"}), "no field \"role\""));
  CHECK(contains(refusal("a.jsonl", good + "{\"text\": \"\xFF\"}\n"),
                 "a.jsonl:2: byte 11 is not valid UTF-8"));
  CHECK(contains(refusal("a.jsonl", "{\"text\": \"\\ud800\"}\n"), "not valid JSON"));
}

TEST_CASE("csv: quoting as in RFC 4180") {
  const auto records = read("a.csv",
                            "id,text,label\r\n"
                            "1,\"a, \"\"b\"\"\",x\r\n"
                            "2,\"line one\nline two\r\nline three\",y\r\n"
                            "\r\n"
                            "3,,\"\"\r\n"
                            "4,\"\",z");
  REQUIRE(records.size() == 4);
  CHECK(records[0].text == "a, \"b\"");
  CHECK(records[0].label == Label(std::string("x")));
  CHECK(records[1].text == "line one\nline two\r\nline three");
  CHECK(records[2].text.empty());
  CHECK(records[2].label == Label());
  CHECK(records[3].label == Label(std::string("z")));
}

TEST_CASE("csv: errors name the line where the record began") {
  const std::string head = "text,label\n";
  CHECK(
      contains(refusal("a.csv", head + "a,b\nc\n"), "a.csv:3: 1 fields where the header names 2"));
  CHECK(contains(refusal("a.csv", head + "\"x\ny\",l,m\n"), "a.csv:2: 3 fields"));
  CHECK(contains(refusal("a.csv", head + "a,b\n\"never\nclosed,c\n"), "a.csv:3: a quoted field"));
  CHECK(contains(refusal("a.csv", head + "a\"b,c\n"), "a.csv:2: a quote inside"));
  CHECK(contains(refusal("a.csv", head + "\"a\"b,c\n"), "a.csv:2: text behind a closing quote"));
  CHECK(
      contains(refusal("a.csv", "body,label\n"), "no field \"text\" in the header (found: body, "));
  CHECK(contains(refusal("a.csv", "text,text\n"), "two fields are named \"text\""));
  CHECK(contains(refusal("a.csv", ""), "empty file"));
}

TEST_CASE("tsv: no quoting, every tab parts two fields") {
  const auto records = read("a.tsv", "label\ttext\nx\t\"quoted\" and, more\ny\t\n");
  REQUIRE(records.size() == 2);
  CHECK(records[0].text == "\"quoted\" and, more");
  CHECK(records[1].text.empty());
  CHECK(contains(refusal("a.tsv", "label\ttext\nx\ta\tb\n"), "a.tsv:2: 3 fields"));
}

TEST_CASE("records: gzip is read as it is, damage is an I/O error") {
  std::string content;
  for (int i = 0; i < 5000; ++i)
    content += "{\"text\": \"number " + std::to_string(i * 7919) + "\"}\n";
  const std::string packed = gzip(content);
  const auto records = read("a.jsonl.gz", packed);
  REQUIRE(records.size() == 5000);
  CHECK(records.back().text == "number 39587081");
  CHECK_THROWS_AS(read("a.jsonl.gz", packed.substr(0, packed.size() / 2)), IoError);
  std::string flipped = packed;
  flipped[packed.size() - 6] ^= 1;  // in the check sum
  CHECK_THROWS_AS(read("a.jsonl.gz", flipped), IoError);
}

TEST_CASE("records: a gzip bomb ends in one line") {
  const TemporaryFolder folder;
  const std::string file = (folder.path() / "bomb.jsonl.gz").string();
  const gzFile stream = gzopen(file.c_str(), "wb");
  const std::string lines = [] {
    std::string text;
    const std::string record = "{\"text\": \"a\"}\n" + std::string(20000, ' ') + "\n";
    while (text.size() < (std::size_t{1} << 20)) text += record;
    return text;
  }();
  for (int i = 0; i < 300; ++i) gzwrite(stream, lines.data(), static_cast<unsigned>(lines.size()));
  gzclose(stream);
  RecordReader reader(file, {});
  Record record;
  CHECK(contains(message_of<ConfigError>([&] {
                   while (reader.next(record)) {
                   }
                 }),
                 "bomb.jsonl.gz: unpacks to more than 200 times its size"));
}

TEST_CASE("records: unknown formats and missing files") {
  CHECK(contains(refusal("a.parquet", ""), "unknown data format \".parquet\"; use .jsonl"));
  CHECK_THROWS_AS(read_records("/nowhere/a.jsonl", {}), IoError);
}

TEST_CASE("records: what is no regular file, or claims what nobody stored, is refused") {
  const TemporaryFolder folder;
  const auto refused = [&](const char* name) {
    return message_of<IoError>([&] { read_records(folder.path() / name, {}); });
  };
  std::filesystem::create_directory(folder.path() / "folder.jsonl");
  std::filesystem::create_symlink("/dev/zero", folder.path() / "zero.csv");
  REQUIRE(::mkfifo((folder.path() / "fifo.jsonl.gz").c_str(), 0600) == 0);
  std::filesystem::create_symlink("/dev/null", folder.path() / "null");
  for (const char* const name : {"folder.jsonl", "zero.csv", "fifo.jsonl.gz", "null"}) {
    CHECK(contains(refused(name), std::string(name) + ": is not a regular file; "));
  }
  write_file(folder, "hollow.jsonl", "{\"text\": \"a\"}\n");
  std::filesystem::resize_file(folder.path() / "hollow.jsonl", std::uint64_t{2} << 30);
  CHECK(contains(refused("hollow.jsonl"), "hollow.jsonl: is mostly holes"));
  std::filesystem::resize_file(folder.path() / "hollow.jsonl", std::uint64_t{2} << 40);
  CHECK(contains(refused("hollow.jsonl"), "more than the limit of 1.1 TB"));
}

TEST_CASE("record: labels as classes and as numbers") {
  CHECK(class_name(Label(3.0)) == "3");
  CHECK_FALSE(class_name(Label(3.5)).has_value());
  CHECK_FALSE(class_name(Label()).has_value());
  CHECK(number(Label(std::string("-1.5e2"))) == -150.0);
  CHECK(number(Label(std::int64_t{4})) == 4.0);
  CHECK_FALSE(number(Label(std::string("4 stars"))).has_value());
  CHECK_FALSE(number(Label(std::string("nan"))).has_value());
  CHECK_FALSE(number(Label()).has_value());
}

namespace {

RecordFields sequence(const std::string& name = "auto", std::vector<std::string> names = {}) {
  return {.sequence = SequenceFields{name, std::move(names)}};
}

}  // namespace

TEST_CASE("sequences: instruction records under every name") {
  for (const std::string line : {R"({"instruction": "q", "input": "i", "output": "a"})",
                                 R"({"instruction": "q", "context": "i", "response": "a"})",
                                 R"({"question": "q", "context": "i", "answer": "a"})",
                                 R"({"prompt": "q", "input": "i", "completion": "a"})"}) {
    CAPTURE(line);
    const auto records = read("a.jsonl", line, sequence());
    CHECK(records.at(0).fields ==
          TextFields{{"instruction", "q"}, {"input", "i"}, {"output", "a"}});
  }
  const auto records = read("a.csv", "answer,question\n7,\"a, b\"\n", sequence("alpaca"));
  CHECK(records.at(0).fields == TextFields{{"instruction", "a, b"}, {"output", "7"}});
  CHECK(read("a.jsonl", R"({"question": "q", "answer": 7, "input": null})", sequence())
            .at(0)
            .fields == TextFields{{"instruction", "q"}, {"output", "7"}});
}

TEST_CASE("sequences: the template decides among several forms, and own templates name fields") {
  const std::string line = R"({"text": "t", "mr": "m", "question": "q", "answer": "a",)"
                           R"( "messages": [{"role": "user", "content": "u"}], "label": 3})";
  CHECK(read("a.jsonl", line, sequence("plain")).at(0).text == "t");
  CHECK(read("a.jsonl", line, sequence("alpaca")).at(0).fields.at("output") == "a");
  CHECK(read("a.jsonl", line, sequence("chat")).at(0).messages ==
        std::vector<Message>{{"user", "u"}});
  CHECK(read("a.jsonl", line, sequence("auto")).at(0).messages.size() == 1);
  const Record own = read("a.jsonl", line, sequence("{mr}", {"mr", "text"})).at(0);
  CHECK(own.fields == TextFields{{"mr", "m"}, {"text", "t"}});
  CHECK(own.label == Label(std::int64_t{3}));
  CHECK(read("a.tsv", "mr\ttext\nm\tt\n", sequence("{mr}", {"mr", "text"})).at(0).fields ==
        own.fields);
}

TEST_CASE("sequences: ShareGPT conversations, labelled ids and lists of texts") {
  const auto shared = read("a.jsonl",
                           R"({"conversations": [{"from": "human", "value": "u"},)"
                           R"( {"from": "gpt", "value": "a"}]})",
                           sequence());
  CHECK(shared.at(0).messages == std::vector<Message>{{"user", "u"}, {"assistant", "a"}});
  const auto ids = read("a.jsonl", R"({"input_ids": [5, 6], "labels": [-100, 6]})", sequence());
  CHECK(ids.at(0).token_labels == std::vector<TokenId>{-100, 6});
  RecordFields fields = sequence();
  fields.text = "speeches";
  fields.key = "role";
  const auto speeches = read("a.jsonl",
                             "{\"role\": \"King\", \"speeches\": [\"one\", \"two\"]}\n"
                             "{\"role\": \"Fool\", \"speeches\": \"three\"}\n",
                             fields);
  REQUIRE(speeches.size() == 3);
  CHECK(speeches[1].text == "two");
  CHECK(speeches[1].key == "King");
  CHECK(speeches[2].text == "three");
  CHECK(speeches[2].key == "Fool");
}

TEST_CASE("sequences: errors say what the template needs") {
  const std::string text = "{\"text\": \"a\"}\n";
  CHECK(contains(refusal("a.jsonl", text, sequence("alpaca")),
                 "a.jsonl:1: found text, but template \"alpaca\" needs instruction and output"));
  CHECK(contains(refusal("a.jsonl", text + "{\"body\": 1}\n", sequence()),
                 "a.jsonl:2: found body, but a record needs \"text\", instruction and output, "
                 "messages or input_ids; set data.text_field"));
  CHECK(contains(refusal("a.jsonl", text, sequence("{q}", {"q", "a"})),
                 "the template needs the fields q, a; set data.template and data.answer_field"));
  CHECK(contains(refusal("a.csv", "body\nx\n", sequence("plain")),
                 "a.csv:1: the header names body, but template \"plain\" needs \"text\""));
  CHECK(contains(refusal("a.csv", "messages\nx\n", sequence("chat")), "messages need JSON"));
  const auto refused = [](const std::string& line) { return refusal("a.jsonl", line, sequence()); };
  CHECK(contains(refused(R"({"messages": []})"), "at least one"));
  CHECK(contains(refused(R"({"messages": [{"role": "user", "content": "a"}, {"role": "x"}]})"),
                 "message 2 is not"));
  CHECK(contains(refused(R"({"input_ids": [1, 2], "labels": [1]})"), "as long as input_ids"));
  CHECK(contains(refused(R"({"input_ids": [1], "labels": [-1]})"), "or -100"));
  CHECK(contains(refused(R"({"question": "q", "answer": ["a"]})"), "\"answer\" is an array"));
  CHECK(contains(refused(R"({"text": []})"), "empty list"));
}

TEST_CASE("pairs: two texts a record") {
  const RecordFields fields{.text = "a", .text_pair = "b"};
  CHECK(read("a.jsonl", R"({"a": "x", "b": "y"})", fields).at(0).text_pair == "y");
  CHECK(read("a.csv", "a,b\nx,\n", fields).at(0).text_pair == "");
  CHECK(contains(refusal("a.jsonl", R"({"a": "x"})", fields), "set data.text_pair_field"));
  CHECK(contains(refusal("a.csv", "a\nx\n", fields), "set data.text_pair_field"));
}

TEST_CASE("json: an array of objects is read, whatever its lines") {
  const std::string array =
      "\n [\n {\"text\": \"a, ]} \\\" [\",\n  \"label\": 1 },{\"text\":\n\"b\"}\n,\n"
      "{\"text\": \"c\", \"more\": [[1, {}], {\"d\": \"]\"}]}]\n\n";
  for (const char* const name : {"a.json", "a.jsonl"}) {
    const auto records = read(name, array);
    REQUIRE(records.size() == 3);
    CHECK(records[0].text == "a, ]} \" [");
    CHECK(records[0].label == Label(std::int64_t{1}));
    CHECK(records[1].text == "b");
    CHECK(records[2].text == "c");
  }
  CHECK(read("a.json", "[]").empty());
  CHECK(read("a.json.gz", gzip(array)).size() == 3);
  CHECK(contains(refusal("a.json", "[{\"text\": \"a\"},\n\n{\"txt\": 1}]"),
                 "a.json:3: record 2: no field \"text\""));
  CHECK(contains(refusal("a.json", "[{\"text\": \"a\"}, 7]"),
                 "a.json:1: record 2: not a JSON object"));
  CHECK(contains(refusal("a.json", "[{\"text\": \"a\"}"), "the array does not end"));
  CHECK(contains(refusal("a.json", "[{\"text\": \"a}\n"), "the array does not end"));
  CHECK(contains(refusal("a.json", "[{\"text\": \"a\"}]\n{}"), "a.json:2: something follows"));
  CHECK(
      contains(refusal("a.json", "[{\"text\": \"a\"} {}]"), "a.json:1: record 1: not valid JSON"));
}

TEST_CASE("json: an array read by pieces is the array read at once") {
  std::string array = "[";
  for (int i = 0; i < 300; ++i) {
    array += (i == 0 ? "" : ",") + std::string(static_cast<std::size_t>(i * 7919 % 5), '\n');
    array += "{\"text\": \"" + std::string(static_cast<std::size_t>(i * 104729 % 700), 'x') +
             std::to_string(i) + "\"}";
  }
  const auto records = read("a.json", array + "]");
  REQUIRE(records.size() == 300);
  CHECK(records[299].where.str().ends_with(": record 300"));
  for (std::size_t i = 0; i < records.size(); ++i) {
    CHECK(records[i].text == std::string(i * 104729 % 700, 'x') + std::to_string(i));
  }
}

TEST_CASE("json: NaN is a missing value") {
  const auto records = read("a.jsonl",
                            "{\"text\": \"is NaN\", \"score\": NaN, \"label\": 1}\n"
                            "{\"text\": \"b\", \"label\": NaN, \"x\": [-Infinity, Infinity]}\n");
  REQUIRE(records.size() == 2);
  CHECK(records[0].text == "is NaN");
  CHECK(records[0].label == Label(std::int64_t{1}));
  CHECK(records[1].label == Label());
  CHECK(contains(refusal("a.jsonl", "{\"text\": NaN}"), "field \"text\" is a null"));
  const auto pandas =
      read("a.jsonl", R"({"instruction": "q", "input": NaN, "output": "a"})", sequence());
  CHECK(pandas.at(0).fields == TextFields{{"instruction", "q"}, {"output", "a"}});
}

TEST_CASE("sequences: parts of a message, calls of tools, and what templates get beside them") {
  const auto parts = read("a.jsonl",
                          R"({"messages": [{"role": "user", "content": [{"type": "text",)"
                          R"( "text": "a"}, {"type": "text", "text": "b"}]}]})",
                          sequence());
  CHECK(parts.at(0).messages == std::vector<Message>{{"user", "ab"}});
  const auto tools = read("a.jsonl",
                          R"({"messages": [{"role": "assistant", "content": null,)"
                          R"( "tool_calls": [{"name": "f", "arguments": {"z": 1, "a": 2}}]},)"
                          R"( {"role": "assistant", "tool_calls": []},)"
                          R"( {"role": "tool", "content": "3", "name": "f"}]})",
                          sequence());
  const std::string calls = R"({"tool_calls":[{"name":"f","arguments":{"z":1,"a":2}}]})";
  CHECK(tools.at(0).messages == std::vector<Message>{{"assistant", "", calls},
                                                     {"assistant", "", R"({"tool_calls":[]})"},
                                                     {"tool", "3", R"({"name":"f"})"}});
  const auto refused = [](const std::string& message) {
    return refusal("a.jsonl", R"({"messages": [)" + message + "]}", sequence());
  };
  CHECK(contains(refused(R"({"role": "user", "content": null})"), "message 1 is not"));
  CHECK(contains(refused(R"({"role": "user", "content": [{"type": "image", "url": "x"}]})"),
                 "message 1 has a part that is not {\"type\": \"text\""));
  CHECK(contains(refused(R"({"role": "user", "content": ["a"]})"), "has a part that is not"));
  CHECK(contains(refused(R"({"role": "user", "content": 5})"), "message 1 is not"));
  CHECK(contains(refused("\"hello\""), "message 1 is not"));
}

TEST_CASE("sequences: TRL's prompt and completion as lists of messages are one conversation") {
  const std::string line = R"({"prompt": [{"role": "user", "content": "q"}],)"
                           R"( "completion": [{"role": "assistant", "content": "a"}]})";
  for (const char* const name : {"auto", "chat"}) {
    CHECK(read("a.jsonl", line, sequence(name)).at(0).messages ==
          std::vector<Message>{{"user", "q"}, {"assistant", "a"}});
  }
  CHECK(contains(refusal("a.jsonl", line, sequence("alpaca")), "\"prompt\" is an array"));
}
