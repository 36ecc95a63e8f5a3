#include "tandem/base/task.h"

#include <gtest/gtest.h>

#include <memory>
#include <stdexcept>

#include "sanitized.h"

namespace tandem {
namespace {

// Frames come from its memory; counts what is out.
class Owner final : public std::pmr::memory_resource {
 public:
  std::pmr::memory_resource& frames() { return *this; }
  int out = 0, most = 0;

 private:
  void* do_allocate(size_t bytes, size_t alignment) override {
    most = std::max(most, ++out);
    return std::pmr::new_delete_resource()->allocate(bytes, alignment);
  }
  void do_deallocate(void* p, size_t bytes, size_t alignment) override {
    --out;
    std::pmr::new_delete_resource()->deallocate(p, bytes, alignment);
  }
  bool do_is_equal(const std::pmr::memory_resource& other) const noexcept override {
    return this == &other;
  }
};

// The innermost wait of a test: whoever has `resume_later` can go on.
struct Pause {
  std::coroutine_handle<>* resume_later;
  bool await_ready() const { return false; }
  void await_suspend(std::coroutine_handle<> caller) const { *resume_later = caller; }
  void await_resume() const {}
};

Task<int> constant(Owner&, int value) { co_return value; }
Task<int> sum_to(Owner& owner, int n) {
  if (n == 0) co_return 0;
  co_return n + co_await sum_to(owner, n - 1);
}
Task<std::unique_ptr<int>> boxed(Owner&) { co_return std::make_unique<int>(3); }
Task<int64_t> loop(Owner& owner, int count) {
  int64_t sum = 0;
  for (int i = 0; i < count; ++i) sum += co_await constant(owner, i);
  co_return sum;
}
Task<int> failing(Owner&, std::coroutine_handle<>& pause) {
  co_await Pause{&pause};
  throw std::runtime_error("inside");
}
Task<> catching(Owner& owner, std::coroutine_handle<>& pause, std::string& text) {
  try {
    (void)co_await failing(owner, pause);
  } catch (const std::runtime_error& error) {
    text = error.what();
  }
}

TEST(Task, IsLazyAndGivesItsValueOnce) {
  Owner owner;
  Task<int> task = constant(owner, 7);
  EXPECT_FALSE(task.done());
  task.handle().resume();
  EXPECT_TRUE(task.done());
  EXPECT_EQ(task.result(), 7);
}

TEST(Task, ValuesMayBeMoveOnly) {
  Owner owner;
  Task<std::unique_ptr<int>> task = boxed(owner);
  task.handle().resume();
  EXPECT_EQ(*task.result(), 3);
}

TEST(Task, AwaitsOthersAndReturnsTheirFrames) {
  Owner owner;
  {
    Task<int> task = sum_to(owner, 100);
    EXPECT_EQ(owner.out, 1);
    task.handle().resume();
    EXPECT_EQ(task.result(), 5050);
    EXPECT_EQ(owner.most, 101);
    EXPECT_EQ(owner.out, 1);
  }
  EXPECT_EQ(owner.out, 0);
}

// Control passes from a task to the one that awaits it without growing the stack. It does grow
// under sanitizers, whose code makes no tail calls.
constexpr int awaits = sanitized ? 1000 : 300000;

TEST(Task, AwaitingInALoopUsesNoStack) {
  Owner owner;
  Task<int64_t> task = loop(owner, awaits);
  task.handle().resume();
  EXPECT_EQ(task.result(), int64_t{awaits} * (awaits - 1) / 2);
  EXPECT_EQ(owner.most, 2);
}

TEST(Task, FailuresPassToWhoeverAwaits) {
  Owner owner;
  std::coroutine_handle<> pause;
  std::string text;
  Task<> outer = catching(owner, pause, text);
  outer.handle().resume();
  EXPECT_FALSE(outer.done());
  pause.resume();
  EXPECT_TRUE(outer.done());
  EXPECT_NO_THROW(outer.result());
  EXPECT_EQ(text, "inside");

  Task<int> alone = failing(owner, pause);
  alone.handle().resume();
  pause.resume();
  EXPECT_TRUE(alone.done());
  EXPECT_THROW((void)alone.result(), std::runtime_error);
}

TEST(Task, DestroyedWhileItWaitsItFreesAllFrames) {
  Owner owner;
  std::coroutine_handle<> pause;
  std::string text;
  {
    Task<> never_started = catching(owner, pause, text);
    Task<> waiting = catching(owner, pause, text);
    waiting.handle().resume();
    EXPECT_EQ(owner.out, 3);
    Task<> moved = std::move(waiting);
    EXPECT_FALSE(moved.done());
  }
  EXPECT_EQ(owner.out, 0);
  EXPECT_EQ(text, "");
}

}  // namespace
}  // namespace tandem
