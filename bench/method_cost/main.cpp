// What a training step costs with each method of the registry, as a ratio to LoRA's in the same
// run: docs/measurements.md. One step of every method in turn, LoRA first and last in each turn,
// one thread, processor time; a ratio is the median over turns. On a GPU it is time by the clock,
// of a step until the GPU is done with it, of its parts until they are queued.
// Run: build/bench/method_cost [linear|encoder|decoder|all] [turns] [METHOD,…|all] [cpu|cuda:N]

#include <algorithm>
#include <cstdio>
#include <ctime>
#include <exception>
#include <functional>
#include <iterator>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include <ATen/TensorOperators.h>
#include <c10/core/impl/VirtualGuardImpl.h>

#include "adapters/registry.h"
#include "bench/method_cost/shapes.h"
#include "core/text.h"
#include "models/device.h"
#include "tensors/process.h"
#include "tensors/random.h"
#include "tensors/threads.h"

namespace {

using namespace drystone;
using adapters::Step;
using adapters::UpperContext;

constexpr std::int64_t kRank = 8;
constexpr double kRate = 1e-4;
/// In the middle of a training, where courses over it are under way.
constexpr std::int64_t kFirstStep = 50;
constexpr std::int64_t kTotalSteps = 100;

/// Where the models are; set once, before the first is made.
at::Device device = at::kCPU;

double now_ms() {
  timespec now{};
  clock_gettime(device.is_cpu() ? CLOCK_PROCESS_CPUTIME_ID : CLOCK_MONOTONIC, &now);
  return 1e3 * static_cast<double>(now.tv_sec) + 1e-6 * static_cast<double>(now.tv_nsec);
}

/// Once the device has computed all that it was told.
double done_ms() {
  if (!device.is_cpu()) {
    const c10::impl::VirtualGuardImpl guard(device.type());
    guard.synchronizeDevice(device.index());
  }
  return now_ms();
}

double median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return values[values.size() / 2];
}

/// A row of the table: a method with its defaults, or with one option of another value.
struct Variant {
  std::string method;
  std::string option = {};
  core::OptionValue value = {};

  std::string name() const {
    if (option.empty()) return method;
    const auto* text = std::get_if<std::string>(&value);
    return method + ", " + option + " = " +
           (text != nullptr ? *text : core::format_double(std::get<double>(value)));
  }
};

/// Every method of the registry, and options that change what a step costs.
std::vector<Variant> variants(const std::vector<std::string>& chosen) {
  const std::vector<Variant> further = {
      {.method = "ba-lora", .option = "consistency", .value = 0.0},
      {.method = "kasa", .option = "core", .value = std::string("full")},
      {.method = "bilora", .option = "hypergradient", .value = std::string("first-order")},
      {.method = "lora-pro", .option = "mode", .value = std::string("full")},
      {.method = "lora-rite", .option = "moments", .value = std::string("paper")},
      {.method = "loraprune", .option = "form", .value = std::string("paper")},
      {.method = "laplace-lora", .option = "labels", .value = std::string("sampled")},
      {.method = "lora-ensemble", .option = "kl", .value = 0.1}};
  std::vector<Variant> all;
  for (const adapters::Method& method : adapters::methods()) {
    const std::string name(method.name);
    const bool is_chosen = chosen.empty() || std::ranges::find(chosen, name) != chosen.end();
    if (!is_chosen) continue;
    all.push_back({.method = name});
    std::ranges::copy_if(further, std::back_inserter(all),
                         [&](const Variant& variant) { return variant.method == name; });
  }
  return all;
}

/// Milliseconds of a step and of its parts.
struct Cost {
  double step = 0.0;
  double terms = 0.0;      ///< forward of the method's own loss terms
  double optimizer = 0.0;  ///< a second level not included
  double hooks = 0.0;      ///< before, between and after
  double upper = 0.0;      ///< the second level
};

