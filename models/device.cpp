#include "models/device.h"

#include <charconv>
#include <fstream>
#include <string>

#include <ATen/Context.h>
#include <ATen/core/Tensor.h>
#include <ATen/detail/CUDAHooksInterface.h>
#include <ATen/ops/empty.h>
#include <c10/core/CachingDeviceAllocator.h>

#include "core/error.h"
#include "core/metrics.h"
#include "core/text.h"

namespace drystone::models {
namespace {

constexpr std::string_view kCuda = "cuda";

int num_cuda_devices() { return at::hasCUDA() ? at::detail::getCUDAHooks().getNumGPUs() : 0; }

[[noreturn]] void fail(std::string_view text, const std::string& problem) {
  throw core::ConfigError("device: " + core::quote(text) + ": " + problem);
}

/// "cuda" → 0, "cuda:3" → 3.
int cuda_index(std::string_view text) {
  if (text == kCuda) return 0;
  int index = -1;
  const char* const end = text.data() + text.size();
  if (text.starts_with("cuda:")) {
    const auto [stop, error] = std::from_chars(text.data() + kCuda.size() + 1, end, index);
    if (error != std::errc() || stop != end) index = -1;
  }
  if (index < 0) fail(text, "give auto, cpu, cuda or cuda:N with N from 0");
  return index;
}

/// A copy that a GPU reads without waiting. Tensor::pin_memory would ask the accelerator that comes
/// first, which in the tests is the pretended one.
at::Tensor pinned(const at::Tensor& tensor) {
  return at::empty(tensor.sizes(), tensor.options().pinned_memory(true)).copy_(tensor);
}

}  // namespace

at::Device parse_device(std::string_view text) {
  if (text == "cpu") return at::kCPU;
  const int count = num_cuda_devices();
  if (text == "auto") return count > 0 ? parse_device(kCuda) : at::Device(at::kCPU);
  const int index = cuda_index(text);
  if (count == 0) {
    fail(text,
         "no CUDA device: it needs a CUDA build of LibTorch, an NVIDIA driver (nvidia-smi) and a "
         "device that CUDA_VISIBLE_DEVICES shows; or give cpu or auto");
  }
  if (index >= count) {
    fail(text, "this machine has CUDA devices 0 to " + std::to_string(count - 1));
  }
  // Its engines need a run-time compiler that C++ programs do not load, and a plan for each width.
  at::globalContext().setSDPUseCuDNN(false);
  return {at::kCUDA, static_cast<at::DeviceIndex>(index)};
}

at::Tensor send(const at::Tensor& tensor, at::Device device) {
  if (device.is_cpu() || !tensor.is_cpu()) return tensor.to(device);
  const at::Tensor source = device.is_cuda() ? pinned(tensor) : tensor;
  return source.to(device, /*dtype=*/tensor.scalar_type(), /*non_blocking=*/true);
}

std::uint64_t peak_memory(at::Device device) {
  if (device.is_cpu()) return core::peak_rss_bytes();
  const auto all = static_cast<std::size_t>(c10::CachingAllocator::StatType::AGGREGATE);
  c10::DeviceAllocator* const allocator = c10::getDeviceAllocator(device.type());
  return static_cast<std::uint64_t>(
      allocator->getDeviceStats(device.index()).allocated_bytes[all].peak);
}

bool has_fast_bfloat16(at::Device device) {
  if (!device.is_cpu()) return true;
  // LibTorch tells of AVX-512, but not of its extension for bfloat16.
  std::ifstream file("/proc/cpuinfo");
  for (std::string line; std::getline(file, line);) {
    if (!line.starts_with("flags")) continue;
    return line.find(" avx512_bf16") != std::string::npos ||
           line.find(" amx_bf16") != std::string::npos;
  }
  return false;
}

}  // namespace drystone::models
