#include "coordinator/configuration_check.h"

#include "aggregation/rule_check.h"

namespace drystone::coordinator {

void check_configuration(const core::Config& config) {
  const auto need = [&](bool given, const char* key, const char* remedy) {
    if (!given)
      throw core::ConfigError(config.source.string() + ": " + key + ": missing; " + remedy);
  };
  if (!config.security.coordinator_key.empty() && config.security.allow.empty()) {
    throw core::config_error(config, "security.coordinator_key",
                             "this is a client's configuration: start it with drystone-client; "
                             "the coordinator's is coordinator.toml");
  }
  constexpr const char* kProvision = "`drystone provision` writes it";
  need(!config.security.coordinator.empty(), "security.coordinator", "e.g. \"tcp://*:5570\"");
  need(!config.security.identity.empty(), "security.identity", kProvision);
  need(!config.security.allow.empty(), "security.allow", kProvision);
  need(!config.federation.layout.empty(), "federation.layout", kProvision);
  need(!config.federation.initial.empty(), "federation.initial", kProvision);
  need(!config.model.sha256.empty(), "model.sha256", kProvision);
  aggregation::check_rule(config);
}

}  // namespace drystone::coordinator
