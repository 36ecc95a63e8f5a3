// Ctrl-C as something a loop can ask about. SIGINT and SIGTERM are held back while one of these
// lives; make it before any thread is started, so that all threads hold them back.
#pragma once

namespace tandem::cli {

class InterruptWatch {
 public:
  InterruptWatch();
  ~InterruptWatch();
  InterruptWatch(const InterruptWatch&) = delete;
  InterruptWatch& operator=(const InterruptWatch&) = delete;
  bool requested();

 private:
  int signals_ = -1;
  bool requested_ = false;
};

}  // namespace tandem::cli
