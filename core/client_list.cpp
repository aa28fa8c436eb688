#include "core/client_list.h"

namespace drystone::core {

std::vector<ListedClient> list_clients(const Config& config) {
  std::vector<TrainingConfig> trainings;
  for (const ClientGroup& group : config.clients) {
    trainings.insert(trainings.end(), static_cast<std::size_t>(group.count), group.training);
  }
  if (trainings.empty()) trainings.push_back(config.training);
  const std::size_t width = std::to_string(trainings.size()).size();
  std::vector<ListedClient> clients;
  for (std::size_t i = 0; i < trainings.size(); ++i) {
    std::string number = std::to_string(i + 1);
    number.insert(0, width - number.size(), '0');
    clients.push_back({"client-" + number, std::move(trainings[i])});
  }
  return clients;
}

}  // namespace drystone::core
