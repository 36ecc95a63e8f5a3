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
#include <vector>

#include "tandem/base/clock.h"
#include "tandem/comm/ucx/ucx_worker.h"

namespace tandem {

// The thread, and what it is asked to do.
class UcxNetwork::Impl {
 public:
  Impl(int self, int processes, const Settings& settings, Deliver deliver, Changed changed)
      : spin_seconds_(settings.spin_seconds), wake_(eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC)) {
    if (wake_ < 0) throw_errno("an event descriptor");
    std::promise<std::string> started;
    std::future<std::string> address = started.get_future();
    thread_ = std::thread([=, this, deliver = std::move(deliver), changed = std::move(changed),
                           promise = std::move(started)]() mutable {
      run(self, processes, settings, std::move(deliver), std::move(changed), promise);
    });
    try {
      address_ = address.get();
    } catch (...) {
      thread_.join();
      ::close(wake_);
      throw;
    }
  }

  ~Impl() {
    stopping_ = true;
    wake();
    thread_.join();
    ::close(wake_);
  }

  const std::string& address() const { return address_; }

  struct Job {
    int process;
    bool connects = false;
    std::string address;
    Envelope envelope;
    Message message;
  };
  void ask(Job job) {
    {
      const std::lock_guard lock(mutex_);
      jobs_.push_back(std::move(job));
    }
    pending_.store(true);
    if (asleep_.load()) wake();
  }

 private:
  void run(int self, int processes, const Settings& settings, Deliver deliver, Changed changed,
           std::promise<std::string>& started) {
    std::unique_ptr<ucx::Worker> worker;
    try {
      worker = std::make_unique<ucx::Worker>(self, processes, settings, std::move(deliver),
                                             std::move(changed));
      started.set_value(worker->address());
    } catch (...) {
      return started.set_exception(std::current_exception());
    }
    double spin_until = 0;
    while (!stopping_) {
      bool busy = do_jobs(*worker);
      while (worker->progress()) busy = true;
      if (busy)
        spin_until = wall_seconds() + spin_seconds_;
      else if (wall_seconds() >= spin_until)
        sleep(*worker);
    }
    do_jobs(*worker);
    while (worker->progress()) continue;
  }

  bool do_jobs(ucx::Worker& worker) {
    if (!pending_.exchange(false)) return false;
    {
      const std::lock_guard lock(mutex_);
      taken_.swap(jobs_);
    }
    for (Job& job : taken_)
      if (job.connects)
        worker.connect(job.process, std::move(job.address));
      else
        worker.send(job.process, job.envelope, std::move(job.message));
    const bool some = !taken_.empty();
    taken_.clear();
    return some;
  }

  // Until there is something to do.
  void sleep(ucx::Worker& worker) {
    asleep_ = true;
    if (!pending_ && !stopping_ && worker.arm()) {
      std::array<pollfd, 2> events{
          pollfd{.fd = worker.event_descriptor(), .events = POLLIN, .revents = 0},
          pollfd{.fd = wake_, .events = POLLIN, .revents = 0}};
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

  double spin_seconds_;
  int wake_;
  std::string address_;
  std::mutex mutex_;  // guards jobs_
  std::vector<Job> jobs_, taken_;
  std::atomic<bool> pending_{false}, asleep_{false}, stopping_{false};
  std::thread thread_;
};

UcxNetwork::UcxNetwork(int self, int processes, const Settings& settings, Deliver deliver,
                       Changed changed)
    : impl_(std::make_unique<Impl>(self, processes, settings, std::move(deliver),
                                   std::move(changed))) {}

UcxNetwork::~UcxNetwork() = default;

std::string UcxNetwork::address() const { return impl_->address(); }

void UcxNetwork::connect(int process, std::string address) {
  impl_->ask({.process = process, .connects = true, .address = std::move(address)});
}

void UcxNetwork::send(int process, const Envelope& envelope, Message message) {
  impl_->ask({.process = process, .envelope = envelope, .message = std::move(message)});
}

}  // namespace tandem
