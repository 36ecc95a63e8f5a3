#include "tandem/trace/span.h"

#include "tandem/base/error.h"

namespace tandem {

std::string_view lane_name(Lane lane) {
  switch (lane) {
    case Lane::attention:
      return "attention";
    case Lane::expert:
      return "expert";
    case Lane::wait:
      return "wait";
    case Lane::message:
      return "message";
  }
  TANDEM_CHECK(false, "lane {}", static_cast<int>(lane));
}

std::string_view message_kind_name(MessageKind kind) {
  switch (kind) {
    case MessageKind::none:
      return "none";
    case MessageKind::attention:
      return "attention";
    case MessageKind::dispatch:
      return "dispatch";
    case MessageKind::combine:
      return "combine";
    case MessageKind::pipeline:
      return "pipeline";
    case MessageKind::vocabulary:
      return "vocabulary";
    case MessageKind::gradient:
      return "gradient";
    case MessageKind::control:
      return "control";
  }
  TANDEM_CHECK(false, "message kind {}", static_cast<int>(kind));
}

void Recorder::forget_older_half() {
  spans_.erase(spans_.begin(), spans_.begin() + static_cast<std::ptrdiff_t>(spans_.size() / 2));
}

}  // namespace tandem
