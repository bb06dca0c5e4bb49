#include "server/commands/commands.h"
#include "server/daemon/daemon.h"

namespace causeway {

int ServeCommand(const std::vector<std::string>& arguments) {
  CommandStart start = StartCommand("serve", "loads a model and serves it over gRPC until SIGTERM", arguments, {});
  if (start.exit >= 0) return start.exit;
  if (absl::Status status = StartProfile(start.loaded); !status.ok()) return Fail(status);
  absl::StatusOr<std::unique_ptr<Daemon>> daemon = Daemon::Create(start.loaded);
  if (!daemon.ok()) return Fail(daemon.status());
  const absl::Status served = (*daemon)->ServeUntilStopped();
  StopProfile();
  return served.ok() ? 0 : Fail(served);
}

}  // namespace causeway
