#include "cli/status_text.h"

#include <algorithm>
#include <ctime>

#include <nlohmann/json.hpp>

#include "core/text.h"

namespace drystone::cli {

namespace {

using coordinator::ClientStatus;
using coordinator::StateStatus;
using coordinator::Status;
using coordinator::UnixTime;

constexpr double kQuiet = 30.0;  ///< a coordinator says something every ten seconds

std::string ago(UnixTime then, UnixTime now) {
  return core::format_duration(std::max(0.0, now - then));
}

std::string local_time(UnixTime time) {
  const auto seconds = static_cast<std::time_t>(time);
  std::tm parts{};
  char text[32] = "?";
  if (::localtime_r(&seconds, &parts) != nullptr) {
    std::strftime(text, sizeof text, "%Y-%m-%d %H:%M:%S", &parts);
  }
  return text;
}

std::string headline(const StateStatus& found, UnixTime now) {
  const Status& status = found.status;
  const std::string round = std::to_string(status.round);
  const std::string rounds = status.rounds == 0 ? "" : " of " + std::to_string(status.rounds);
  std::string text = status.name.empty() ? status.federation.substr(0, 12) : status.name;
  text += ": ";
  if (status.phase == "done") {
    text += "finished with version " + std::to_string(status.version);
  } else if (status.phase == "failed") {
    text += "failed in round " + round + rounds;
  } else {
    text += "round " + round + rounds;
    if (status.attempt > 0) text += ", attempt " + std::to_string(status.attempt + 1);
    text += ", " + status.phase;
  }
  if (status.since > 0.0) {
    const bool is_over = status.phase == "done" || status.phase == "failed";
    text += is_over ? ", " + ago(status.since, now) + " ago" : " since " + ago(status.since, now);
  }
  return text + "\n";
}

std::string process_line(const StateStatus& found, UnixTime now) {
  if (!found.is_open) return "no coordinator has it open\n";
  if (!found.is_live) return "a program has it open, which keeps no snapshot\n";
  const double quiet = now - found.status.written;
  if (quiet < kQuiet) return "the coordinator runs\n";
  return "the coordinator runs, but has said nothing for " + ago(found.status.written, now) +
         ": it is stopped, or its disk is full\n";
}

std::string round_lines(const StateStatus& found, UnixTime now) {
  const Status& status = found.status;
  std::string text;
  if (status.asked > 0) {
    text += "updates    " + std::to_string(status.accepted) + " of " +
            std::to_string(status.asked) + " accepted";
    if (status.quorum > 0) text += ", quorum " + std::to_string(status.quorum);
    text += "\n";
  }
  const std::string awaited = found.is_live ? coordinator::waits_for(status) : "";
  if (!awaited.empty()) text += "waits for  " + awaited + "\n";
  if (status.deadline && found.is_live) {
    text += "until      " + local_time(*status.deadline) + " (" + ago(now, *status.deadline) +
            " left)\n";
  }
  if (!status.reason.empty()) text += "reason     " + status.reason + "\n";
  return text;
}

std::string detail_of(const ClientStatus& client) {
  std::string text;
  if (client.num_steps > 0) {
    text = "step " + std::to_string(client.step) + " of " + std::to_string(client.num_steps);
    if (client.loss != 0.0) text += ", loss " + core::format_fixed(client.loss, 4);
  }
  if (!client.reason.empty()) text += (text.empty() ? "" : "; ") + client.reason;
  return text;
}

std::string client_line(const ClientStatus& client, std::size_t width, UnixTime now) {
  std::string text = client.name + std::string(width - client.name.size() + 2, ' ');
  const auto column = [&](const std::string& word, std::size_t size) {
    text += word + std::string(word.size() < size ? size - word.size() : 1, ' ');
  };
  column(client.state, 12);
  column(client.since > 0.0 ? ago(client.since, now) : "", 14);
  text += detail_of(client);
  return text.substr(0, text.find_last_not_of(' ') + 1) + "\n";
}

}  // namespace

std::string to_text(const StateStatus& found, UnixTime now) {
  const Status& status = found.status;
  std::string text = headline(found, now) + process_line(found, now) + "version    " +
                     std::to_string(status.version) + "\n" + round_lines(found, now);
  std::size_t width = 6;
  for (const ClientStatus& client : status.clients) width = std::max(width, client.name.size());
  if (!status.clients.empty()) text += "\n";
  for (const ClientStatus& client : status.clients) text += client_line(client, width, now);
  std::string shown;
  for (std::size_t begin = 0; begin < text.size();) {  // line breaks are ours, the rest is not
    const std::size_t end = text.find('\n', begin);
    shown += core::visible(text.substr(begin, end - begin)) + "\n";
    begin = end + 1;
  }
  return shown;
}

std::string to_json(const StateStatus& found) {
  auto json = nlohmann::ordered_json::parse(coordinator::to_json(found.status));
  json["is_open"] = found.is_open;
  json["is_live"] = found.is_live;
  return json.dump() + "\n";
}

}  // namespace drystone::cli
