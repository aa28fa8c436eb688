// What an ensemble's prediction costs: members in one pass over the base, one after the other
// beside it, and one after the other with each folded into its own weights.
// Run: build/bin/member_passes MODEL [members] [rank] [rows] [tokens] [repetitions]

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include <ATen/Parallel.h>
#include <ATen/TensorOperators.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/full.h>
#include <ATen/ops/ones.h>
#include <ATen/ops/stack.h>

#include "models/load.h"
#include "tensors/random.h"
#include "training/member_predictor.h"

namespace {

using namespace drystone;

training::PredictedMember random_member(models::Model& model, std::uint64_t seed,
                                        std::int64_t rank) {
  training::PredictedMember member;
  for (const models::Linear* linear : model.linears()) {
    const std::string b = "b/" + linear->name;
    const std::string a = "a/" + linear->name;
    member.modules[linear->name] = {
        .b = tensors::random_normal({.seed = seed, .purpose = b}, {linear->out_features(), rank},
                                    0.0, 0.02),
        .a = tensors::random_normal({.seed = seed, .purpose = a}, {rank, linear->in_features()},
                                    0.0, 0.02)};
  }
  return member;
}

/// One after the other on folded copies of all weights.
at::Tensor folded(models::Model& model, const std::vector<training::PredictedMember>& members,
                  const models::Batch& batch, double& folding_ms) {
  std::vector<at::Tensor> all;
  for (const training::PredictedMember& member : members) {
    std::map<std::string, at::Tensor> kept;
    const auto start = std::chrono::steady_clock::now();
    for (models::Linear* linear : model.linears()) {
      kept[linear->name] = linear->weight;
      linear->weight = linear->weight + member.modules.at(linear->name).product();
    }
    folding_ms +=
        std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - start).count();
    all.push_back(model.logits(batch));
    for (models::Linear* linear : model.linears()) linear->weight = kept.at(linear->name);
  }
  return at::stack(all);
}

template <typename Body>
double best_ms(int repetitions, const Body& body) {
  double best = 1e300;
  for (int i = 0; i < repetitions; ++i) {
    const auto start = std::chrono::steady_clock::now();
    body();
    const auto end = std::chrono::steady_clock::now();
    best = std::min(best, std::chrono::duration<double, std::milli>(end - start).count());
  }
  return best;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 2) {
    std::fprintf(stderr, "usage: member_passes MODEL [members] [rank] [rows] [tokens] [times]\n");
    return 2;
  }
  const auto number = [&](int at, int otherwise) {
    return argc > at ? std::atoi(argv[at]) : otherwise;
  };
  const int members = number(2, 5);
  const int repetitions = number(6, 5);
  const std::int64_t rank = number(3, 8);
  const std::int64_t rows = number(4, 16);
  const std::int64_t tokens = number(5, 64);
  at::set_num_threads(1);
  const at::NoGradGuard no_grad;
  const auto model = models::load_model({.folder = argv[1], .num_labels = 3});
  std::vector<training::PredictedMember> all;
  for (int m = 0; m < members; ++m) {
    all.push_back(random_member(*model, static_cast<std::uint64_t>(m) + 1, rank));
  }
  const models::Batch batch{.input_ids = at::full({rows, tokens}, 5, at::kLong),
                            .pad_mask = at::ones({rows, tokens}, at::kBool),
                            .labels = {},
                            .segments = {}};
  double folding = 0.0;
  at::Tensor expected;
  const double own = best_ms(repetitions, [&] {
    folding = 0.0;
    expected = folded(*model, all, batch, folding);
  });
  std::printf("folded, one by one   %8.1f ms, %.1f ms of it folding\n", own, folding);
  for (const bool batched : {false, true}) {
    training::MemberPredictor predictor(*model, all, {.batched = batched});
    at::Tensor logits;
    const double time = best_ms(repetitions, [&] { logits = predictor.logits(batch); });
    std::printf("%-20s %8.1f ms, %.2f of folded, largest difference %.1e\n",
                batched ? "in one pass" : "beside W, one by one", time, time / own,
                (logits - expected).abs().max().item<double>());
  }
  return 0;
}
