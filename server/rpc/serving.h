// What the handlers need to know of the daemon: whether it serves, and what.
#ifndef CAUSEWAY_SERVER_RPC_SERVING_H_
#define CAUSEWAY_SERVER_RPC_SERVING_H_

#include <atomic>
#include <cstdint>
#include <functional>
#include <string>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "engine/engine.h"
#include "server/rpc/gate.h"
#include "server/rpc/model_defaults.h"
#include "server/rpc/prepare_workers.h"
#include "server/startup/load_config.h"
#include "server/telemetry/metrics.h"

namespace causeway {

// The model that answers the requests. Immutable.
struct Serving {
  Engine* engine;
  std::string name;  // the name that requests use
  ModelDefaults defaults;
};

enum class ServingPhase { kLoading, kServing, kDraining };

// The daemon writes it; the gate and those who report it read it. Thread-safe.
class ServingState {
 public:
  // `serving` outlives every call. The state goes from loading to serving.
  void Publish(const Serving* serving) {
    serving_.store(serving, std::memory_order_release);
    phase_.store(ServingPhase::kServing, std::memory_order_release);
  }
  void Drain() { phase_.store(ServingPhase::kDraining, std::memory_order_release); }

  ServingPhase phase() const { return phase_.load(std::memory_order_acquire); }
  // Null while loading.
  const Serving* serving() const { return serving_.load(std::memory_order_acquire); }

 private:
  std::atomic<const Serving*> serving_{nullptr};
  std::atomic<ServingPhase> phase_{ServingPhase::kLoading};
};

// The services borrow it; it outlives them.
struct RpcContext {
  ServingState state;
  Gate gate{state};
  Metrics* metrics;
  const Plan* plan;                      // made before the listener
  const LoadedConfig* config = nullptr;  // what the daemon was started with; outlives the services
  std::string model_name;
  std::string version;
  absl::Time started;
  std::atomic<int64_t> queue_limit{0};
  std::atomic<int64_t> load_bytes_done{0}, load_bytes_total{0};
  std::function<void()> request_drain;                   // does what SIGTERM does; returns at once
  PrepareWorkers workers{2, "grammars and long texts"};  // two, so that one hard grammar does not hold up all others
  PrepareWorkers planner{1, "plans"};
};

// NotFound names what is served, unless `name` is empty or the served model's.
absl::Status CheckModelName(const std::string& name, const Serving& serving);

}  // namespace causeway

#endif  // CAUSEWAY_SERVER_RPC_SERVING_H_
