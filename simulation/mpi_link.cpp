// A link over MPI. One thread makes every call of MPI, from MPI_Init_thread to MPI_Finalize, so
// that MPI_THREAD_FUNNELED is enough, which every MPI has.

#include <algorithm>
#include <atomic>
#include <deque>
#include <future>
#include <map>
#include <mutex>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include <sched.h>
#include <unistd.h>

#define OMPI_SKIP_MPICXX 1  // the bindings of C alone
#define MPICH_SKIP_MPICXX 1
#include <mpi.h>

#include "core/channel.h"
#include "core/error.h"
#include "simulation/launcher.h"
#include "simulation/link.h"

namespace drystone::simulation {

namespace {

using namespace std::chrono_literals;

/// MPI waits by spinning, which would take a core from the trainings: the thread asks and sleeps.
/// A message waits half of it on average, once at each end.
constexpr auto kPause = 500us;
/// While something is under way: MPI moves it on only when it is asked.
constexpr auto kShortPause = 20us;
/// MPI counts bytes in an int.
constexpr std::uint64_t kPieceBytes = 64ULL << 20;
/// More than a version of a model that one machine trains can have; beyond it the size is damaged.
constexpr std::uint64_t kMostBytes = 1ULL << 37;
/// Of messages on their way out, and as much that nobody has taken yet.
constexpr std::uint64_t kMostWaiting = 256ULL << 20;
/// In the place of a message's size: its sender says no more.
constexpr std::uint64_t kEnd = ~0ULL;
constexpr int kTag = 0;

/// A message that is being sent: its size, then its bytes in pieces.
struct Sending {
  std::uint64_t size = 0;
  std::shared_ptr<const core::Bytes> bytes;
  std::vector<MPI_Request> requests;
};

/// A message that is being received.
struct Receiving {
  core::Bytes bytes;
  std::uint64_t num_missing = 0;
};

int as_count(std::uint64_t bytes) { return static_cast<int>(bytes); }

/// Cores that this process may use, each divided by the processes of the machine that may.
std::size_t part_of_cores() {
  cpu_set_t own;
  CPU_ZERO(&own);
  if (::sched_getaffinity(0, sizeof own, &own) != 0) return 1;
  MPI_Comm machine = MPI_COMM_NULL;
  MPI_Comm_split_type(MPI_COMM_WORLD, MPI_COMM_TYPE_SHARED, 0, MPI_INFO_NULL, &machine);
  int num_here = 1;
  MPI_Comm_size(machine, &num_here);
  std::vector<cpu_set_t> all(static_cast<std::size_t>(num_here));
  MPI_Allgather(&own, sizeof own, MPI_BYTE, all.data(), sizeof own, MPI_BYTE, machine);
  MPI_Comm_free(&machine);
  double cores = 0.0;
  for (std::size_t core = 0; core < CPU_SETSIZE; ++core) {
    if (!CPU_ISSET(core, &own)) continue;
    const auto sharers =
        std::ranges::count_if(all, [&](const cpu_set_t& one) { return CPU_ISSET(core, &one); });
    cores += 1.0 / static_cast<double>(sharers);
  }
  constexpr double kRounding = 1e-6;
  return std::max<std::size_t>(1, static_cast<std::size_t>(cores + kRounding));
}

class MpiLink final : public Link {
 public:
  MpiLink() {
    std::promise<void> begun;
    std::future<void> is_begun = begun.get_future();
    thread_ = std::thread([this, begun = std::move(begun)]() mutable { run(std::move(begun)); });
    is_begun.wait();
  }
  ~MpiLink() override {
    if (index_ == 0) {
      for (int other = 1; other < num_processes_; ++other) outbox_.send({other, nullptr});
    }
    is_closing_ = true;
    thread_.join();
  }
  MpiLink(const MpiLink&) = delete;
  MpiLink& operator=(const MpiLink&) = delete;

  int index() const override { return index_; }
  int num_processes() const override { return num_processes_; }
  std::size_t num_cores() const override { return num_cores_; }