/// A method at work on a model of its own.
class Training {
 public:
  Training(const Variant& variant, const method_cost::Shape& shape)
      : name_(variant.name()),
        model_(shape.model()),
        batch_(shape.batch(1)),
        held_out_(shape.batch(2)) {
    adapters::AdapterSpec spec{.method = variant.method, .rank = kRank};
    if (!variant.option.empty()) spec.options[variant.option] = variant.value;
    adapters::statistics_of(*model_, spec);  // refuses a model that a method can do nothing with
    trains_ = adapters::find_method(variant.method).trains;
    const std::map<std::string, tensors::Factors> factors = trained();
    const double begin = now_ms();
    adapter_ = adapters::make_adapter(
        *model_, spec,
        {.seed = 1, .round = 1, .client = "bench", .factors = trains_ ? nullptr : &factors});
    start_ms_ = done_ms() - begin;
    for (std::int64_t row = 0; row < batch_.input_ids.size(0); ++row) {
      examples_.push_back(static_cast<std::size_t>(row));
    }
    if (!trains_) return;
    parameters_ = adapter_->parameters();
    optimizer_ = adapter_->make_optimizer(parameters_, {});
  }

  /// One step; of a method that does not train, one batch.
  Cost step() {
    const double begin = now_ms();
    Cost cost;
    if (trains_) {
      train(cost);
    } else {
      adapter_->observe({.batch = batch_, .examples = examples_});
    }
    cost.step = done_ms() - begin;
    return cost;
  }
  void add(const Cost& cost, double lora) {
    costs_.push_back(cost);
    ratios_.push_back(cost.step / lora);
  }
  void print() const {
    const auto of = [&](double Cost::* part) {
      std::vector<double> values;
      for (const Cost& cost : costs_) values.push_back(cost.*part);
      return median(std::move(values));
    };
    std::printf("| %s | %.1f | %.2f | %.2f | %.2f | %.2f | %.2f | %.2f |\n", name_.c_str(),
                start_ms_, of(&Cost::step), median(ratios_), of(&Cost::terms), of(&Cost::hooks),
                of(&Cost::optimizer), of(&Cost::upper));
  }

 private:
  /// For methods that look at what was trained.
  std::map<std::string, tensors::Factors> trained() const {
    std::map<std::string, tensors::Factors> factors;
    for (const models::Linear* linear : model_->linears()) {
      const core::StreamKey key{.seed = 4, .purpose = linear->name};
      const auto random = [&](std::int64_t rows, std::int64_t columns) {
        return tensors::random_normal(key, {rows, columns}, 0.0, 0.02, device);
      };
      factors[linear->name] = {.b = random(linear->out_features(), kRank),
                               .a = random(kRank, linear->in_features())};
    }
    return factors;
  }

  void train(Cost& cost) {
    const Step step{.index = kFirstStep + index_, .total = kTotalSteps + index_};
    ++index_;
    timed(cost.hooks, [&] { adapter_->before_step(step); });
    optimizer_->zero_grad();
    backward(batch_, /*extra=*/true, step, cost.terms);
    timed(cost.hooks, [&] { adapter_->on_gradients(step); });
    timed(cost.optimizer, [&] { optimizer_->step(kRate); });
    timed(cost.hooks, [&] { adapter_->after_step(step); });
    if (adapter_->held_out_share() == 0.0) return;
    double terms = 0.0;  // part of the upper level
    const auto pass = [&](UpperContext::Data which) {
      const bool is_last = which == UpperContext::Data::LastBatch;
      backward(is_last ? batch_ : held_out_, is_last, step, terms);
    };
    timed(cost.upper, [&] {
      adapter_->upper_step(
          {.step = step, .learning_rate = kRate, .parameters = parameters_, .backward = pass});
    });
  }

