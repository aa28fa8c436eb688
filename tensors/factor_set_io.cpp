#include "tensors/factor_set_io.h"

#include <utility>

#include "core/check.h"
#include "core/error.h"

namespace drystone::tensors {
namespace {

const Metadata& factors_metadata() {
  static const Metadata metadata = {{"format", std::string(kFactorsFormat)}};
  return metadata;
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

/// A selector, where that is smaller than the factor and the one beside it bounds its width.
std::optional<Selector> selector_to_write(const Factors& factors, Side side) {
  const int64_t width = side == Side::A ? factors.in_features() : factors.out_features();
  const int64_t other = side == Side::A ? factors.out_features() : factors.in_features();
  constexpr int64_t kNumbersPerEntry = 2;  // an index and a value
  if (width <= kNumbersPerEntry || !may_select(width, other)) return std::nullopt;
  const at::Tensor& factor = side == Side::A ? factors.a : factors.b;
  return selector_of(factor.detach().to(at::kCPU), side);
}

void add_selector(NamedTensors& tensors, const std::string& module, Side side, int64_t width,
                  const Selector& selector) {
  tensors.emplace_back(index_key(module, side, width), selector.index);
  if (selector.value.defined()) tensors.emplace_back(value_key(module, side), selector.value);
}

/// One module with one of its factors as a selector, A rather than B, if it has one.
void add_shortest(NamedTensors& tensors, const std::string& name, const Factors& pair) {
  const auto a = selector_to_write(pair, Side::A);
  const auto b = a ? std::nullopt : selector_to_write(pair, Side::B);
  if (a) {
    add_selector(tensors, name, Side::A, pair.in_features(), *a);
  } else {
    tensors.emplace_back(a_key(name), pair.a);
  }
  if (b) {
    add_selector(tensors, name, Side::B, pair.out_features(), *b);
  } else {
    tensors.emplace_back(b_key(name), pair.b);
  }
}

enum class Form { Dense, Shortest };

/// Tensors in the order in which they are written.
NamedTensors in_order(const FactorSet& factors, Form form) {
  NamedTensors tensors;
  for (const auto& [name, pair] : factors.modules) {
    require_factors(name, pair);
    if (form == Form::Shortest) {
      add_shortest(tensors, name, pair);
      continue;
    }
    tensors.emplace_back(a_key(name), pair.a);
    tensors.emplace_back(b_key(name), pair.b);
  }
  for (const auto& [name, tensor] : factors.dense) {
    require_dense(name, tensor);
    tensors.emplace_back(name, tensor);
  }
  return tensors;
}

/// One factor of a module, dense, in whichever form it stands.
/// @param tensor  key → tensor, of those that the header has
template <typename Get>
at::Tensor factor_of(const SafetensorsHeader& header, const std::string& module, Side side,
                     const FactorsShape& shape, const Get& tensor) {
  const std::string weight = weight_key(module, side);
  if (header.tensors.contains(weight)) return tensor(weight);
  const std::string value = value_key(module, side);
  const Selector selector = {
      .index = tensor(index_key(module, side, shape.width(side))),
      .value = header.tensors.contains(value) ? tensor(value) : at::Tensor()};
  return dense_factor(selector, side, shape.width(side));
}

template <typename Get>
Factors factors_of(const SafetensorsHeader& header, const std::string& module,
                   const FactorsShape& shape, const Get& tensor) {
  return {.b = factor_of(header, module, Side::B, shape, tensor),
          .a = factor_of(header, module, Side::A, shape, tensor)};
}

FactorSet copy_all(const SafetensorsHeader& header, const FactorSetShapes& shapes,
                   core::ByteView payload) {
  const auto copy = [&](const std::string& key) {
    const TensorInfo& info = header.tensors.at(key);
    return copy_tensor(info, tensor_bytes(header, info, payload));
  };
  FactorSet factors;
  for (const auto& [name, shape] : shapes.modules) {
    factors.modules.emplace(name, factors_of(header, name, shape, copy));
  }
  for (const auto& [name, shape] : shapes.dense) factors.dense.emplace(name, copy(name));
  return factors;
}

core::Expected<FactorSetShapes> checked_shapes(const SafetensorsHeader& header,
                                               core::ByteView payload) {
  auto shapes = describe(header);
  if (!shapes) return shapes;
  const auto checked = check_selectors(header, *shapes, payload);
  if (!checked) return tl::make_unexpected(checked.error());
  return shapes;
}

FactorSetShapes describe_file(const SafetensorsFile& file) {
  auto shapes = checked_shapes(file.header(), file.bytes());
  if (!shapes) throw core::IoError(file.path().string() + ": " + shapes.error().detail);
  return std::move(*shapes);
}

}  // namespace

FactorSetFile::FactorSetFile(const std::filesystem::path& file)
    : file_(file), shapes_(describe_file(file_)) {}

Factors FactorSetFile::module(const std::string& name) const {
  const auto found = shapes_.modules.find(name);
  if (found == shapes_.modules.end()) {
    throw core::IoError(file_.path().string() + ": holds no module '" + name + "'");
  }
  return factors_of(file_.header(), name, found->second,
                    [&](const std::string& key) { return file_.tensor(key); });
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
  return to_safetensors(in_order(factors, Form::Dense), factors_metadata());
}

core::Bytes update_to_bytes(const FactorSet& factors) {
  return to_safetensors(in_order(factors, Form::Shortest), factors_metadata());
}

core::Expected<FactorSet> factor_set_from_bytes(core::ByteView payload,
                                                const SafetensorsLimits& limits) {
  const auto header = parse_safetensors(payload, limits);
  if (!header) return tl::make_unexpected(header.error());
  const auto shapes = checked_shapes(*header, payload);
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
