#include "coordinator/report.h"

#include <limits>

#include <doctest/doctest.h>
#include <nlohmann/json.hpp>

#include "coordinator/console.h"
#include "coordinator/report_html.h"
#include "core/error.h"

using namespace drystone::coordinator;

TEST_CASE("report: a round survives its way through the database") {
  const RoundReport round{.round = 3,
                          .version = 3,
                          .asked = 10,
                          .accepted = 8,
                          .rejected = {{"not-finite", 1}, {"timeout", 1}},
                          .since_restart = true,
                          .train_loss = 1.25,
                          .bytes_up = 1000,
                          .bytes_down = 2000,
                          .stack_rank = 160,
                          .compact_rank = 92,
                          .exactness = "exact",
                          .relative_error = 0.25,
                          .seconds = 1.5,
                          .client_steps = 96,
                          .tokens = 12345,
                          .passes = 200,
                          .bases = {{"nf4", 3}, {"none", 5}},
                          .devices = {{"cpu", 7}, {"cuda:0", 1}},
                          .lowered = {{"client-2", 0.5}},
                          .zero_updates = {"client-1", "client-8"}};
  CHECK(to_json(round_from_json(to_json(round))) == to_json(round));
  CHECK(round_from_json(to_json(round)).rejected.at("timeout") == 1);
  CHECK(round_from_json(to_json(round)).bases.at("nf4") == 3);
  CHECK(round_from_json(to_json(round)).devices.at("cpu") == 7);
  CHECK(round_from_json(to_json(round)).since_restart);
  CHECK(round_from_json(to_json(round)).zero_updates == round.zero_updates);
}

TEST_CASE("report: the contract's fields, NaN as null") {
  RunReport report{.name = "news", .seed = 7, .config_hash = "ab", .device = "cpu"};
  report.rounds.push_back({.round = 1, .version = 1});
  report.rounds[0].train_loss = std::numeric_limits<double>::quiet_NaN();
  report.rounds[0].eval = Metrics{{"accuracy", 0.5}};
  const std::string text = to_json(report);
  for (const char* field :
       {"\"name\"", "\"seed\"", "\"config_hash\"", "\"head\"", "\"rounds\"", "\"before\"",
        "\"after\"", "\"totals\"", "\"peak_rss_bytes\"", "\"device\"", "\"stack_rank\"",
        "\"client_steps\"", "\"passes\"", "\"bases\"", "\"exactness\"", "\"train_loss\": null",
        "\"accuracy\": 0.5"}) {
    CAPTURE(field);
    CHECK(text.find(field) != std::string::npos);
  }
  report.device.clear();
  CHECK(nlohmann::json::parse(to_json(report)).at("device").is_null());  // nobody trained yet
}

TEST_CASE("report: the totals are the rounds' sums") {
  RunReport report;
  for (const std::uint64_t number : {1, 10}) {
    report.rounds.push_back(
        {.client_steps = 2 * number, .tokens = 3 * number, .passes = 4 * number});
  }
  const auto totals = nlohmann::json::parse(to_json(report)).at("totals");
  CHECK(totals.at("client_steps") == 22);
  CHECK(totals.at("tokens") == 33);
  CHECK(totals.at("passes") == 44);
}

TEST_CASE("report: the page stands alone, escapes names and draws the score") {
  RunReport report{.name = "<news> & more", .seed = 7, .config_hash = "ab"};
  report.device = "cpu\xe2\x80\xaegpj\x1b[2J";  // as a client may say
  report.before = Metrics{{"accuracy", 0.1}, {"loss", 3.0}};
  for (std::uint64_t round = 1; round <= 2; ++round) {
    report.rounds.push_back({.round = round, .version = round, .exactness = "exact"});
    report.rounds.back().eval =
        Metrics{{"accuracy", 0.2 * static_cast<double>(round)}, {"loss", 2.0}};
  }
  const std::string page = to_html(report);
  CHECK(page.find("&lt;news&gt; &amp; more") != std::string::npos);
  CHECK(page.find("<news>") == std::string::npos);
  CHECK(page.find("cpu\\u202Egpj\\u001B[2J") != std::string::npos);
  CHECK(page.find("<polyline") != std::string::npos);
  CHECK(page.find("0.4000") != std::string::npos);
  CHECK(page.find("http") == std::string::npos);
  CHECK(page.find("<script") == std::string::npos);
}

