#include "models/likelihood.h"

#include <ATen/TensorOperators.h>
#include <ATen/core/grad_mode.h>

#include "core/check.h"
#include "models/decoder/decoder.h"
#include "models/device.h"
#include "models/gemm.h"
#include "models/loss.h"

namespace drystone::models {

std::vector<Likelihood> log_likelihoods(Model& model, const Batch& batch) {
  core::require(dynamic_cast<Decoder*>(&model) != nullptr,
                "log_likelihoods: the model is not a causal language model");
  core::require(!batch.segments.defined(), "log_likelihoods: one sample a row");
  const at::NoGradGuard no_grad;
  const Targets targets = find_targets(batch);
  at::Tensor logits = model.logits(batch);
  logits = at_least_float(logits);
  const at::Tensor labels = send(targets.labels, logits.device());
  const at::Tensor chosen =
      logits.gather(1, labels.unsqueeze(1)).squeeze(1) - logits.logsumexp({1});
  const at::Tensor p = chosen.to(at::kCPU, at::kDouble).contiguous();
  const at::Tensor best = (logits.argmax(1) == labels).to(at::kCPU).contiguous();
  const at::Tensor places = targets.positions.to(at::kCPU).contiguous();
  const std::int64_t width = batch.input_ids.size(1);
  std::vector<Likelihood> result(static_cast<std::size_t>(batch.input_ids.size(0)));
  for (std::int64_t i = 0; i < places.size(0); ++i) {
    const std::int64_t row = places.const_data_ptr<std::int64_t>()[i] / width;
    Likelihood& likelihood = result[static_cast<std::size_t>(row)];
    likelihood.log_probability += p.const_data_ptr<double>()[i];
    likelihood.num_tokens += 1;
    likelihood.is_greedy = likelihood.is_greedy && best.const_data_ptr<bool>()[i];
  }
  return result;
}

}  // namespace drystone::models
