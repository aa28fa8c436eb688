#include "tensors/random.h"

#include <ATen/CPUGeneratorImpl.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/empty.h>

#include "core/check.h"

namespace drystone::tensors {

at::Generator generator(const core::StreamKey& key) {
  return at::make_generator<at::CPUGeneratorImpl>(core::stream_seed(key));
}

at::Tensor random_normal(const core::StreamKey& key, at::IntArrayRef shape, double mean,
                         double standard_deviation, at::Device device) {
  const at::NoGradGuard no_grad;
  return at::empty(shape, at::kFloat).normal_(mean, standard_deviation, generator(key)).to(device);
}

at::Tensor random_bernoulli(const core::StreamKey& key, at::IntArrayRef shape, double probability,
                            at::Device device) {
  core::require(probability >= 0.0 && probability <= 1.0,
                "random_bernoulli: probability must lie in [0, 1]");
  const at::NoGradGuard no_grad;
  return at::empty(shape, at::kFloat).bernoulli_(probability, generator(key)).to(device);
}

}  // namespace drystone::tensors