  void send(int to, std::shared_ptr<const core::Bytes> message) override {
    while (bytes_out_ > kMostWaiting) std::this_thread::sleep_for(kPause);
    bytes_out_ += message->size();
    outbox_.send({to, std::move(message)});
  }

  std::optional<Incoming> receive(std::chrono::milliseconds timeout) override {
    auto item = inbox_.receive_for(timeout);
    if (!item) return std::nullopt;
    if (item->is_end || !item->problem.empty()) is_over_ = true;
    if (!item->problem.empty()) throw core::Error(item->problem);
    bytes_in_ -= item->incoming.message.size();
    if (item->incoming.from < 0) return std::nullopt;
    return std::move(item->incoming);
  }

  bool is_over() const override { return is_over_; }
  void wake() override { inbox_.send({}); }
  void on_arrival(std::function<void()> hook) override {
    const std::scoped_lock lock(hook_mutex_);
    hook_ = std::move(hook);
  }

 private:
  struct Outgoing {
    int to;
    std::shared_ptr<const core::Bytes> message;  ///< nullptr: the end
  };
  struct Item {
    Incoming incoming = {.from = -1, .message = {}};  ///< from −1: a wake-up
    bool is_end = false;
    std::string problem = {};
  };

  void run(std::promise<void> begun) {
    int provided = 0;
    MPI_Init_thread(nullptr, nullptr, MPI_THREAD_FUNNELED, &provided);
    MPI_Comm_rank(MPI_COMM_WORLD, &index_);
    MPI_Comm_size(MPI_COMM_WORLD, &num_processes_);
    num_cores_ = part_of_cores();
    begun.set_value();
    while (!is_closing_) work();
    begin_sending();  // what came before the end
    while (!sending_.empty()) work();
    leave_together();
    MPI_Finalize();
  }

  void work() {
    const bool is_any_begun = begin_sending();
    const bool is_any_done = finish_sending();
    const bool is_any_here = take_one();
    if (is_any_begun || is_any_done || is_any_here) return;
    const bool is_under_way = !sending_.empty() || num_unfinished_ > 0;
    std::this_thread::sleep_for(is_under_way ? kShortPause : kPause);
  }

  /// When all have sent everything. Until then takes what is still sent to this one.
  void leave_together() {
    MPI_Request all_there = MPI_REQUEST_NULL;
    MPI_Ibarrier(MPI_COMM_WORLD, &all_there);
    for (int is_done = 0; is_done == 0; work()) {
      MPI_Test(&all_there, &is_done, MPI_STATUS_IGNORE);
    }
  }

  bool begin_sending() {
    bool any = false;
    while (auto next = outbox_.try_receive()) {
      Sending& one = sending_.emplace_back();  // a deque: it stays where it is
      one.bytes = std::move(next->message);
      one.size = one.bytes ? one.bytes->size() : kEnd;
      post(one, &one.size, sizeof one.size, next->to);
      const std::uint64_t size = one.bytes ? one.size : 0;
      for (std::uint64_t begin = 0; begin < size; begin += kPieceBytes) {
        post(one, one.bytes->data() + begin, std::min(kPieceBytes, size - begin), next->to);
      }
      any = true;
    }
    return any;
  }

  static void post(Sending& one, const void* bytes, std::uint64_t size, int to) {
    MPI_Isend(bytes, as_count(size), MPI_BYTE, to, kTag, MPI_COMM_WORLD,
              &one.requests.emplace_back(MPI_REQUEST_NULL));
  }

  bool finish_sending() {
    const std::size_t before = sending_.size();
    for (Sending& one : sending_) {
      int is_done = 0;
      MPI_Testall(static_cast<int>(one.requests.size()), one.requests.data(), &is_done,
                  MPI_STATUSES_IGNORE);
      if (is_done != 0) one.requests.clear();
    }
    while (!sending_.empty() && sending_.front().requests.empty()) {
      if (sending_.front().bytes) bytes_out_ -= sending_.front().bytes->size();
      sending_.pop_front();
    }
    return sending_.size() != before;
  }

