#include "tandem/serve/load.h"

#include <cmath>
#include <mutex>
#include <numeric>
#include <thread>

#include "tandem/base/clock.h"
#include "tandem/base/error.h"
#include "tandem/base/random.h"
#include "tandem/serve/api_error.h"
#include "tandem/serve/load_client.h"

namespace tandem {
namespace {

void check(const LoadSettings& s) {
  if (s.clients < 1 || s.clients > 4096)
    throw InputError("--clients {}: must be from 1 to 4096", s.clients);
  if (!(s.rate_per_second >= 0)) throw InputError("--rate {}: must be positive", s.rate_per_second);
  if (!(s.seconds > 0)) throw InputError("--seconds {}: must be positive", s.seconds);
  if (s.prompt_tokens < 1)
    throw InputError("--prompt-tokens {}: must be at least 1", s.prompt_tokens);
  if (s.max_tokens < 1) throw InputError("--max-tokens {}: must be at least 1", s.max_tokens);
  if (!(s.timeout_seconds > 0))
    throw InputError("--timeout {}: must be positive", s.timeout_seconds);
}

// When requests are due, and what they ask. Safe from any thread.
class Requests {
 public:
  Requests(const LoadSettings& settings, std::string model)
      : settings_(settings), model_(std::move(model)), begin_seconds_(wall_seconds()) {}

  struct Request {
    double due_seconds = 0;  // of wall_seconds()
    std::string body;
  };
  // Nothing once the time is over.
  std::optional<Request> next() {
    const std::lock_guard lock(mutex_);
    const double now = wall_seconds();
    const bool at_random = settings_.rate_per_second > 0;
    if (at_random)
      random_seconds_ -=
          std::log1p(-RandomSource(settings_.seed, RandomStream::data_order).uniform(count_, 0)) /
          settings_.rate_per_second;
    const double due = at_random ? begin_seconds_ + random_seconds_ : now;
    if (due >= begin_seconds_ + settings_.seconds) return {};
    return Request{due, body(count_++)};
  }
  double begin_seconds() const { return begin_seconds_; }

 private:
  std::string body(uint64_t number) const {
    Json json{{"model", model_},
              {"max_tokens", settings_.max_tokens},
              {"seed", settings_.seed + number},
              {"stream", true},
              {"stream_options", {{"include_usage", true}}}};
    if (settings_.ignores_end) json["ignore_eos"] = true;
    if (!settings_.lines.empty()) {
      json["prompt"] = settings_.lines[number % settings_.lines.size()];
    } else {
      const RandomSource source(settings_.seed, RandomStream::prompts);
      json["prompt"] = Json::array();
      for (int64_t i = 0; i < settings_.prompt_tokens; ++i)
        json["prompt"].push_back(100 + source.bits(number, i) % 156);
    }
    return dump(json);
  }

  const LoadSettings& settings_;
  std::string model_;
  double begin_seconds_;
  std::mutex mutex_;
  uint64_t count_ = 0;
  double random_seconds_ = 0;
};

// What has come back. Safe from any thread.
class Results {
 public:
  void add(const Requests::Request& request, const LoadAnswer& answer) {
    const std::lock_guard lock(mutex_);
    ++sum_.requests;
    if (!answer.error.empty()) {
      ++sum_.errors[answer.error];
      return;
    }
    sum_.prompt_tokens += answer.prompt_tokens;
    sum_.answer_tokens += answer.answer_tokens;
    ttft_.push_back(answer.first_seconds - request.due_seconds);
    if (answer.answer_tokens > 1)
      tpot_.push_back((answer.last_seconds - answer.first_seconds) /
                      static_cast<double>(answer.answer_tokens - 1));
  }
  LoadResult result(double seconds) {
    const auto mean = [](const std::vector<double>& values) {
      return values.empty()
                 ? 0
                 : std::reduce(values.begin(), values.end()) / static_cast<double>(values.size());
    };
    sum_.seconds = seconds;
    sum_.ttft_seconds = quantiles(ttft_);
    sum_.tpot_seconds = quantiles(tpot_);
    sum_.mean_ttft_seconds = mean(ttft_);
    sum_.mean_tpot_seconds = mean(tpot_);
    return sum_;
  }

 private:
  std::mutex mutex_;
  LoadResult sum_;
  std::vector<double> ttft_, tpot_;
};

void be_client(const LoadSettings& settings, Requests& requests, Results& results) {
  LoadClient client(settings);
  while (const auto request = requests.next()) {
    const double early_seconds = request->due_seconds - wall_seconds();
    if (early_seconds > 0)
      std::this_thread::sleep_for(std::chrono::duration<double>(early_seconds));
    results.add(*request, client.complete(request->body));
  }
}

}  // namespace

int64_t LoadResult::failed() const {
  int64_t sum = 0;
  for (const auto& [what, count] : errors) sum += count;
  return sum;
}

LoadResult run_load(const LoadSettings& settings) {
  check(settings);
  LoadClient first(settings);
  Requests requests(settings, settings.model.empty() ? first.first_model() : settings.model);
  Results results;
  {
    std::vector<std::jthread> clients;
    for (int i = 0; i < settings.clients; ++i)
      clients.emplace_back([&] { be_client(settings, requests, results); });
  }
  return results.result(wall_seconds() - requests.begin_seconds());
}

}  // namespace tandem
