#include "core/client_list.h"

#include <algorithm>

namespace drystone::core {

std::vector<ListedClient> list_clients(const Config& config) {
  std::vector<ListedClient> clients;
  for (const ClientGroup& group : config.clients) {
    const ListedClient client{
        .name = {}, .training = group.training, .quantization = group.quantization};
    clients.insert(clients.end(), static_cast<std::size_t>(group.count), client);
  }
  if (clients.empty()) clients.push_back({{}, config.training, config.model.quantization});
  const std::size_t width = std::to_string(clients.size()).size();
  for (std::size_t i = 0; i < clients.size(); ++i) {
    std::string number = std::to_string(i + 1);
    number.insert(0, width - number.size(), '0');
    clients[i].name = "client-" + number;
  }
  return clients;
}

bool collects_posterior(const Config& config) {
  const std::vector<ListedClient> clients = list_clients(config);
  return std::ranges::any_of(
      clients, [](const ListedClient& c) { return c.training.method == kPosteriorMethod; });
}

}  // namespace drystone::core