  /// The next piece of whatever comes, unless too much waits already.
  bool take_one() {
    if (bytes_in_ > kMostWaiting && !is_closing_) return false;
    int is_there = 0;
    MPI_Message piece = MPI_MESSAGE_NULL;
    MPI_Status status;
    MPI_Improbe(MPI_ANY_SOURCE, kTag, MPI_COMM_WORLD, &is_there, &piece, &status);
    if (is_there == 0) return false;
    int size = 0;
    MPI_Get_count(&status, MPI_BYTE, &size);
    Receiving& one = receiving_[status.MPI_SOURCE];
    const auto num_bytes = static_cast<std::uint64_t>(size);
    const bool fits =
        one.num_missing > 0 ? num_bytes <= one.num_missing : num_bytes == sizeof(std::uint64_t);
    if (!fits || is_broken_) {
      drop(piece, num_bytes);
      break_off(status.MPI_SOURCE);
    } else if (one.num_missing > 0) {
      take_bytes(one, piece, num_bytes);
      if (one.num_missing == 0) finish(status.MPI_SOURCE, one);
    } else {
      take_size(status.MPI_SOURCE, one, piece);
    }
    return true;
  }

  void take_size(int from, Receiving& one, MPI_Message& piece) {
    std::uint64_t size = 0;
    MPI_Mrecv(&size, sizeof size, MPI_BYTE, &piece, MPI_STATUS_IGNORE);
    if (size == kEnd) return hand_over({.is_end = true});
    if (size == 0 || size > kMostBytes) return break_off(from);
    one.bytes.resize(size);
    one.num_missing = size;
    ++num_unfinished_;
  }

  static void take_bytes(Receiving& one, MPI_Message& piece, std::uint64_t size) {
    std::uint8_t* const to = one.bytes.data() + (one.bytes.size() - one.num_missing);
    MPI_Mrecv(to, as_count(size), MPI_BYTE, &piece, MPI_STATUS_IGNORE);
    one.num_missing -= size;
  }

  static void drop(MPI_Message& piece, std::uint64_t size) {
    core::Bytes bytes(size);
    MPI_Mrecv(bytes.data(), as_count(size), MPI_BYTE, &piece, MPI_STATUS_IGNORE);
  }

  void finish(int from, Receiving& one) {
    --num_unfinished_;
    bytes_in_ += one.bytes.size();
    hand_over({.incoming = {from, std::exchange(one.bytes, {})}});
  }

  void hand_over(Item item) {
    inbox_.send(std::move(item));
    const std::scoped_lock lock(hook_mutex_);  // whom it calls does not go meanwhile
    if (hook_) hook_();
  }

  void break_off(int from) {
    if (std::exchange(is_broken_, true)) return;
    hand_over({.problem = "process " + std::to_string(from) +
                          " sent what is no message; start all processes from one build"});
  }

  int index_ = 0;
  int num_processes_ = 1;
  std::size_t num_cores_ = 1;
  std::mutex hook_mutex_;
  std::function<void()> hook_;  ///< guarded by hook_mutex_
  core::Channel<Outgoing> outbox_;
  core::Channel<Item> inbox_;
  std::atomic<std::uint64_t> bytes_out_{0};
  std::atomic<std::uint64_t> bytes_in_{0};
  std::atomic<bool> is_closing_{false};
  bool is_over_ = false;    ///< receiver's
  bool is_broken_ = false;  ///< MPI thread's, as what follows
  std::deque<Sending> sending_;
  std::map<int, Receiving> receiving_;  ///< by sender
  int num_unfinished_ = 0;              ///< of these
  std::thread thread_;
};

}  // namespace

std::unique_ptr<Link> open_link() {
  const std::int64_t num_processes = num_launched();
  if (num_processes == 1) return nullptr;
  auto link = std::make_unique<MpiLink>();
  if (link->num_processes() > 1) return link;
  throw core::ConfigError("started as one of " + std::to_string(num_processes) +
                          " processes, but MPI knows of one: start them by the mpirun of the MPI "
                          "that this was built with, or by srun --mpi=pmix");
}

}  // namespace drystone::simulation
