// Runs steps: one worker thread per device, each with its segments of the model, its KV cache and its operations.
#ifndef CAUSEWAY_ENGINE_EXECUTION_EXECUTOR_H_
#define CAUSEWAY_ENGINE_EXECUTION_EXECUTOR_H_

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "engine/architecture/spec.h"
#include "engine/base/device_memory.h"
#include "engine/base/expert_load.h"
#include "engine/batch/step.h"
#include "engine/checkpoint/checkpoint.h"
#include "engine/device/communicator.h"
#include "engine/plan/plan.h"

namespace causeway {

class DeviceRuntime;

struct ExecutorOptions {
  int cpu_threads = 0;  // divided among the devices that compute on the CPU; 0: as many as there are processors at hand
  bool reference_ops = false;  // the ATen reference instead of fused kernels
  std::string offload_folder;  // where weights lie that the plan has on disk
  // Weights in CPU memory are computed from by the CPU for up to so many rows of a step, and brought to the device for
  // more. Without a number: up to as many as a measurement at startup finds faster so.
  std::optional<int64_t> offload_cpu_rows;
  // Makes the devices; null: MakeDeviceRuntime. Tests bring devices of their own.
  std::function<absl::StatusOr<std::unique_ptr<DeviceRuntime>>(const DevicePlan& plan, bool reference_ops)>
      make_runtime;
};

struct LoadProgress {
  int64_t bytes_done = 0, bytes_total = 0;
  double seconds = 0;  // since memory for the weights was asked for
};

// Threads that read and pack the weights.
int LoadThreads(const ExecutorOptions& options);

struct DeviceStats {
  DeviceMemory memory;
  double busy_seconds = 0;
  double active_seconds =
      0;  // with a step under way somewhere in the pipeline: less busy_seconds, it waited for others
  int64_t prefill_tokens = 0, decode_tokens = 0;  // rows computed here
  int64_t streamed_bytes = 0;                     // of offloaded weights brought here
  CollectiveStats collectives;                    // with the other ranks of its group
  int64_t cpu_rows = 0, expert_cpu_rows = 0;  // up to which weights in CPU memory are computed there (ExecutorOptions)
};
struct TransferStats {
  std::string from, to;  // device names
  int64_t bytes = 0;
};
// How long the parts of starting took behind the weights.
struct StartSeconds {
  double memory = 0;  // taking what was not there yet of the cache's and the activations'
  double warm_up = 0;
};
// How many values of the checkpoint's tensors are NaN or infinite, by tensor; those that have any, as far as they were
// read while loading.
using NotFiniteWeights = std::map<std::string, int64_t>;
struct ExecutorStats {
  std::vector<DeviceStats> devices;  // as Plan::devices
  std::vector<TransferStats> transfers;
  StartSeconds start;
  NotFiniteWeights not_finite;
  std::map<int, ExpertLoad> experts;  // by layer, of those with experts, whatever device they are on
};

class Executor {
 public:
  virtual ~Executor() = default;  // finishes what is in flight

  // Starts a step and returns at once. At most steps_in_flight() may be unfinished. One thread calls Run and Wait.
  virtual void Run(StepPlan plan) = 0;
  // The oldest unfinished step's result; waits for it.
  virtual StepResult Wait() = 0;
  virtual int steps_in_flight() const = 0;  // StepsInFlight of the devices that hold units
  virtual int micro_batches() const = 0;    // MicroBatchesOf the plan: what the scheduler divides sequences into

  virtual ExecutorStats Stats() const = 0;  // any thread

  // Not OK: another process is gone, and no later step can be computed, whether or not there are any. `told` is called
  // then, on any thread, until the executor ends. Results of steps say so, too.
  virtual absl::Status Lost() const { return absl::OkStatus(); }
  virtual void OnLost(std::function<void()> /*told*/) {}
};

// Loads the weights (devices in parallel), allocates the KV cache, warms up with the worst-case step and checks it
// against the plan's budgets. `progress` is called from loader threads, one at a time, as is `proceed`, whose first
// error ends the loading.
absl::StatusOr<std::unique_ptr<Executor>> MakeExecutor(const ModelSpec& spec, const Checkpoint& checkpoint,
                                                       const Plan& plan, const ExecutorOptions& options,
                                                       const std::function<void(const LoadProgress&)>& progress,
                                                       const std::function<absl::Status()>& proceed = nullptr);

}  // namespace causeway

#endif  // CAUSEWAY_ENGINE_EXECUTION_EXECUTOR_H_
