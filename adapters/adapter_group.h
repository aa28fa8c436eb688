#pragma once
// Several adapters, of any ranks and methods, on one model at a time: each sees its own rows.

#include <cstdint>
#include <deque>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include <ATen/core/Tensor.h>

#include "adapters/method.h"
#include "adapters/slots.h"
#include "models/linear.h"
#include "models/model.h"

namespace drystone::adapters {

/// Which rows of a pass's tensors belong to which member: members' rows follow each other. A model
/// computes on all tokens, then on the targets or one token a sample; each of these layouts has a
/// number of rows of its own, or the same division as the other.
class RowSplit {
 public:
  /// @param counts  rows of each member in one layout
  void add(const std::vector<std::int64_t>& counts);
  /// First row and count of a member in the layout of so many rows.
  /// @throws core::InvalidArgument  no layout has them
  std::pair<std::int64_t, std::int64_t> of(std::size_t member, std::int64_t num_rows) const;

 private:
  std::vector<std::vector<std::int64_t>> offsets_;  ///< of each layout: members + 1
};

/// One member: its adapter's layers, and its own leaves in place of the model's dense parts.
struct GroupMember {
  std::vector<SidePath*> paths;
  std::span<const Parameter> head;
};

/// Puts all members into the model; the destructor leaves it plain. All are borrowed.
class AdapterGroup {
 public:
  /// @throws core::InvalidArgument  the model has an adapter, or a dense part that is none of its
  ///                                head's layers
  AdapterGroup(models::Model& model, const std::vector<GroupMember>& members);
  AdapterGroup(const AdapterGroup&) = delete;
  AdapterGroup& operator=(const AdapterGroup&) = delete;

  /// Before each pass.
  void set_rows(RowSplit split) { split_ = std::move(split); }

 private:
  /// A linear with the side paths of those that adapt it.
  class Layer final : public models::LinearAdapter {
   public:
    explicit Layer(const RowSplit& split) : split_(split) {}
    void add(std::size_t member, SidePath& path) { paths_.emplace_back(member, &path); }
    at::Tensor forward(const models::Linear& base, const models::LayerInput& x) override;

   private:
    const RowSplit& split_;
    std::vector<std::pair<std::size_t, SidePath*>> paths_;
  };

  /// A layer of the head: every member has a weight of its own.
  class Head final : public models::LinearAdapter {
   public:
    Head(const RowSplit& split, const std::string& name, const std::vector<GroupMember>& members);
    at::Tensor forward(const models::Linear& base, const models::LayerInput& x) override;

   private:
    const RowSplit& split_;
    std::vector<std::pair<at::Tensor, at::Tensor>> leaves_;  ///< weight, bias or undefined
  };

  RowSplit split_;
  std::deque<Layer> layers_;
  std::deque<Head> heads_;
  Slots slots_;  // last: leaves before the layers go
};

}  // namespace drystone::adapters
