// Lets text through up to the first of some stop texts, and holds back what may be the beginning of
// one. Not synchronised.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace tandem {

class StopFilter {
 public:
  // None of them empty.
  explicit StopFilter(std::vector<std::string> stops) : stops_(std::move(stops)) {}

  // What may be passed on now.
  std::string push(std::string_view text);
  // What was held back after the last of the text.
  std::string finish();
  // Whether a stop text has come; it is not passed on, nor what follows it.
  bool stopped() const { return stopped_; }

 private:
  std::vector<std::string> stops_;
  std::string held_;
  bool stopped_ = false;
};

}  // namespace tandem
