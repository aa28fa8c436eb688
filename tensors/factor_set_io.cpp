#include "tensors/factor_set_io.h"

#include <utility>

#include "core/check.h"
#include "core/error.h"

namespace drystone::tensors {
namespace {

using core::Refusal;

constexpr std::string_view kASuffix = ".lora_A.weight";
constexpr std::string_view kBSuffix = ".lora_B.weight";

const Metadata& factors_metadata() {
  static const Metadata metadata = {{"format", std::string(kFactorsFormat)}};
  return metadata;
}

bool is_factor_key(std::string_view key) {
  return key.ends_with(kASuffix) || key.ends_with(kBSuffix);
}

void require_factors(const std::string& name, const Factors& factors) {
  const bool is_pair = factors.b.defined() && factors.a.defined() && factors.b.dim() == 2 &&
                       factors.a.dim() == 2 && factors.b.size(1) == factors.a.size(0) &&
                       factors.rank() >= 1 && factors.out_features() >= 1 &&
                       factors.in_features() >= 1;
  core::require(!name.empty() && is_pair, "factor set: '" + name + "' is no B [out, r], A [r, in]");
  core::require(factors.b.scalar_type() == at::kFloat && factors.a.scalar_type() == at::kFloat,
                "factor set: '" + name + "' must be float32");
}

void require_dense(const std::string& name, const at::Tensor& tensor) {
  core::require(tensor.defined() && tensor.scalar_type() == at::kFloat,
                "factor set: dense part '" + name + "' must be float32");
  core::require(!is_factor_key(name), "factor set: dense part '" + name + "' is named as a factor");
}

/// The shape of a module whose A is given, or why it has none.
core::Expected<FactorsShape> pair_shape(const SafetensorsHeader& header, const std::string& module,
                                        const TensorInfo& a) {
  const auto found = header.tensors.find(b_key(module));
  if (found == header.tensors.end()) {
    return core::refuse(Refusal::PlanMismatch, "factor set: '" + module + "' has A without B");
  }
  const TensorInfo& b = found->second;
  if (a.shape.size() != 2 || b.shape.size() != 2 || b.shape[1] != a.shape[0] || a.shape[0] < 1 ||
      a.shape[1] < 1 || b.shape[0] < 1) {
    return core::refuse(Refusal::PlanMismatch,
                        "factor set: '" + module + "' is no B [out, r], A [r, in] with r >= 1");
  }
  return FactorsShape{.out = b.shape[0], .in = a.shape[1], .rank = a.shape[0]};
}

/// Tensors in the order in which they are written.
NamedTensors in_order(const FactorSet& factors) {
  NamedTensors tensors;
  for (const auto& [name, pair] : factors.modules) {
    require_factors(name, pair);
    tensors.emplace_back(a_key(name), pair.a);
    tensors.emplace_back(b_key(name), pair.b);
  }
  for (const auto& [name, tensor] : factors.dense) {
    require_dense(name, tensor);
    tensors.emplace_back(name, tensor);
  }
  return tensors;
}

FactorSet copy_all(const SafetensorsHeader& header, const FactorSetShapes& shapes,
                   core::ByteView payload) {
  const auto copy = [&](const std::string& key) {
    const TensorInfo& info = header.tensors.at(key);
    return copy_tensor(info, tensor_bytes(header, info, payload));
  };
  FactorSet factors;
  for (const auto& [name, shape] : shapes.modules) {
    factors.modules.emplace(name, Factors{.b = copy(b_key(name)), .a = copy(a_key(name))});
  }
  for (const auto& [name, shape] : shapes.dense) factors.dense.emplace(name, copy(name));
  return factors;
}

FactorSetShapes describe_file(const SafetensorsFile& file) {
  auto shapes = describe(file.header());
  if (!shapes) throw core::IoError(file.path().string() + ": " + shapes.error().detail);
  return std::move(*shapes);
}

}  // namespace

std::string a_key(std::string_view module) { return std::string(module) + std::string(kASuffix); }

std::string b_key(std::string_view module) { return std::string(module) + std::string(kBSuffix); }

core::Expected<FactorSetShapes> describe(const SafetensorsHeader& header) {
  const auto format = header.metadata.find("format");
  if (format == header.metadata.end() || format->second != kFactorsFormat) {
    return core::refuse(Refusal::PlanMismatch, "factor set: the metadata does not say format " +
                                                   std::string(kFactorsFormat));
  }
  FactorSetShapes shapes;
  std::size_t num_b = 0;
  for (const auto& [key, info] : header.tensors) {
    if (info.dtype != at::ScalarType::Float) {
      return core::refuse(Refusal::PlanMismatch, "factor set: '" + key + "' is not float32");
    }
    if (key.ends_with(kASuffix) && key.size() > kASuffix.size()) {
      const std::string module = key.substr(0, key.size() - kASuffix.size());
      const auto shape = pair_shape(header, module, info);
      if (!shape) return tl::make_unexpected(shape.error());
      shapes.modules.emplace(module, *shape);
    } else if (is_factor_key(key)) {
      ++num_b;
    } else {
      shapes.dense.emplace(key, info.shape);
    }
  }
  if (num_b != shapes.modules.size()) {  // each A has its B, so a surplus is a B alone
    return core::refuse(Refusal::PlanMismatch, "factor set: a module has B without A");
  }
  return shapes;
}

FactorSetFile::FactorSetFile(const std::filesystem::path& file)
    : file_(file), shapes_(describe_file(file_)) {}

Factors FactorSetFile::module(const std::string& name) const {
  return {.b = file_.tensor(b_key(name)), .a = file_.tensor(a_key(name))};
}

at::Tensor FactorSetFile::dense(const std::string& name) const { return file_.tensor(name); }

FactorSetWriter::FactorSetWriter(const std::filesystem::path& file)
    : writer_(file, factors_metadata()) {}

void FactorSetWriter::add_module(const std::string& name, const Factors& factors) {
  core::require(!last_dense_ && (!last_module_ || *last_module_ < name),
                "FactorSetWriter: module '" + name + "' is out of order");
  require_factors(name, factors);
  last_module_ = name;
  writer_.add(a_key(name), factors.a);
  writer_.add(b_key(name), factors.b);
}

void FactorSetWriter::add_dense(const std::string& name, const at::Tensor& tensor) {
  core::require(!last_dense_ || *last_dense_ < name,
                "FactorSetWriter: dense part '" + name + "' is out of order");
  require_dense(name, tensor);
  last_dense_ = name;
  writer_.add(name, tensor);
}

void FactorSetWriter::finish() { writer_.finish(); }

core::Bytes to_bytes(const FactorSet& factors) {
  return to_safetensors(in_order(factors), factors_metadata());
}

core::Expected<FactorSet> factor_set_from_bytes(core::ByteView payload,
                                                const SafetensorsLimits& limits) {
  const auto header = parse_safetensors(payload, limits);
  if (!header) return tl::make_unexpected(header.error());
  const auto shapes = describe(*header);
  if (!shapes) return tl::make_unexpected(shapes.error());
  return copy_all(*header, *shapes, payload);
}

void write_factor_set(const std::filesystem::path& file, const FactorSet& factors) {
  FactorSetWriter writer(file);
  for (const auto& [name, pair] : factors.modules) writer.add_module(name, pair);
  for (const auto& [name, tensor] : factors.dense) writer.add_dense(name, tensor);
  writer.finish();
}

FactorSet read_factor_set(const std::filesystem::path& path) {
  const SafetensorsFile file(path);
  return copy_all(file.header(), describe_file(file), file.bytes());
}

}  // namespace drystone::tensors
