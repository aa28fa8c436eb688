#include "simulation/trainers.h"

#include <memory>
#include <utility>

namespace drystone::simulation {

using namespace std::chrono_literals;

Trainers::Trainers(const Members& members, const core::Config& config, Link* link, TrainSlot train,
                   std::function<void()> wake, const std::stop_token& stop)
    : num_here_(members.num_workers()),
      train_(std::move(train)),
      workers_(num_here_, {.on_thread_start = {}, .on_finished = wake}) {
  if (link == nullptr) return;
  helpers_.emplace(*link, introduce(members, config, num_here_), std::move(wake), stop);
}

std::size_t Trainers::num_workers() const {
  return num_here_ + (helpers_ ? helpers_->num_workers() : 0);
}

void Trainers::follow(std::uint64_t version, coordinator::Store& store) {
  if (helpers_) helpers_->publish(version, store);
}

void Trainers::train(SlotTraining slot) {
  waiting_.push_back(std::move(slot));
  give_out();
}

bool Trainers::run_finished() {
  const bool any_here = workers_.run_finished(0ms);
  const bool any_there = helpers_ && helpers_->run_finished();
  give_out();
  return any_here || any_there;
}

/// Another process first: this one has the coordinator to run as well.
void Trainers::give_out() {
  while (!waiting_.empty()) {
    const bool is_free_there = helpers_ && helpers_->num_idle() > 0;
    if (!is_free_there && !is_idle()) return;
    SlotTraining next = std::move(waiting_.front());
    waiting_.pop_front();
    if (is_free_there) {
      helpers_->train(std::move(next));
    } else {
      train_here(std::move(next));
    }
  }
}

/// Alone, this process may as well queue its work with its workers.
bool Trainers::is_idle() const { return !helpers_ || workers_.num_pending() < num_here_; }

void Trainers::train_here(SlotTraining slot) {
  auto shared = std::make_shared<SlotTraining>(std::move(slot));
  workers_.post([this, shared]() -> core::WorkerPool::Continuation {
    auto results = std::make_shared<std::vector<client::JobResult>>(train_(*shared));
    return [shared, results] { shared->on_done(std::move(*results)); };
  });
}

}  // namespace drystone::simulation
