// One streamed completion from any address that speaks OpenAI's API.
#pragma once

#include <memory>
#include <string>

#include "tandem/serve/load.h"

namespace httplib {
class Client;
}

namespace tandem {

struct LoadAnswer {
  std::string error;  // empty: none
  int64_t prompt_tokens = 0, answer_tokens = 0;
  double first_seconds = 0, last_seconds = 0;  // of wall_seconds(): text came
};

// Used by one thread.
class LoadClient {
 public:
  explicit LoadClient(const LoadSettings& settings);
  ~LoadClient();

  // The name of the first model. WorldError.
  std::string first_model();
  LoadAnswer complete(const std::string& body);

 private:
  class Events;

  std::unique_ptr<httplib::Client> client_;
  std::string prefix_;  // of paths
};

}  // namespace tandem
