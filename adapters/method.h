#pragma once
// What a fine-tuning method is: an Adapter on a model, and its entry in the table of methods.
// A method composes a parameterisation (LinearAdapter), a start, an optimiser, extra loss terms and
// hooks around each step; the trainer drives all of them the same way (docs/adding-a-method.md).

#include <cstdint>
#include <functional>
#include <limits>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include <ATen/core/Tensor.h>

#include "adapters/optimizer.h"
#include "adapters/slots.h"
#include "core/config.h"
#include "models/model.h"
#include "models/product_form.h"
#include "tensors/factors.h"

namespace drystone::adapters {

/// What a client asked for. Names are those of the configuration's [training] section.
struct AdapterSpec {
  std::string method = "lora";
  std::int64_t rank = 8;
  double alpha = 16.0;
  std::vector<std::string> target_modules = {"all-linear"};  ///< suffixes, or {"all-linear"}
  double dropout = 0.0;        ///< on the side path's input while training
  core::Options options = {};  ///< the method's own; unknown ones are refused
  /// How low-rank side paths are computed; not a setting of the configuration.
  models::ProductForm form = models::ProductForm::Automatic;
};
AdapterSpec spec_of(const core::TrainingConfig& training);

/// Where an adapter starts and what keys its randomness.
struct AdapterStart {
  std::uint64_t seed = 0;
  std::uint64_t round = 0;   ///< 1-based
  std::uint64_t rounds = 0;  ///< of the federation; 0: unknown
  std::string client = {};   ///< "": the same start for everybody (common A)
  /// Factors to continue from (averaging rules), cut or padded to the adapter's rank: nullptr or a
  /// module that is missing means a fresh start. Borrowed for the factory's call.
  const std::map<std::string, tensors::Factors>* factors = nullptr;
  /// The weights before any version was published, by module (undefined if quantised), for methods
  /// that look at the pre-trained model (a truncation that happens once, a teacher); nullptr: the
  /// linears hold them. Borrowed for the factory's call.
  const std::map<std::string, at::Tensor>* pristine = nullptr;
  /// What was published of all clients' statistics so far; nullptr: nothing. Borrowed for the
  /// factory's call.
  const std::map<std::string, at::Tensor>* statistics = nullptr;
  /// What this client kept when it trained last (Adapter::memory); nullptr or empty: nothing.
  /// Borrowed for the factory's call.
  const std::map<std::string, at::Tensor>* memory = nullptr;

  /// What a dense linear held before any version; undefined if it is quantised.
  const at::Tensor& pristine_weight(const models::Linear& linear) const;
  /// Whether nothing was published for this linear.
  bool is_pristine(const models::Linear& linear) const;
};

/// Position within one local training.
struct Step {
  std::int64_t index = 0;  ///< 0-based optimiser step
  std::int64_t total = 0;
};

/// What an extra loss term may look at.
struct LossContext {
  models::Model& model;
  const models::Batch& batch;
  const at::Tensor& logits;  ///< undefined unless the adapter needs_logits()
  Step step;
  /// What the model's own dropout was keyed by for this step; empty: it is off. For methods that
  /// run the model themselves.
  std::optional<std::uint64_t> dropout_seed = std::nullopt;
};

/// What a second level of optimisation may use after a step.
struct UpperContext {
  enum class Data {
    LastBatch,  ///< the step's own examples; task loss and extra_loss
    HeldOut     ///< the next examples of those set apart; task loss alone
  };
  Step step;
  double learning_rate = 0.0;  ///< of this step, after its schedule
  /// Everything that is trained, the head's parts among them.
  const std::vector<Parameter>& parameters;
  /// Adds the gradients of a batch's mean loss to .grad; no dropout of any kind.
  std::function<void(Data)> backward;
};

/// A batch of a method that does not train.
struct Observation {
  const models::Batch& batch;             ///< labelled
  std::span<const std::size_t> examples;  ///< the rows' numbers in the client's data
};

class SidePath;

using TensorMap = std::map<std::string, at::Tensor>;

/// A method instance on a model. The model must outlive it; the destructor leaves the model plain.
/// Neither the base weights nor the model's dense parts are ever written to. One thread at a time.
class Adapter {
 public:
  virtual ~Adapter() = default;
  Adapter(const Adapter&) = delete;
  Adapter& operator=(const Adapter&) = delete;

  /// Between steps an adapter may leave its places to others and take them again, with the same
  /// weights in the model: it keeps all that it learnt. It is made attached.
  /// @throws core::InvalidArgument  another adapter is in one of its places
  virtual void attach() { slots_.take(); }
  /// Leaves the model plain.
  virtual void detach() { slots_.leave(); }

  /// The trainable leaves (shared handles), in a fixed order. Names are unique: "<module>.lora_A".
  virtual std::vector<Parameter> parameters() const = 0;
  /// @param parameters  the adapter's and the head's; the default is AdamW over all of them
  virtual std::unique_ptr<Optimizer> make_optimizer(std::vector<Parameter> parameters,
                                                    const AdamWOptions& options);

