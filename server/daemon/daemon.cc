#include "server/daemon/daemon.h"

#include <sys/stat.h>
#include <unistd.h>

#include <csignal>
#include <cstdio>
#include <mutex>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/synchronization/notification.h"
#include "absl/time/clock.h"
#include "engine/base/listed.h"
#include "engine/base/status.h"
#include "engine/engine.h"
#include "engine/threads/processors.h"
#include "server/cluster/leader.h"
#include "server/cluster/membership.h"
#include "server/daemon/load_meter.h"
#include "server/daemon/ports_file.h"
#include "server/daemon/signals.h"
#include "server/rpc/rpc_server.h"
#include "server/startup/address.h"
#include "server/startup/engine_options.h"
#include "server/startup/reload.h"
#include "server/telemetry/http_server.h"
#include "server/telemetry/log.h"
#include "server/telemetry/metrics.h"
#include "server/version.h"

namespace causeway {
namespace {

// After the drain every request has ended. This is for the last bytes to reach their readers.
constexpr absl::Duration kStopGrace = absl::Seconds(2);
// Once a device has failed every step does, at once: what waits then ends with the device's error.
constexpr absl::Duration kFailedDrain = absl::Seconds(1);

class DaemonImpl final : public Daemon {
 public:
  DaemonImpl(const LoadedConfig& loaded, ReadConfig read_again)
      : loaded_(loaded),
        read_again_(std::move(read_again)),
        config_(loaded.config),
        signals_([this](int signal) { OnSignal(signal); }) {
    context_.started = absl::Now();
    context_.version = kVersion;
    context_.request_drain = [this] { RequestStop(); };
  }

  ~DaemonImpl() override {
    if (rpc_ != nullptr) rpc_->Stop(absl::ZeroDuration());
    if (metrics_ != nullptr) metrics_->WatchEngine(nullptr);
    if (ports_written_) std::remove(config_.server().ports_file().c_str());
  }

  absl::Status Start() {
    Log(LogLevel::kInfo, "starting", {{"version", kVersion}, {"model", config_.model().path()}});
    // Mistakes in the configuration come before the model is looked at.
    CAUSEWAY_RETURN_IF_ERROR(CheckAddresses());
    CAUSEWAY_ASSIGN_OR_RETURN(options_, MakeEngineOptions(loaded_));
    options_.on_device_failure = [this](const absl::Status& failure, int replica, int left) {
      OnDeviceFailure(failure, replica, left);
    };
    if (options_.plan.kv_cache_tokens == 0) {  // allowed for a plan of the weights alone
      return absl::InvalidArgumentError(
          absl::StrCat(loaded_.Where("batching.kv_cache"), ": serving needs a KV cache, got 0 tokens"));
    }
    CAUSEWAY_ASSIGN_OR_RETURN(const Membership membership, ReadMembership(config_.cluster(), Environment()));
    CAUSEWAY_ASSIGN_OR_RETURN(PlacedModel placed,
                              membership.size > 1 ? PlaceOverProcesses(membership) : PlaceModel(options_));
    for (const std::string& warning : placed.spec.warnings) Log(LogLevel::kWarning, "model", {{"message", warning}});
    if (!placed.no_driver.empty()) Log(LogLevel::kInfo, "the CPU computes", {{"why", placed.no_driver}});
    const Processors& processors = ThisMachine();
    const std::string table = PlanTable(placed.plan, isatty(STDOUT_FILENO) == 1);
    std::printf("%sProcessors: %s.\n\n", table.c_str(), processors.text().c_str());
    std::fflush(stdout);
    Log(LogLevel::kInfo, "processors",
        {{"at_hand", processors.count},
         {"of", processors.machine},
         {"bound_by", processors.bound_text()},
         {"cpu_threads", ThreadsFor(options_.executor.cpu_threads)}});
    plan_ = placed.plan;
    if (!plan_.quantization.empty()) {
      Log(LogLevel::kInfo, "weights",
          {{"quantization", plan_.quantization}, {"unquantized", absl::StrJoin(plan_.unquantized, ", ")}});
    }

    serving_.name = config_.model().name().empty() ? placed.name : config_.model().name();
    std::vector<std::string> warnings;
    serving_.defaults = ReadModelDefaults(placed.checkpoint->generation_config(), &warnings);
    for (const std::string& warning : warnings) Log(LogLevel::kWarning, "model", {{"message", warning}});
    metrics_ = std::make_unique<Metrics>(serving_.name, plan_.options.max_model_len, kVersion, kBuild);
    context_.metrics = metrics_.get();
    context_.plan = &plan_;
    context_.config = &loaded_;
    context_.model_name = serving_.name;
    context_.queue_limit = config_.batching().queue_limit();

    CAUSEWAY_RETURN_IF_ERROR(Listen());
    // The file is written only now: once the ports are bound, it belongs to the daemon that has them.
    if (const std::string& file = config_.server().ports_file(); !file.empty())
      CAUSEWAY_RETURN_IF_ERROR(ClearPortsFile(file));
    CAUSEWAY_RETURN_IF_ERROR(Load(std::move(placed)));
    return Announce();
  }

