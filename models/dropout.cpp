#include "models/dropout.h"

#include <ATen/CPUGeneratorImpl.h>
#include <ATen/Context.h>
#include <ATen/core/Generator.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/empty_like.h>

namespace drystone::models {
namespace {

at::Generator make_generator(at::Device device, std::uint64_t seed) {
  if (device.is_cpu()) return at::make_generator<at::CPUGeneratorImpl>(seed);
  at::Generator generator = at::globalContext()
                                .getAcceleratorHooksInterface(device.type())
                                .getNewGenerator(device.index());
  generator.set_current_seed(seed);
  return generator;
}

}  // namespace

at::Tensor dropout_mask(const at::Tensor& x, const Dropout& dropout) {
  const at::NoGradGuard no_grad;
  const double keep = 1.0 - dropout.probability;
  at::Tensor mask = at::empty_like(x, x.options().requires_grad(false));
  mask.bernoulli_(keep, make_generator(x.device(), dropout.seed));
  return mask.mul_(1.0 / keep);
}

at::Tensor apply_dropout(const at::Tensor& x, const Dropout& dropout) {
  return dropout.active() ? x * dropout_mask(x, dropout) : x;
}

}  // namespace drystone::models
