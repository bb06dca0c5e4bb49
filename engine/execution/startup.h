// From a plan to workers that are ready for steps.
#ifndef CAUSEWAY_ENGINE_EXECUTION_STARTUP_H_
#define CAUSEWAY_ENGINE_EXECUTION_STARTUP_H_

#include <functional>
#include <map>
#include <memory>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "engine/checkpoint/checkpoint.h"
#include "engine/execution/device_worker.h"
#include "engine/execution/executor.h"
#include "engine/execution/process_share.h"

namespace causeway {

// Whether steps can run on the plan: Internal where it contradicts itself or the model, Unimplemented where this
// version lacks something, FailedPrecondition where it has no KV cache.
absl::Status CheckServable(const Plan& plan, const ModelSpec& spec);

using DeviceWorkers = std::map<int, std::unique_ptr<DeviceWorker>>;  // by index into Plan::devices

// A worker for each own device that holds units. Spec, plan, share and sampler must outlive them; `done` is
// DeviceWorker's.
absl::StatusOr<DeviceWorkers> MakeWorkers(const ModelSpec& spec, const Plan& plan, const ProcessShare& share,
                                          const ExecutorOptions& options, SamplerState& sampler,
                                          const std::function<void(std::shared_ptr<Step>)>& done);

struct StartupCallbacks {
  // Called by loader threads, one call at a time; both may be null. The first error of `proceed` ends the loading.
  std::function<void(const LoadProgress&)> progress;
  std::function<absl::Status()> proceed;
};

struct LoadedModel {
  double memory_seconds = 0;  // from when the weights were in place
  NotFiniteWeights not_finite;
};
// Fills the workers' weights from the checkpoint, allocates caches and activations and takes their pages.
absl::StatusOr<LoadedModel> LoadModel(const ModelSpec& spec, const Plan& plan, const Checkpoint& checkpoint,
                                      const ExecutorOptions& options, const StartupCallbacks& callbacks,
                                      const DeviceWorkers& workers);

// FailedPrecondition where a device took more for the worst step, which has just run, than the plan allows.
absl::Status CheckActivations(const Plan& plan, const DeviceWorkers& workers);

}  // namespace causeway

#endif  // CAUSEWAY_ENGINE_EXECUTION_STARTUP_H_
