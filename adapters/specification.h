#pragma once
// What a client asks of a method, held against the method's row.

#include <cstdint>
#include <memory>

#include "adapters/method.h"

namespace drystone::adapters {

/// The specification with the defaults of all options that it lacks.
/// @throws core::ConfigError  rank, alpha, dropout or an option (names the nearest known one)
AdapterSpec completed(const Method& method, AdapterSpec spec);

/// @throws core::ConfigError  as completed, and what the method itself refuses
std::int64_t export_rank(const Method& method, const AdapterSpec& spec);

/// Makes the method on `model`. @param complete  as `completed` left it
/// @throws core::ConfigError  what the method itself refuses, and as match_linears
std::unique_ptr<Adapter> make_completed(const Method& method, models::Model& model,
                                        const AdapterSpec& complete, const AdapterStart& start);
/// Completes the specification first. @throws core::ConfigError  as export_rank and match_linears
std::unique_ptr<Adapter> make_adapter(const Method& method, models::Model& model,
                                      const AdapterSpec& spec, const AdapterStart& start);

}  // namespace drystone::adapters