  absl::Status ServeUntilStopped() override {
    stop_.WaitForNotification();
    const absl::Status failure = Failure();
    if (!failure.ok()) Log(LogLevel::kError, "a device has failed", {{"error", std::string(failure.message())}});
    const EngineStats stats = engine_->Stats();
    Log(LogLevel::kInfo, "draining",
        {{"requests_running", stats.requests_running},
         {"requests_waiting", stats.requests_waiting},
         {"budget_seconds", config_.server().drain_seconds()}});
    context_.state.Drain();
    rpc_->SetServing(false);
    const bool all_ended =
        engine_->Drain(absl::Now() + (failure.ok() ? absl::Seconds(config_.server().drain_seconds()) : kFailedDrain));
    if (!all_ended) Log(LogLevel::kWarning, "the drain budget ran out; the remaining requests were cancelled");
    rpc_->Stop(kStopGrace);
    rpc_.reset();
    {
      std::lock_guard lock(phase_mutex_);
      ended_ = true;
    }
    if (leader_ != nullptr) leader_->Leave(failure);
    Log(LogLevel::kInfo, "stopped");
    return failure;
  }

 private:
  absl::Status Failure() {
    std::lock_guard lock(phase_mutex_);
    return failure_;
  }

  // Gathers the other processes and plans for the devices of all of them.
  absl::StatusOr<PlacedModel> PlaceOverProcesses(const Membership& membership) {
    Log(LogLevel::kInfo, "leading a group of processes", {{"size", membership.size}, {"by", membership.source}});
    CAUSEWAY_ASSIGN_OR_RETURN(const FoundDevices found, FindDevices(options_));
    for (const std::string& warning : found.warnings) Log(LogLevel::kWarning, "devices", {{"message", warning}});
    CAUSEWAY_ASSIGN_OR_RETURN(const PlacedModel model, ReadModel(options_, Purpose::kRunning));
    CAUSEWAY_ASSIGN_OR_RETURN(const v1::Join own,
                              DescribeProcess(loaded_, kVersion, *model.checkpoint, found.devices, options_));
    CAUSEWAY_ASSIGN_OR_RETURN(leader_, ClusterLeader::Start(loaded_, membership));
    CAUSEWAY_ASSIGN_OR_RETURN(const std::vector<Device> devices, leader_->AwaitJoined(own));
    options_.plan_threads = leader_->threads();
    CAUSEWAY_ASSIGN_OR_RETURN(PlacedModel placed, PlaceModel(options_, devices, Purpose::kRunning));
    CAUSEWAY_RETURN_IF_ERROR(leader_->Place(config_, placed));
    options_.processes = [this](int replica, const Plan& plan) { return leader_->Processes(replica, plan); };
    return placed;
  }

  absl::Status CheckAddresses() const {
    CAUSEWAY_ASSIGN_OR_RETURN(const Address grpc, AddressOf("server.listen", config_.server().listen()));
    if (config_.server().http().empty()) return absl::OkStatus();
    CAUSEWAY_ASSIGN_OR_RETURN(const Address http, AddressOf("server.http", config_.server().http()));
    if (!Overlap(grpc, http)) return absl::OkStatus();
    return absl::InvalidArgumentError(absl::StrCat(loaded_.Where("server.http"),
                                                   ": expected another port than that of ", "server.listen, ",
                                                   grpc.ToString(), ", got ", http.ToString()));
  }

