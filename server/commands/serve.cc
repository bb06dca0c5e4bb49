#include <unistd.h>

#include <atomic>
#include <csignal>
#include <memory>

#include "absl/strings/str_cat.h"
#include "server/cluster/membership.h"
#include "server/cluster/worker.h"
#include "server/commands/commands.h"
#include "server/daemon/daemon.h"
#include "server/daemon/signals.h"
#include "server/telemetry/log.h"
#include "server/version.h"

namespace causeway {
namespace {

int Lead(const CommandStart& start) {
  absl::StatusOr<std::unique_ptr<Daemon>> daemon = Daemon::Create(start.loaded, start.read_again);
  if (!daemon.ok()) return Fail(daemon.status());
  const absl::Status served = (*daemon)->ServeUntilStopped();
  StopProfile();
  return served.ok() ? 0 : Fail(served);
}

int Follow(const LoadedConfig& loaded, const Membership& membership) {
  std::atomic<ClusterWorker*> running = nullptr;
  std::atomic<bool> stopping = false;
  const SignalWatcher signals([&running, &stopping](int signal) {
    Log(LogLevel::kInfo, "signal", {{"signal", signal}});
    if (signal == SIGHUP) return;  // what it serves, and how, is the leader's to know
    const bool again = stopping.exchange(true);
    ClusterWorker* const worker = running;
    if (!again && worker != nullptr && worker->RequestStop()) return;
    FlushLog();
    _exit(again ? 128 + signal : 0);
  });
  Log(LogLevel::kInfo, "following in a group of processes",
      {{"rank", membership.rank}, {"size", membership.size}, {"by", membership.source}});
  const std::unique_ptr<ClusterWorker> worker = ClusterWorker::Make(loaded, membership, kVersion);
  running = worker.get();
  const absl::Status followed = worker->Run();
  StopProfile();
  const int status = followed.ok() ? 0 : Fail(followed);
  FlushLog();
  _exit(status);  // threads may still wait for processes that are gone
}

int Start(const std::string& name, const std::string& what, const std::vector<std::string>& arguments, bool may_lead) {
  CommandStart start = StartCommand(name, what, arguments, {});
  if (start.exit >= 0) return start.exit;
  const absl::StatusOr<Membership> membership = ReadMembership(start.loaded.config.cluster(), Environment());
  if (!membership.ok()) return Fail(membership.status());
  if (!may_lead && membership->rank == 0) {
    return Fail(absl::InvalidArgumentError(absl::StrCat(
        "expected a rank above 0 (--cluster-rank, or a launcher's), got ",
        membership->size == 1 ? "none: no group of processes is configured" : absl::StrCat("0 by ", membership->source),
        "; causewayd serve leads")));
  }
  if (absl::Status status = StartProfile(start.loaded); !status.ok()) return Fail(status);
  return membership->rank == 0 ? Lead(start) : Follow(start.loaded, *membership);
}

}  // namespace

int ServeCommand(const std::vector<std::string>& arguments) {
  return Start("serve", "loads a model and serves it over gRPC until SIGTERM", arguments, /*may_lead=*/true);
}

int WorkerCommand(const std::vector<std::string>& arguments) {
  return Start("worker", "serves a model together with the process that leads (causewayd serve)", arguments,
               /*may_lead=*/false);
}

}  // namespace causeway