  /// As the trainer's.
  void backward(const models::Batch& batch, bool extra, const Step& step, double& terms_ms) {
    const bool keeps_logits = extra && adapter_->needs_logits();
    const at::Tensor logits = keeps_logits ? model_->logits(batch) : at::Tensor();
    at::Tensor loss = logits.defined() ? model_->loss(logits, batch) : model_->batch_loss(batch);
    if (extra) {
      at::Tensor terms;
      timed(terms_ms, [&] {
        terms = adapter_->extra_loss(
            {.model = *model_, .batch = batch, .logits = logits, .step = step});
      });
      if (terms.defined()) loss = loss + terms;
    }
    loss.backward();
  }

  static void timed(double& sum, const std::function<void()>& body) {
    const double begin = now_ms();
    body();
    sum += now_ms() - begin;
  }

  std::string name_;
  std::unique_ptr<models::Model> model_;
  models::Batch batch_;
  models::Batch held_out_;
  bool trains_ = true;
  std::unique_ptr<adapters::Adapter> adapter_;
  std::vector<adapters::Parameter> parameters_;
  std::unique_ptr<adapters::Optimizer> optimizer_;
  std::vector<std::size_t> examples_;
  std::int64_t index_ = 0;
  double start_ms_ = 0.0;
  std::vector<Cost> costs_;
  std::vector<double> ratios_;
};

void measure(const method_cost::Shape& shape, int turns, const std::vector<Variant>& all) {
  Training lora({.method = "lora"}, shape);
  std::vector<std::unique_ptr<Training>> trainings;
  std::vector<std::string> left_out;
  for (const Variant& variant : all) {
    try {
      auto training = std::make_unique<Training>(variant, shape);
      training->step();
      trainings.push_back(std::move(training));
    } catch (const std::exception& error) {  // a device's own errors, too
      left_out.push_back(variant.name() + ": " + error.what());
    }
  }
  lora.step();
  std::vector<Cost> costs(trainings.size());
  for (int turn = 0; turn < turns; ++turn) {
    const double before = lora.step().step;
    for (std::size_t i = 0; i < trainings.size(); ++i) costs[i] = trainings[i]->step();
    const double reference = 0.5 * (before + lora.step().step);
    for (std::size_t i = 0; i < trainings.size(); ++i) trainings[i]->add(costs[i], reference);
  }
  std::printf("\n%s\n\n", shape.about().c_str());
  std::printf(
      "| method | start, ms | step, ms | x LoRA | loss terms | hooks | optimiser | upper level |\n"
      "|---|--:|--:|--:|--:|--:|--:|--:|\n");
  for (const auto& training : trainings) training->print();
  for (const std::string& line : left_out) std::printf("\nLeft out: %s\n", line.c_str());
}

std::vector<std::string> split(const std::string& text) {
  std::vector<std::string> parts;
  for (std::size_t at = 0; at <= text.size();) {
    const std::size_t end = std::min(text.find(',', at), text.size());
    if (end > at) parts.push_back(text.substr(at, end - at));
    at = end + 1;
  }
  return parts;
}

int run(const std::vector<std::string>& arguments) {
  tensors::use_threads(1);
  const auto argument = [&](std::size_t i, const std::string& otherwise) {
    return arguments.size() > i ? arguments[i] : otherwise;
  };
  const std::string chosen = argument(0, "all");
  const int turns = std::max(1, std::stoi(argument(1, "15")));
  std::vector<std::string> methods = split(argument(2, "all"));
  if (methods == std::vector<std::string>{"all"}) methods.clear();
  device = models::parse_device(argument(3, "cpu"));
  for (const std::string& name : methods) adapters::find_method(name);  // or throws
  for (const std::string& name : chosen == "all" ? method_cost::shape_names() : split(chosen)) {
    measure(*method_cost::make_shape(name, device), turns, variants(methods));
  }
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  tensors::tune_process();
  try {
    return run({argv + 1, argv + argc});
  } catch (const std::exception& error) {
    std::fprintf(stderr, "method_cost: %s\n", error.what());
    return 2;
  }
}
