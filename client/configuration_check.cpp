#include "client/configuration_check.h"

#include "aggregation/rule_check.h"

namespace drystone::client {

void check_configuration(const core::Config& config) {
  const auto need = [&](bool given, const char* key, const char* remedy) {
    if (!given)
      throw core::ConfigError(config.source.string() + ": " + key + ": missing; " + remedy);
  };
  if (!config.security.allow.empty() && config.security.coordinator_key.empty()) {
    throw core::config_error(config, "security.allow",
                             "this is the coordinator's configuration: start it with "
                             "drystone-coordinator; a client's is client.toml in its own folder");
  }
  need(!config.model.path.empty(), "model.path", "name the folder of the base model");
  need(!config.data.train.empty() || !config.data.test.empty(), "data.train",
       "name a file to train on, or data.test to evaluate on");
  need(!config.security.coordinator.empty(), "security.coordinator", "e.g. \"tcp://host:5570\"");
  need(!config.security.identity.empty(), "security.identity",
       "make keys with `drystone keys new`");
  need(!config.security.coordinator_key.empty(), "security.coordinator_key",
       "the coordinator's .pub file");
  aggregation::check_rule(config);
}

}  // namespace drystone::client
