#include "core/client_list.h"

#include <algorithm>

namespace drystone::core {

ClientList::ClientList(const Config& config) {
  std::size_t size = 0;
  for (const ClientGroup& kind : config.clients) {
    if (kind.count <= 0) continue;
    size += static_cast<std::size_t>(kind.count);
    kinds_.push_back(kind);
    ends_.push_back(size);
  }
  if (kinds_.empty()) {
    kinds_.push_back(
        {.count = 1, .training = config.training, .quantization = config.model.quantization});
    ends_.push_back(1);
  }
  names_ = NameList::numbered("client-", ends_.back());
}

ListedClient ClientList::operator[](std::size_t client) const {
  const ClientGroup& kind = kinds_[kind_of(client)];
  return {.name = names_[client],
          .training = kind.training,
          .quantization = kind.quantization,
          .device = kind.device};
}

std::size_t ClientList::kind_of(std::size_t client) const {
  return static_cast<std::size_t>(std::ranges::upper_bound(ends_, client) - ends_.begin());
}

std::vector<ListedClient> ClientList::first_of_each_kind() const {
  std::vector<ListedClient> clients;
  clients.reserve(num_kinds());
  for (std::size_t kind = 0; kind < num_kinds(); ++kind) clients.push_back((*this)[first(kind)]);
  return clients;
}

std::vector<ListedClient> list_clients(const Config& config) {
  const ClientList list(config);
  std::vector<ListedClient> clients;
  clients.reserve(list.size());
  for (std::size_t client = 0; client < list.size(); ++client) clients.push_back(list[client]);
  return clients;
}

bool collects_posterior(const Config& config) {
  const std::vector<ListedClient> clients = ClientList(config).first_of_each_kind();
  return std::ranges::any_of(
      clients, [](const ListedClient& c) { return c.training.method == kPosteriorMethod; });
}

}  // namespace drystone::core
