#include "tandem/cli/interrupt.h"

#include <sys/signalfd.h>
#include <unistd.h>

#include <csignal>

#include "tandem/base/error.h"

namespace tandem::cli {
namespace {

sigset_t watched() {
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, SIGINT);
  sigaddset(&set, SIGTERM);
  return set;
}

}  // namespace

InterruptWatch::InterruptWatch() {
  const sigset_t set = watched();
  pthread_sigmask(SIG_BLOCK, &set, nullptr);
  signals_ = signalfd(-1, &set, SFD_NONBLOCK | SFD_CLOEXEC);
  if (signals_ < 0) throw_errno("signalfd");
}

InterruptWatch::~InterruptWatch() {
  requested();  // what has come is taken, so that it does not end the program from behind
  close(signals_);
  const sigset_t set = watched();
  pthread_sigmask(SIG_UNBLOCK, &set, nullptr);
}

bool InterruptWatch::requested() {
  signalfd_siginfo info;
  while (read(signals_, &info, sizeof info) == static_cast<ssize_t>(sizeof info)) requested_ = true;
  return requested_;
}

}  // namespace tandem::cli
