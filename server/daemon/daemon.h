// The daemon. It owns everything, which is built in order and drained in reverse.
#ifndef CAUSEWAY_SERVER_DAEMON_DAEMON_H_
#define CAUSEWAY_SERVER_DAEMON_DAEMON_H_

#include <memory>

#include "absl/status/statusor.h"
#include "server/startup/load_config.h"

namespace causeway {

class Daemon {
 public:
  // Places the model, opens the listeners (health says NOT_SERVING), loads, and then serves. InvalidArgument: the
  // configuration is wrong. Other errors come from the model, the devices or the ports. A signal while it loads ends
  // the process at once. `read_again`: what SIGHUP reads; null: SIGHUP does what SIGTERM does.
  static absl::StatusOr<std::unique_ptr<Daemon>> Create(const LoadedConfig& loaded, ReadConfig read_again);
  virtual ~Daemon() = default;

  // Serves until SIGTERM, SIGINT or Admin.Drain. Then it drains: it takes no new requests, and running ones
  // finish within the drain budget or are cancelled. A second signal ends the process at once, with 128 + the signal.
  // Unavailable: a device failed for good. Health then says NOT_SERVING at once, and whatever restarts the process
  // brings the device back.
  virtual absl::Status ServeUntilStopped() = 0;
};

}  // namespace causeway

#endif  // CAUSEWAY_SERVER_DAEMON_DAEMON_H_
