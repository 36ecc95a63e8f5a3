// A decode step allocates nothing: counted at operator new, on the ranks' threads. Sanitizers have
// an operator new of their own.
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
#include <gtest/gtest.h>

#include <atomic>
#include <cstdlib>
#include <new>
#include <thread>

#include "world/models.h"

namespace {

std::atomic<bool> counting{false};
std::atomic<int> allocations{0};
std::atomic<std::thread::id> controller;

void* counted(std::size_t size, std::size_t alignment) {
  if (counting && std::this_thread::get_id() != controller.load()) ++allocations;
  void* memory = std::aligned_alloc(alignment, (size + alignment - 1) / alignment * alignment);
  if (!memory) throw std::bad_alloc();
  return memory;
}

}  // namespace

void* operator new(std::size_t size) { return counted(size, 16); }
void* operator new(std::size_t size, std::align_val_t alignment) {
  return counted(size, std::max<std::size_t>(16, static_cast<std::size_t>(alignment)));
}
void operator delete(void* memory) noexcept { std::free(memory); }
void operator delete(void* memory, std::size_t) noexcept { std::free(memory); }
void operator delete(void* memory, std::align_val_t) noexcept { std::free(memory); }
void operator delete(void* memory, std::size_t, std::align_val_t) noexcept { std::free(memory); }

namespace tandem::test {
namespace {

TEST(Allocation, ADecodeStepTakesNoMemory) {
  const ModelConfig model = small_model();
  ParameterStore store = random_store(model, DType::bf16);
  for (const char* plan : {"single", "ma:attention=3,experts=2,micro_batches=2", "tp:ranks=2"}) {
    Engine engine(make_plan(plan, model), store, {.threads = 1});
    engine.plan_memory(4, 200);
    const auto step = [&](int32_t position) {
      std::vector<SequenceTokens> work;
      for (int32_t s = 0; s < 4; ++s)
        work.push_back({.slot = s, .first_position = position, .tokens = {(position + s) % 97}});
      engine.infer(work);
    };
    controller = std::this_thread::get_id();
    for (int32_t p = 0; p < 64; ++p) step(p);
    for (int32_t p = 64; p < 70; ++p) step(p);  // into the second block of K/V
    allocations = 0;
    counting = true;
    constexpr int32_t steps = 40;
    for (int32_t p = 70; p < 70 + steps; ++p) step(p);
    counting = false;
    // One rank takes none at all. Among several, a message that is read later than ever before
    // keeps its block for longer, and the pool takes another: now and then, not every step.
    EXPECT_LT(allocations, engine.plan().ranks() == 1 ? 1 : steps) << plan;
  }
}

}  // namespace
}  // namespace tandem::test

#endif
