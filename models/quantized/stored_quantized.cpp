#include "models/quantized/stored_quantized.h"

#include <algorithm>
#include <array>
#include <string>
#include <string_view>

#include "core/text.h"
#include "tensors/safetensors_header.h"

namespace drystone::models {
namespace {

/// What quantisers write beside or in place of a weight.
constexpr std::array<std::string_view, 10> kEndings = {
    ".qweight", ".qzeros",        ".SCB",          ".absmax",           ".quant_map",
    ".g_idx",   ".weight_packed", ".weight_scale", ".weight_scale_inv", ".weight_format"};

bool is_fp8(at::ScalarType type) { return type == at::kFloat8_e4m3fn || type == at::kFloat8_e5m2; }

bool is_quantized(const std::string& name, const tensors::TensorInfo& info) {
  if (is_fp8(info.dtype)) return true;
  const auto ends = [&](std::string_view ending) { return name.ends_with(ending); };
  if (std::any_of(kEndings.begin(), kEndings.end(), ends)) return true;
  return name.ends_with(".weight") && !c10::isFloatingType(info.dtype);
}

std::string method_of(const HfConfig& config, const tensors::TensorInfo& info) {
  const auto section = config.section("quantization_config");
  if (!section) return is_fp8(info.dtype) ? "FP8" : "a quantiser";
  std::string method = section->text_or("quant_method", "an unnamed method");
  if (section->flag_or("load_in_4bit", false)) return method + " in 4 bits";
  if (section->flag_or("load_in_8bit", false)) return method + " in 8 bits";
  return method == "fp8" ? "FP8" : core::quote(method);
}

}  // namespace

void refuse_stored_quantized(const HfConfig& config, const tensors::Checkpoint& checkpoint) {
  for (const std::string& name : checkpoint.names()) {
    const tensors::TensorInfo& info = checkpoint.info(name);
    if (!is_quantized(name, info)) continue;
    config.fail("quantization_config",
                "the weights are stored quantised by " + method_of(config, info) + " (" + name +
                    " is " + std::string(tensors::name_of_dtype(info.dtype)) +
                    "); name the full-precision checkpoint (float32, float16 or bfloat16) that "
                    "they were made from; model.quantization quantises it in memory");
  }
}

}  // namespace drystone::models
