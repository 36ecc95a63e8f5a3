// What a client is told when it gets no answer: {"error": {"message", "type", "param", "code"}}.
#pragma once

#include <fmt/format.h>

#include <nlohmann/json.hpp>
#include <stdexcept>
#include <string>

namespace tandem {

using Json = nlohmann::ordered_json;

class ApiError : public std::runtime_error {
 public:
  // `parameter`: the field at fault, if it is one.
  ApiError(int status, const std::string& message, std::string parameter = {},
           std::string code = {})
      : std::runtime_error(message),
        status_(status),
        parameter_(std::move(parameter)),
        code_(std::move(code)) {}

  int status() const { return status_; }
  Json json() const;

 private:
  int status_;
  std::string parameter_, code_;
};

// Text for a client: what is not UTF-8 is replaced.
std::string dump(const Json& json);

}  // namespace tandem
