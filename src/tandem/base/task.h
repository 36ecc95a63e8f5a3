// Task<T>: a lazy coroutine that is awaited once. Frames come from the memory resource of the first
// argument (or object) of the coroutine, which must have `std::pmr::memory_resource& frames()`, so
// a rank that runs the same step again allocates nothing. Not thread safe: a task belongs to a
// rank.
#pragma once

#include <concepts>
#include <coroutine>
#include <cstddef>
#include <exception>
#include <memory_resource>
#include <optional>
#include <utility>

namespace tandem {

template <class T>
concept HasFrames = requires(T& owner) {
  { owner.frames() } -> std::convertible_to<std::pmr::memory_resource&>;
};

template <class T = void>
class Task;

namespace task_detail {

struct PromiseBase {
  std::coroutine_handle<> continuation = std::noop_coroutine();
  std::exception_ptr failure;

  // The resource stands in front of the frame, since operator delete is told the size alone.
  static constexpr size_t header = alignof(std::max_align_t);
  static void* allocate(size_t size, std::pmr::memory_resource& memory) {
    auto* block = static_cast<std::byte*>(memory.allocate(size + header));
    *reinterpret_cast<std::pmr::memory_resource**>(block) = &memory;
    return block + header;
  }
  template <HasFrames Owner, class... Rest>
  static void* operator new(size_t size, Owner& owner, Rest&&...) {
    return allocate(size, owner.frames());
  }
  static void operator delete(void* frame, size_t size) {
    auto* block = static_cast<std::byte*>(frame) - header;
    (*reinterpret_cast<std::pmr::memory_resource**>(block))->deallocate(block, size + header);
  }

  struct FinalAwaiter {
    bool await_ready() noexcept { return false; }
    template <class Promise>
    std::coroutine_handle<> await_suspend(std::coroutine_handle<Promise> done) noexcept {
      return done.promise().continuation;
    }
    void await_resume() noexcept {}
  };
  std::suspend_always initial_suspend() noexcept { return {}; }
  FinalAwaiter final_suspend() noexcept { return {}; }
  void unhandled_exception() { failure = std::current_exception(); }
};

template <class T>
struct Promise : PromiseBase {
  std::optional<T> value;
  Task<T> get_return_object();
  void return_value(T result) { value.emplace(std::move(result)); }
  T take() {
    if (failure) std::rethrow_exception(failure);
    return std::move(*value);
  }
};

template <>
struct Promise<void> : PromiseBase {
  Task<void> get_return_object();
  void return_void() {}
  void take() {
    if (failure) std::rethrow_exception(failure);
  }
};

}  // namespace task_detail

template <class T>
class [[nodiscard]] Task {
 public:
  using promise_type = task_detail::Promise<T>;
  using Handle = std::coroutine_handle<promise_type>;

  explicit Task(Handle handle) : handle_(handle) {}
  Task(Task&& other) noexcept : handle_(std::exchange(other.handle_, {})) {}
  Task& operator=(Task&& other) noexcept {
    std::swap(handle_, other.handle_);
    return *this;
  }
  ~Task() {
    if (handle_) handle_.destroy();
  }

  bool done() const { return handle_.done(); }
  std::coroutine_handle<> handle() const { return handle_; }
  T result() { return handle_.promise().take(); }  // once done

  auto operator co_await() && {
    struct Awaiter {
      Handle handle;
      bool await_ready() { return false; }
      std::coroutine_handle<> await_suspend(std::coroutine_handle<> caller) {
        handle.promise().continuation = caller;
        return handle;
      }
      T await_resume() { return handle.promise().take(); }
    };
    return Awaiter{handle_};
  }

 private:
  Handle handle_;
};

namespace task_detail {
template <class T>
Task<T> Promise<T>::get_return_object() {
  return Task<T>(std::coroutine_handle<Promise>::from_promise(*this));
}
inline Task<void> Promise<void>::get_return_object() {
  return Task<void>(std::coroutine_handle<Promise>::from_promise(*this));
}
}  // namespace task_detail

}  // namespace tandem