TEST_CASE("report: the table a run ends with") {
  RunReport report;
  report.before = Metrics{{"accuracy", 0.0349}, {"loss", 2.9974}};
  report.rounds.push_back({.round = 1,
                           .asked = 4,
                           .accepted = 3,
                           .train_loss = 2.6518,
                           .bytes_up = 15'400'000,
                           .bytes_down = 166'000,
                           .stack_rank = 92,
                           .compact_rank = 9,
                           .exactness = "exact",
                           .seconds = 25.3,
                           .eval = Metrics{{"accuracy", 0.3931}, {"loss", 2.5683}}});
  report.rounds.push_back(
      {.round = 2, .exactness = "truncated", .zero_updates = {"a", "b", "c"}, .eval = Metrics{}});
  const std::string no_more(79, ' ');
  CHECK(results_table(report) ==
        " round   clients   train loss   test loss   accuracy        up     down   "
        "rank (stacked → kept)   exactness     time   zero updates\n"
        "before                              2.997      3.5 %" +
            no_more +
            "\n"
            "     1       3/4        2.652       2.568     39.3 %   15.4 MB   166 kB   "
            "               92 → 9       exact   25.3 s              0\n"
            "     2       0/0        0.000           –          –       0 B      0 B   "
            "                0 → 0   truncated     0 ms              3\n"
            "\nhead " +
            std::string(64, '0') + "\n");
}

TEST_CASE("report: without an evaluation the table has no columns of dashes, and says so") {
  RunReport report{.rounds = {{.round = 1, .asked = 4, .accepted = 3, .train_loss = 2.5}}};
  std::string table = results_table(report);
  for (const char* const none : {"test loss", "before", "–"}) {
    CHECK(table.find(none) == std::string::npos);
  }
  CHECK(table.find("nothing was evaluated: there is no data.test") != std::string::npos);
  report.before = Metrics{{"loss", 2.9974}};
  table = results_table(report);
  CHECK(table.find("test loss") != std::string::npos);
  CHECK(table.find("nothing was evaluated") == std::string::npos);
}

TEST_CASE("report: what is counted since a restart only is a lower bound") {
  RunReport report{.rounds = {{.round = 1, .bytes_up = 2'000'000, .seconds = 3.0}}};
  CHECK(results_table(report).find("≥") == std::string::npos);
  report.rounds[0].since_restart = true;
  CHECK(results_table(report).find("≥ 2.0 MB") != std::string::npos);
  CHECK(to_html(report).find("<td>≥ 2.0 MB</td>") != std::string::npos);
  CHECK(to_json(report).find("\"since_restart\": true") != std::string::npos);
}

TEST_CASE("report: both outputs say which rank is the stack's and which is kept") {
  const RunReport report{.rounds = {{.round = 1, .stack_rank = 12, .compact_rank = 5}}};
  for (const std::string& text : {results_table(report), to_html(report)}) {
    CHECK(text.find("rank (stacked → kept)") != std::string::npos);
    CHECK(text.find("12 → 5") != std::string::npos);
  }
}

TEST_CASE("report: updates of zeros have a column where there are any") {
  RunReport report{.name = "news", .rounds = {{.round = 1, .version = 1}}};
  CHECK(results_table(report).find("zero updates") == std::string::npos);
  CHECK(to_json(report).find("\"zero_updates\": []") != std::string::npos);
  report.rounds.push_back({.round = 2, .version = 2, .zero_updates = {"a", "b", "c"}});
  CHECK(results_table(report).find("zero updates") != std::string::npos);
  CHECK(to_html(report).find("<td>3</td>") != std::string::npos);
}

TEST_CASE("report: an unreadable row is an error of its own") {
  CHECK_THROWS_AS(round_from_json("{"), drystone::core::IoError);
  CHECK_THROWS_AS(round_from_json("{}"), drystone::core::IoError);
}