  absl::Status Listen() {
    if (!config_.server().http().empty()) {
      CAUSEWAY_ASSIGN_OR_RETURN(const Address http, AddressOf("server.http", config_.server().http()));
      CAUSEWAY_ASSIGN_OR_RETURN(http_, HttpServer::Start(http, {.metrics = [this] { return metrics_->Scrape(); },
                                                                .not_ready = [this] { return NotReady(); }}));
    }
    CAUSEWAY_ASSIGN_OR_RETURN(const Address grpc, AddressOf("server.listen", config_.server().listen()));
    CAUSEWAY_ASSIGN_OR_RETURN(rpc_, RpcServer::Start(grpc, config_.server().message_bytes_max(), context_));
    Log(LogLevel::kInfo, "listening, not serving yet",
        {{"grpc", rpc_->address().ToString()}, {"http", http_ == nullptr ? "" : http_->address().ToString()}});
    return absl::OkStatus();
  }

  absl::StatusOr<Address> AddressOf(const std::string& path, const std::string& text) const {
    absl::StatusOr<Address> address = ParseAddress(text);
    if (address.ok()) return address;
    return absl::InvalidArgumentError(absl::StrCat(loaded_.Where(path), ": ", std::string(address.status().message())));
  }

  // The first of them, each with how many values.
  static std::string ForLog(const NotFiniteWeights& weights) {
    std::vector<std::string> named;
    for (const auto& [tensor, values] : weights) named.push_back(absl::StrCat(tensor, ": ", values));
    return Listed(named, /*most=*/8);
  }

  absl::Status Load(PlacedModel placed) {
    LoadMeter meter(LoadDisplayFor(config_.log().format()));
    auto engine = Engine::Create(std::move(placed), options_, metrics_.get(), [&](const LoadProgress& progress) {
      context_.load_bytes_done = progress.bytes_done;
      context_.load_bytes_total = progress.bytes_total;
      meter.Update(progress);
    });
    meter.Finish();
    CAUSEWAY_RETURN_IF_ERROR(engine.status());
    engine_ = *std::move(engine);
    for (const std::string& warning : engine_->text_warnings())
      Log(LogLevel::kWarning, "model", {{"message", warning}});
    const EngineStats stats = engine_->Stats();
    const StartSeconds& start = stats.executor.start;
    Log(LogLevel::kInfo, "loaded",
        {{"model", serving_.name},
         {"bytes", meter.last().bytes_done},
         {"weights_seconds", meter.last().seconds},
         {"gb_per_second", LoadMeter::BytesPerSecond(meter.last()) / 1e9},
         {"memory_seconds", start.memory},
         {"warm_up_seconds", start.warm_up},
         {"text_seconds", stats.text_seconds},
         {"seconds", stats.load_seconds}});
    if (const NotFiniteWeights& weights = stats.executor.not_finite; !weights.empty()) {
      Log(LogLevel::kWarning, "weights hold NaN or infinite numbers: requests that meet them end with INTERNAL",
          {{"tensors", weights.size()}, {"values", ForLog(weights)}});
    }
    if (engine_->tokenizer() == nullptr) {
      Log(LogLevel::kWarning, "the model has no tokenizer: requests must send token ids and get token ids");
    }
    return absl::OkStatus();
  }

  absl::Status Announce() {
    serving_.engine = engine_.get();
    metrics_->WatchEngine(engine_.get());
    std::lock_guard lock(phase_mutex_);
    loaded_and_serving_ = true;
    context_.state.Publish(&serving_);
    rpc_->SetServing(true);
    if (leader_ != nullptr)
      leader_->Serving([this] { RequestStop(); }, [this](int replica) { return engine_->Restore(replica); });
    const std::string grpc = rpc_->address().ToString(), http = http_ == nullptr ? "" : http_->address().ToString();
    if (!config_.server().ports_file().empty()) {
      CAUSEWAY_RETURN_IF_ERROR(WritePortsFile(config_.server().ports_file(), grpc, http));
      ports_written_ = true;
    }
    std::printf("Serving %s: gRPC %s%s%s\n", serving_.name.c_str(), grpc.c_str(), http.empty() ? "" : ", HTTP ",
                http.c_str());
    std::fflush(stdout);
    return absl::OkStatus();
  }

