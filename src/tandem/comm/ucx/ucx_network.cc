#include "tandem/comm/ucx/ucx_network.h"

#include <poll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <exception>
#include <future>
#include <mutex>
#include <thread>
#include <utility>
#include <variant>
#include <vector>

#include "tandem/base/clock.h"
#include "tandem/comm/ucx/ucx_worker.h"

namespace tandem {

namespace {

// What the thread is asked to do.
struct Renewal {
  std::promise<std::string> address;
};
struct Connection {
  int process;
  std::string address;
};
struct Posting {
  int process;
  Envelope envelope;
  Message message;
};
using Job = std::variant<Renewal, Connection, Posting>;

}  // namespace

class UcxNetwork::Impl {
 public:
  Impl(int self, int processes, Settings settings, Deliver deliver, Changed changed)
      : wake_(eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC)),
        spin_seconds_(settings.spin_seconds),
        make_worker_([=, settings = std::move(settings)] {
          return std::make_unique<ucx::Worker>(self, processes, settings, deliver, changed);
        }) {
    if (wake_ < 0) throw_errno("an event descriptor");
    thread_ = std::thread([this] { run(); });
  }

  ~Impl() {
    stopping_ = true;
    wake();
    thread_.join();
    ::close(wake_);
  }

  void ask(Job job) {
    {
      const std::lock_guard lock(mutex_);
      jobs_.push_back(std::move(job));
    }
    pending_.store(true);
    if (asleep_.load()) wake();
  }

 private:
  void run() {
    double spin_until = 0;
    while (!stopping_) {
      bool busy = do_jobs();
      while (progress()) busy = true;
      if (busy)
        spin_until = wall_seconds() + spin_seconds_;
      else if (wall_seconds() >= spin_until)
        sleep();
    }
    do_jobs();
    while (progress()) continue;
    worker_.reset();
  }

  bool progress() { return worker_ && worker_->progress(); }

  bool do_jobs() {
    if (!pending_.exchange(false)) return false;
    {
      const std::lock_guard lock(mutex_);
      taken_.swap(jobs_);
    }
    for (Job& job : taken_) std::visit([this](auto& some) { obey(some); }, job);
    const bool some = !taken_.empty();
    taken_.clear();
    return some;
  }

  void obey(Renewal& job) {
    worker_.reset();
    try {
      worker_ = make_worker_();
      job.address.set_value(worker_->address());
    } catch (...) {
      job.address.set_exception(std::current_exception());
    }
  }
  void obey(Connection& job) {
    if (worker_) worker_->connect(job.process, std::move(job.address));
  }
  void obey(Posting& job) {
    if (worker_) worker_->send(job.process, job.envelope, std::move(job.message));
  }

  // Until there is something to do.
  void sleep() {
    asleep_ = true;
    if (!pending_ && !stopping_ && (!worker_ || worker_->arm())) {
      std::array<pollfd, 2> events{
          pollfd{.fd = wake_, .events = POLLIN, .revents = 0},
          pollfd{.fd = worker_ ? worker_->event_descriptor() : -1, .events = POLLIN, .revents = 0}};
      ::poll(events.data(), events.size(), 1000);
      uint64_t count = 0;
      [[maybe_unused]] const ssize_t read = ::read(wake_, &count, sizeof(count));
    }
    asleep_ = false;
  }

  void wake() const {
    constexpr uint64_t one = 1;
    [[maybe_unused]] const ssize_t written = ::write(wake_, &one, sizeof(one));
  }

  int wake_;
  double spin_seconds_;
  std::mutex mutex_;  // guards jobs_
  std::vector<Job> jobs_;
  std::atomic<bool> pending_{false}, asleep_{false}, stopping_{false};
  // Of the thread alone.
  std::function<std::unique_ptr<ucx::Worker>()> make_worker_;
  std::unique_ptr<ucx::Worker> worker_;
  std::vector<Job> taken_;
  std::thread thread_;
};

UcxNetwork::UcxNetwork(int self, int processes, const Settings& settings, Deliver deliver,
                       Changed changed)
    : impl_(std::make_unique<Impl>(self, processes, settings, std::move(deliver),
                                   std::move(changed))) {}

UcxNetwork::~UcxNetwork() = default;

std::string UcxNetwork::renew() {
  Renewal renewal;
  std::future<std::string> address = renewal.address.get_future();
  impl_->ask(std::move(renewal));
  return address.get();
}

void UcxNetwork::connect(int process, std::string address) {
  impl_->ask(Connection{process, std::move(address)});
}

void UcxNetwork::send(int process, const Envelope& envelope, Message message) {
  impl_->ask(Posting{process, envelope, std::move(message)});
}

}  // namespace tandem
