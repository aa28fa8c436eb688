#include "coordinator/client_settings.h"

#include "crypto/hash.h"

namespace drystone::coordinator {

ClientSettings::ClientSettings(const core::Config& config, const crypto::Roster& roster)
    : list_(config), is_any_(!roster.virtual_trainers.empty()) {
  for (const core::ListedClient& listed : list_.first_of_each_kind()) {
    texts_.push_back(core::settings_text(config, listed));
    digests_.push_back(crypto::sha256(core::as_bytes(texts_.back())));
  }
  for (const auto& [name, entry] : roster.clients) {
    if (entry.has_own_settings) own_.insert(name);
    if (text(name) != nullptr) is_any_ = true;
  }
}

const std::string* ClientSettings::text(const std::string& client) const {
  const auto number = list_.find(client);
  return number && !own_.contains(client) ? &texts_[list_.kind_of(*number)] : nullptr;
}

std::vector<core::Digest> ClientSettings::digests(const std::vector<std::string>& cohort) const {
  std::vector<core::Digest> digests;
  if (!is_any_) return digests;
  for (const std::string& client : cohort) {
    const auto number = list_.find(client);
    digests.push_back(text(client) != nullptr ? digests_[list_.kind_of(*number)] : core::Digest{});
  }
  return digests;
}

}  // namespace drystone::coordinator
