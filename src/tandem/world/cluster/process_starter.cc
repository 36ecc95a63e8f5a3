#include "tandem/world/cluster/process_starter.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <signal.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cstring>
#include <thread>

#include "tandem/base/clock.h"
#include "tandem/base/error.h"

extern char** environ;

namespace tandem {
namespace {

pid_t spawn(const std::vector<std::string>& words, int input) {
  std::vector<char*> arguments;
  for (const std::string& word : words) arguments.push_back(const_cast<char*>(word.c_str()));
  arguments.push_back(nullptr);
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_adddup2(&actions, input, STDIN_FILENO);
  posix_spawn_file_actions_adddup2(&actions, STDERR_FILENO, STDOUT_FILENO);
  // Signals that this program holds back are not held back there.
  sigset_t none;
  sigemptyset(&none);
  posix_spawnattr_t attributes;
  posix_spawnattr_init(&attributes);
  posix_spawnattr_setsigmask(&attributes, &none);
  posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGMASK);
  pid_t pid = -1;
  const int error =
      posix_spawnp(&pid, arguments[0], &actions, &attributes, arguments.data(), environ);
  posix_spawnattr_destroy(&attributes);
  posix_spawn_file_actions_destroy(&actions);
  if (error != 0) throw WorldError("cannot start {}: {}", words[0], std::strerror(error));
  return pid;
}

std::string fate(int status) {
  if (WIFSIGNALED(status)) return fmt::format("it was stopped by signal {}", WTERMSIG(status));
  return fmt::format("it has ended with status {}", WEXITSTATUS(status));
}

}  // namespace

ProcessStarter::ProcessStarter(std::string program, std::vector<ProcessPlace> places)
    : program_(std::move(program)), places_(std::move(places)), pids_(places_.size(), -1) {}

ProcessStarter::~ProcessStarter() {
  const double until = wall_seconds() + 2;
  for (int process = 0; process < std::ssize(pids_); ++process) {
    while (pids_[process] > 0 && !ended(process) && wall_seconds() < until)
      std::this_thread::sleep_for(std::chrono::milliseconds(5));
    give_up(process);
  }
}

void ProcessStarter::start(int process, const std::string& address, const std::string& secret) {
  if (places_[process].outside) return;
  std::vector<std::string> words = places_[process].prefix;
  for (const std::string& word : {program_, std::string("join"), std::string("--address"), address,
                                  std::string("--process"), std::to_string(process)})
    words.push_back(word);
  std::array<int, 2> pipe{};
  if (pipe2(pipe.data(), O_CLOEXEC) != 0) throw_errno("a pipe");
  const std::string line = secret + "\n";  // short: it fits the pipe
  [[maybe_unused]] const ssize_t written = ::write(pipe[1], line.data(), line.size());
  const std::lock_guard lock(mutex_);
  try {
    pids_[process] = spawn(words, pipe[0]);
  } catch (...) {
    ::close(pipe[0]), ::close(pipe[1]);
    throw;
  }
  ::close(pipe[0]), ::close(pipe[1]);
}

std::optional<std::string> ProcessStarter::ended(int process) {
  const std::lock_guard lock(mutex_);
  int status = 0;
  if (pids_[process] <= 0 || waitpid(pids_[process], &status, WNOHANG) != pids_[process])
    return std::nullopt;
  pids_[process] = -1;
  return fate(status);
}

void ProcessStarter::give_up(int process) {
  const std::lock_guard lock(mutex_);
  if (pids_[process] <= 0) return;
  ::kill(pids_[process], SIGKILL);
  waitpid(pids_[process], nullptr, 0);
  pids_[process] = -1;
}

pid_t ProcessStarter::pid(int process) {
  const std::lock_guard lock(mutex_);
  return pids_[process];
}

}  // namespace tandem
