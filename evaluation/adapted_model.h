#pragma once
// A base with an adapter on it, to be measured or to write.

#include <filesystem>
#include <memory>

#include "models/family_names.h"
#include "models/load.h"
#include "models/model.h"

namespace drystone::evaluation {

struct AdaptedModel {
  std::unique_ptr<models::Model> model;
  models::InputLimits limits;
  /// Folder of its tokenizer: the adapter's where that has added tokens and says which.
  std::filesystem::path tokenizer;
};

/// A head is never drawn: it is the adapter's (`head`'s) or the checkpoint's.
/// @param adapter  PEFT folder; empty: none
/// @param head     whose saved modules go into the base: the adapter's folder, or that of an
///                 ensemble's member or of a posterior
/// @throws core::ConfigError  they do not fit, or there is no head that suits the task; as
///                            models::load_base
AdaptedModel load_adapted(const models::ModelSpec& spec, const std::filesystem::path& adapter,
                          const std::filesystem::path& head);

}  // namespace drystone::evaluation