  std::string NotReady() const {
    switch (context_.state.phase()) {
      case ServingPhase::kLoading: return "loading";
      case ServingPhase::kDraining: return "draining";
      default: return "";
    }
  }

  void OnSignal(int signal) {
    if (signal == SIGHUP && read_again_ != nullptr) return ReadAgain();
    if (std::exchange(signalled_, true)) {
      Log(LogLevel::kWarning, "second signal: stopping at once", {{"signal", signal}});
      FlushLog();
      _exit(128 + signal);
    }
    Log(LogLevel::kInfo, "signal", {{"signal", signal}});
    RequestStop();
  }

  void ReadAgain() {
    std::lock_guard lock(phase_mutex_);  // held throughout, so that the daemon does not stop meanwhile
    if (!loaded_and_serving_ || stop_.HasBeenNotified()) {
      Log(LogLevel::kWarning, "the configuration is not read again: only a daemon that serves does that");
      return;
    }
    const absl::StatusOr<LoadedConfig> read = read_again_();
    if (!read.ok()) {
      Log(LogLevel::kError, "the configuration cannot be read again, and stays as it was",
          {{"error", std::string(read.status().message())}});
      return;
    }
    ReloadedConfig reloaded = Reload(config_, read->config);
    config_ = std::move(reloaded.config);
    SetLogLevel(config_.log().level());
    engine_->SetLimits(config_.batching().queue_limit(), config_.server().layer_outputs_bytes_max());
    context_.queue_limit = config_.batching().queue_limit();
    Log(LogLevel::kInfo, "the configuration was read again", {{"changed", absl::StrJoin(reloaded.taken, ", ")}});
    if (reloaded.refused.empty()) return;
    Log(LogLevel::kWarning, "changed fields need a restart", {{"fields", absl::StrJoin(reloaded.refused, ", ")}});
  }

  void OnDeviceFailure(const absl::Status& failure, int replica, int left) {
    {
      std::lock_guard lock(phase_mutex_);
      if (ended_) return;  // the followers leave
      if (left == 0) {
        failure_ = absl::UnavailableError(failure.message());
        if (!stop_.HasBeenNotified()) stop_.Notify();
        return;
      }
    }
    if (leader_ != nullptr) leader_->Dismiss(replica, failure);
    Log(LogLevel::kError, "a device has failed: its replica is lost, and the others serve on",
        {{"error", std::string(failure.message())}, {"replicas_left", left}});
  }

  void RequestStop() {
    std::lock_guard lock(phase_mutex_);
    if (!loaded_and_serving_) {
      // Nothing runs yet, and loading threads cannot be told to stop.
      Log(LogLevel::kInfo, "stopped while loading");
      FlushLog();
      _exit(0);
    }
    if (!stop_.HasBeenNotified()) stop_.Notify();
  }

  const LoadedConfig& loaded_;  // what the daemon was started with
  const ReadConfig read_again_;
  v1::Config config_;       // what holds; ReadAgain writes it, until the daemon is told to stop
  bool signalled_ = false;  // to stop; of the watcher's thread
  absl::Notification stop_;
  std::mutex phase_mutex_;
  bool loaded_and_serving_ = false;  // guarded by phase_mutex_, as are the next two
  bool ended_ = false;               // nothing is served any more
  absl::Status failure_;             // of a device
  bool ports_written_ = false;
  SignalWatcher signals_;  // constructed before anything that starts threads

  EngineOptions options_;
  Plan plan_;
  Serving serving_{};
  RpcContext context_;
  std::unique_ptr<Metrics> metrics_;
  std::unique_ptr<ClusterLeader> leader_;  // null for a process alone
  std::unique_ptr<Engine> engine_;
  std::unique_ptr<HttpServer> http_;
  std::unique_ptr<RpcServer> rpc_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<Daemon>> Daemon::Create(const LoadedConfig& loaded, ReadConfig read_again) {
  auto daemon = std::make_unique<DaemonImpl>(loaded, std::move(read_again));
  CAUSEWAY_RETURN_IF_ERROR(daemon->Start());
  return daemon;
}

}  // namespace causeway
