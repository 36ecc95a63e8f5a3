#include "tandem/device/cpu/parallel.h"

#include <atomic>
#include <chrono>
#include <thread>
#include <vector>

#include "tandem/base/error.h"

namespace tandem::cpu {
namespace {

void pause() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#else
  std::this_thread::yield();
#endif
}

// The threads that help one thread. A job's number, its count and the next piece to claim stand in
// one word, so that a claim that succeeds can only be for the job that is under way.
class Team {
 public:
  ~Team() {
    stop_ = true;
    claim_.store(pack(number_ + 1, 0, 0));
    claim_.notify_all();
    for (std::thread& helper : helpers_) helper.join();
  }

  void run(int threads, int64_t count, void (*body)(const void*, int64_t), const void* context) {
    TANDEM_CHECK(count < most, "{} pieces", count);
    while (static_cast<int>(helpers_.size()) < threads - 1)
      helpers_.emplace_back([this] { help(); });
    body_ = body;
    context_ = context;
    done_.store(0, std::memory_order_relaxed);
    claim_.store(pack(++number_, count, 0));
    if (sleepers_.load() > 0) claim_.notify_all();
    uint64_t claim = 0;
    while (work(claim)) {
    }
    for (int spins = 0; done_.load(std::memory_order_acquire) < count; ++spins)
      spins < 4096 ? pause() : std::this_thread::yield();
  }

 private:
  static constexpr int bits = 20;
  static constexpr int64_t most = int64_t{1} << bits;
  static constexpr auto spin_time = std::chrono::microseconds(50);

  static uint64_t pack(uint64_t number, int64_t count, int64_t next) {
    return number << (2 * bits) | static_cast<uint64_t>(count) << bits |
           static_cast<uint64_t>(next);
  }

  // Claims a piece and does it; false where none is left, as `claim` then tells.
  bool work(uint64_t& claim) {
    claim = claim_.load(std::memory_order_acquire);
    for (;;) {
      const uint64_t next = claim % most, count = (claim >> bits) % most;
      if (next >= count) return false;
      if (claim_.compare_exchange_weak(claim, claim + 1, std::memory_order_acq_rel)) {
        body_(context_, static_cast<int64_t>(next));
        done_.fetch_add(1, std::memory_order_release);
        return true;
      }
    }
  }

  void help() {
    while (!stop_) {
      uint64_t idle = 0;
      while (work(idle)) {
      }
      const auto until = std::chrono::steady_clock::now() + spin_time;
      while (claim_.load(std::memory_order_acquire) == idle &&
             std::chrono::steady_clock::now() < until)
        for (int i = 0; i < 16; ++i) pause();
      ++sleepers_;
      if (claim_.load() == idle && !stop_) claim_.wait(idle);
      --sleepers_;
    }
  }

  std::atomic<uint64_t> claim_{0};
  std::atomic<int64_t> done_{0};
  std::atomic<int> sleepers_{0};
  std::atomic<bool> stop_{false};
  uint64_t number_ = 0;
  void (*body_)(const void*, int64_t) = nullptr;
  const void* context_ = nullptr;
  std::vector<std::thread> helpers_;
};

}  // namespace

void run_pieces(int threads, int64_t count, void (*body)(const void* context, int64_t i),
                const void* context) {
  static thread_local Team team;  // of this thread; its helpers sleep when there is nothing to do
  team.run(threads, count, body, context);
}

}  // namespace tandem::cpu
