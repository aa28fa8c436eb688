#include "models/device.h"

#include <charconv>
#include <fstream>
#include <string>

#include <ATen/Context.h>
#include <ATen/DeviceAccelerator.h>
#include <ATen/core/Tensor.h>
#include <ATen/detail/CUDAHooksInterface.h>

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

}  // namespace

at::Device parse_device(std::string_view text) {
  if (text == "cpu") return at::kCPU;
  const int count = num_cuda_devices();
  if (text == "auto") return count > 0 ? at::Device(at::kCUDA, 0) : at::Device(at::kCPU);
  const int index = cuda_index(text);
  if (count == 0) {
    fail(text,
         "no CUDA device: it needs a CUDA build of LibTorch, an NVIDIA driver (nvidia-smi) and a "
         "device that CUDA_VISIBLE_DEVICES shows; or give cpu or auto");
  }
  if (index >= count) {
    fail(text, "this machine has CUDA devices 0 to " + std::to_string(count - 1));
  }
  return {at::kCUDA, static_cast<at::DeviceIndex>(index)};
}

at::Tensor send(const at::Tensor& tensor, at::Device device) {
  if (device.is_cpu() || !tensor.is_cpu()) return tensor.to(device);
  const at::Tensor source = device.is_cuda() ? tensor.pin_memory() : tensor;
  return source.to(device, /*dtype=*/tensor.scalar_type(), /*non_blocking=*/true);
}

std::uint64_t peak_memory(at::Device device) {
  if (device.is_cpu()) return core::peak_rss_bytes();
  const auto all = static_cast<std::size_t>(c10::CachingAllocator::StatType::AGGREGATE);
  const auto bytes = at::accelerator::getDeviceStats(device.index()).allocated_bytes[all].peak;
  return static_cast<std::uint64_t>(bytes);
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
