// Class names of what drystone evaluate measures, in the order of the model's outputs.

#include <algorithm>
#include <string>
#include <vector>

#include "core/error.h"
#include "core/text.h"
#include "data/classes_in.h"
#include "data/label_map.h"
#include "evaluation/evaluated_model.h"
#include "training/model_classes.h"

namespace drystone::evaluation {

std::vector<std::string> class_names(const EvaluateOptions& options) {
  if (!options.labels.empty()) return options.labels;
  const training::ModelClasses own = training::model_classes(
      options.model, options.posterior.empty() ? options.adapter : options.posterior);
  if (own.names.empty()) {
    throw core::ConfigError(options.model.string() +
                            ": has no trained classification head, and a drawn one would measure "
                            "nothing; name an adapter that brings one, or a checkpoint of a "
                            "sequence classifier; a language model is measured with --task "
                            "causal-lm");
  }
  if (own.names.size() == 1) {
    throw core::ConfigError(options.model.string() +
                            ": its head has one output; use --task regression");
  }
  core::DataConfig data;
  data.train = options.data;
  data.text_field = options.text_field;
  data.label_field = options.label_field;
  const std::vector<std::string> found = data::classes_in(data);
  const data::LabelMap map(own.names);
  const auto unknown = std::find_if_not(found.begin(), found.end(), [&](const std::string& name) {
    return map.id(data::Label(name)).has_value();
  });
  if (unknown == found.end()) return own.names;
  throw core::ConfigError(options.data.string() + ": the class " + core::quote(*unknown) +
                          " is not one of the model's (" + own.from.string() + ": " +
                          core::join(own.names) +
                          "); give the file's names in the order of the model's by --labels");
}

}  // namespace drystone::evaluation
