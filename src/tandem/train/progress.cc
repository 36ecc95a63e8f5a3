#include "tandem/train/progress.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>

#include "tandem/base/clock.h"

namespace tandem {
namespace {

// "45s", "3m05s", "2h07m".
std::string time_left(double seconds) {
  const auto s = static_cast<int64_t>(std::ceil(std::clamp(seconds, 0.0, 1e9)));
  if (s < 60) return fmt::format("{}s", s);
  if (s < 3600) return fmt::format("{}m{:02}s", s / 60, s % 60);
  return fmt::format("{}h{:02}m", s / 3600, s % 3600 / 60);
}

constexpr const char* erase_rest = "\x1b[K";  // of a terminal's line, behind the cursor

}  // namespace

Progress::Progress(int64_t total_steps, ProgressOptions options)
    : options_(std::move(options)), total_steps_(total_steps) {
  if (!options_.now_seconds) options_.now_seconds = wall_seconds;
  terminal_ = options_.terminal.value_or(isatty(fileno(options_.out)) == 1);
  start_seconds_ = options_.now_seconds();
  printed_seconds_ = -INFINITY;
}

Progress::~Progress() { finish(); }

void Progress::step(int64_t step, double loss, int64_t tokens) {
  ++steps_;
  tokens_ += tokens;
  last_step_ = step;
  last_loss_ = loss;
  unprinted_ = true;
  const double now = options_.now_seconds();
  const double interval =
      terminal_ ? options_.terminal_interval_seconds : options_.plain_interval_seconds;
  if (now - printed_seconds_ >= interval) print(now);
}

// A run goes on where nobody can read how: failures to write are of no interest.
void Progress::write(const std::string& text) {
  std::fputs(text.c_str(), options_.out);
  std::fflush(options_.out);
}

void Progress::print(double now_seconds) {
  const double elapsed = std::max(now_seconds - start_seconds_, 1e-9);
  const double left =
      elapsed / static_cast<double>(steps_) * static_cast<double>(total_steps_ - last_step_ - 1);
  const std::string line =
      fmt::format("step {}/{}  loss {:.4f}  {:.0f} tokens/s  {} left", last_step_ + 1, total_steps_,
                  last_loss_, static_cast<double>(tokens_) / elapsed, time_left(left));
  write(terminal_ ? fmt::format("\r{}{}", line, erase_rest) : line + "\n");
  line_open_ = terminal_;
  printed_seconds_ = now_seconds;
  unprinted_ = false;
}

void Progress::note(const std::string& line) {
  write(line_open_ ? fmt::format("\r{}{}\n", line, erase_rest) : line + "\n");
  line_open_ = false;
}

void Progress::finish() {
  if (unprinted_) print(options_.now_seconds());
  if (line_open_) write("\n");
  line_open_ = false;
}

}  // namespace tandem
