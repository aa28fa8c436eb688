#pragma once
// The table of methods that work.

#include <cstdint>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "adapters/method.h"

namespace drystone::adapters {

/// Every method that works, in the order in which documents list them.
std::span<const Method> methods();

/// @throws core::ConfigError  no such method, or one that does not work yet: lists those that do
const Method& find_method(std::string_view name);

/// The specification with the defaults of all options that it lacks. A method with an option "of"
/// is made of the method that it names, whose options stand beside its own.
/// @throws core::ConfigError  as validate, but for what the method itself refuses
AdapterSpec completed(const AdapterSpec& spec);

/// What a client's [training] means, found out once.
struct ResolvedTraining {
  core::TrainingConfig config = {};
  const Method* method = nullptr;  ///< its row in the table
  AdapterSpec spec = {};           ///< completed
};
/// @throws core::ConfigError  as completed
ResolvedTraining resolve(const core::TrainingConfig& training);

/// Checks a specification without a model.
/// @throws core::ConfigError  method, rank, alpha, dropout or an option (names the nearest known
///                            one)
void validate(const AdapterSpec& spec);

/// The largest rank that a module of this client's update can have: its quota. Methods that edit
/// the base or chain blocks export more than they train. @throws core::ConfigError  as validate
std::int64_t export_rank(const AdapterSpec& spec);

/// Whether adapters of this specification can start from AdapterStart::factors.
bool can_continue(const AdapterSpec& spec);

/// Names and shapes of what the method collects beside its factors. @throws as validate
std::map<std::string, std::vector<std::int64_t>> statistics_of(models::Model& model,
                                                               const AdapterSpec& spec);

/// Makes the method on `model`. @throws core::ConfigError  as match_linears
std::unique_ptr<Adapter> make_adapter(const ResolvedTraining& training, models::Model& model,
                                      const AdapterStart& start);
/// Makes `spec.method` on `model`. @throws core::ConfigError  as validate and match_linears
std::unique_ptr<Adapter> make_adapter(models::Model& model, const AdapterSpec& spec,
                                      const AdapterStart& start);

}  // namespace drystone::adapters
