// Starts processes of a fleet as children of this one, on this machine or, through a command like
// ssh, on others.
#pragma once

#include <sys/types.h>

#include <mutex>
#include <vector>

#include "tandem/world/cluster/fleet.h"

namespace tandem {

// The program joins with: [prefix...] PROGRAM join --address A --process N, and reads the secret
// from its standard input. Its standard output is this process's standard error.
struct ProcessPlace {
  std::vector<std::string> prefix;  // e.g. ssh HOST; empty: here
  bool outside = false;             // somebody else starts it
};

class ProcessStarter final : public Starter {
 public:
  ProcessStarter(std::string program, std::vector<ProcessPlace> places);
  ~ProcessStarter() override;  // waits for them a moment, then stops them

  void start(int process, const std::string& address, const std::string& secret) override;
  std::optional<std::string> ended(int process) override;
  void give_up(int process) override;
  // Of a child of this process; -1: none.
  pid_t pid(int process);

 private:
  std::string program_;
  std::vector<ProcessPlace> places_;
  std::mutex mutex_;
  std::vector<pid_t> pids_;
};

}  // namespace tandem
