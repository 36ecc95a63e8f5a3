// Tells people how a run goes on: one line that is rewritten on a terminal, a plain line every few
// seconds elsewhere. Not synchronised: for the thread that runs the loop.
#pragma once

#include <cstdint>
#include <cstdio>
#include <functional>
#include <optional>
#include <string>

namespace tandem {

struct ProgressOptions {
  std::FILE* out = stderr;
  std::optional<bool> terminal;            // asked of `out` where not given
  double terminal_interval_seconds = 0.1;  // at most one line each
  double plain_interval_seconds = 5;
  std::function<double()> now_seconds;  // a steady clock where not given
};

class Progress {
 public:
  // `total_steps` ends the run; the first step told may be later than 0 (a resumed run).
  explicit Progress(int64_t total_steps, ProgressOptions options = {});

  // After a step (counted from 0): its loss and the tokens it processed.
  void step(int64_t step, double loss, int64_t tokens);

  // A line of its own that stays, e.g. of a validation or a checkpoint.
  void note(const std::string& line);

  // Prints the last step told, if it was not, and leaves the line. Called by the destructor too.
  void finish();
  ~Progress();
  Progress(const Progress&) = delete;
  Progress& operator=(const Progress&) = delete;

 private:
  void print(double now_seconds);
  void write(const std::string& text);

  ProgressOptions options_;
  bool terminal_;
  int64_t total_steps_;
  double start_seconds_;
  double printed_seconds_;
  int64_t steps_ = 0;  // of this run
  int64_t tokens_ = 0;
  int64_t last_step_ = -1;
  double last_loss_ = 0;
  bool unprinted_ = false;
  bool line_open_ = false;  // the terminal's cursor is behind a line that may be rewritten
};

}  // namespace tandem