  /// Before the first micro-batch of a step. Dropout is drawn between the two calls only.
  virtual void before_step(const Step&) {}
  /// Once the step's gradients are complete, before they are clipped.
  virtual void on_gradients(const Step&) {}
  /// After the optimiser moved (gates' shrinkage, masks, refreshed sketches).
  virtual void after_step(const Step&) {}
  /// A scalar that is added to a micro-batch's task loss; undefined: none.
  virtual at::Tensor extra_loss(const LossContext&) { return {}; }
  /// Whether extra_loss looks at the logits: otherwise a language model's are never kept.
  virtual bool needs_logits() const { return false; }
  /// Passes over a micro-batch that extra_loss has made itself so far (a teacher's forward pass).
  virtual std::int64_t own_passes() const { return 0; }

  /// Its layers, where a pass may be shared with other adapters: the base and SidePath::terms are
  /// then all that their forward computes, and extra_loss looks at parameters alone. Empty: the
  /// method needs its passes to itself.
  virtual std::vector<SidePath*> side_paths() { return {}; }

  /// Share of the client's examples that the trainer sets apart for upper_step, the same ones in
  /// every round; 0: none, and no upper_step.
  virtual double held_out_share() const { return 0.0; }
  /// After after_step: methods that solve a bi-level problem move their upper level here.
  virtual void upper_step(const UpperContext&) {}

  /// The trained state as ΔW = B·A relative to the weight that each Linear held when the adapter
  /// was made; every scale is in B. Detached, contiguous, fp32, CPU, own storage.
  virtual std::map<std::string, tensors::Factors> export_delta() const = 0;

  /// Of a method that does not train, in place of steps: every example once, without dropout.
  /// @return  the task loss, summed over the batch's targets
  virtual double observe(const Observation&) { return 0.0; }
  /// What the method collected beside the factors, as Method::statistics declares it: fp32, on the
  /// CPU. The server adds the clients' weighted mean to what was published.
  virtual TensorMap statistics() const { return {}; }

  /// What the client keeps to itself for its next round: detached, CPU, own storage. Asked for
  /// after the last step, while the optimiser lives.
  virtual TensorMap memory() const { return {}; }

  /// Everything that a bit-exact resume needs beside the optimiser's state; default: parameters().
  virtual TensorMap state() const;
  /// @throws core::InvalidArgument  names or shapes differ
  virtual void load_state(const TensorMap& state);

 protected:
  Adapter() = default;
  /// The places that attach() takes; to be filled, and attached, by the constructor.
  Slots slots_;
};

/// An option of a method: its default also fixes its type (an integer is accepted for a double).
struct MethodOption {
  std::string_view name;
  core::OptionValue default_value;
  std::string_view help;
  double least = -std::numeric_limits<double>::infinity();  ///< of a number, itself allowed
  double most = std::numeric_limits<double>::infinity();
  std::vector<std::string_view> choices = {};  ///< of a text; empty: any
};

/// One row of the table in registry.cpp.
struct Method {
  std::string_view name;
  std::string_view summary;  ///< one line with the paper
  std::vector<MethodOption> options;
  std::unique_ptr<Adapter> (*make)(models::Model&, const AdapterSpec&, const AdapterStart&);
  /// The largest rank that export_delta gives a module; nullptr: the specification's rank.
  std::int64_t (*export_rank)(const AdapterSpec&) = nullptr;
  /// The largest rank with which `make` takes a layer [out, in]; nullptr: its sides set none,
  /// though more than the smaller of them is of no use to B · A.
  std::int64_t (*rank_limit)(std::int64_t out, std::int64_t in) = nullptr;
  bool continues = false;  ///< can start from AdapterStart::factors
  /// false: clients pass over their data once (Adapter::observe) and send statistics alone.
  bool trains = true;
  /// What its option "of" may name; that method's options stand beside its own. nullptr: nothing.
  std::span<const Method> (*inner)() = nullptr;
  /// Names and shapes of Adapter::statistics; nullptr: none.
  std::map<std::string, std::vector<std::int64_t>> (*statistics)(models::Model&,
                                                                 const AdapterSpec&) = nullptr;
};

/// Options of a complete specification.
double number(const AdapterSpec& spec, const std::string& option);
std::int64_t integer(const AdapterSpec& spec, const std::string& option);
bool flag(const AdapterSpec& spec, const std::string& option);
const std::string& text(const AdapterSpec& spec, const std::string& option);

/// The rank of a full [out, in] matrix.
std::int64_t smaller_side(std::int64_t out, std::int64_t in);

/// Whether `target_modules` means the linear `name`: {"all-linear"} is every one; otherwise it
/// equals a target or ends with "." + target (PEFT's rule).
bool is_target(std::string_view name, const std::vector<std::string>& target_modules);

/// The linears that `target_modules` means (is_target), in forward order.
/// @throws core::ConfigError  a target without a match; the message lists what exists
std::vector<models::Linear*> match_linears(models::Model& model,
                                           const std::vector<std::string>& target_modules);

}  // namespace drystone::adapters
