#include "tandem/comm/transport.h"

namespace tandem {

const char* status_name(Status status) {
  switch (status) {
    case Status::pending:
      return "pending";
    case Status::ok:
      return "ok";
    case Status::peer_lost:
      return "peer lost";
    case Status::cancelled:
      return "cancelled";
    case Status::timed_out:
      return "timed out";
  }
  TANDEM_CHECK(false, "status {}", static_cast<int>(status));
}

}  // namespace tandem
