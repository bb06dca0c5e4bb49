// The daemon: owns everything, built in order, drained in reverse.
#ifndef CAUSEWAY_SERVER_DAEMON_DAEMON_H_
#define CAUSEWAY_SERVER_DAEMON_DAEMON_H_

#include <memory>

#include "absl/status/statusor.h"
#include "server/startup/load_config.h"

namespace causeway {

class Daemon {
 public:
  // Places the model, opens the listeners (health says NOT_SERVING), loads, and then serves. InvalidArgument: the
  // configuration; other errors: the model, the devices or the ports. A signal while it loads ends the process at once.
  static absl::StatusOr<std::unique_ptr<Daemon>> Create(const LoadedConfig& loaded);
  virtual ~Daemon() = default;

  // Until SIGTERM, SIGINT or Admin.Drain; then drains: no new requests, running ones finish within the drain budget or
  // are cancelled. A second signal ends the process at once, with 128 + the signal.
  virtual void ServeUntilStopped() = 0;
};

}  // namespace causeway

#endif  // CAUSEWAY_SERVER_DAEMON_DAEMON_H_
