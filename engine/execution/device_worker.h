// One thread, one device: its part of the model, its KV cache, and the steps' work there.
#ifndef CAUSEWAY_ENGINE_EXECUTION_DEVICE_WORKER_H_
#define CAUSEWAY_ENGINE_EXECUTION_DEVICE_WORKER_H_

#include <atomic>
#include <chrono>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "absl/status/status.h"
#include "engine/base/bounded_queue.h"
#include "engine/device/communicator.h"
#include "engine/device/device_runtime.h"
#include "engine/execution/executor.h"
#include "engine/execution/sampler_state.h"
#include "engine/execution/step_batch.h"
#include "engine/execution/token_rows.h"
#include "engine/model/model.h"
#include "engine/weights/weight_stream.h"

namespace causeway {

// A step on its way through the segments. The workers of the segment that it is in share it: each writes what is its
// rank's, and the last to be done with the segment passes it on.
struct Step {
  using Clock = std::chrono::steady_clock;

  uint64_t number = 0;  // the executor's own count, from 1
  StepPlan plan;
  StepBatch batch;
  int64_t candidates = 0;  // CandidateCounts::Of
  size_t segment = 0;      // the next to run
  bool warm_up = false;    // one layer of each shape in each segment, and no statistics
  // By rank.
  struct Part {
    // From the segment before, or for the next; on the host where that is another process's.
    DeviceRuntime::Sent hidden;
    absl::Status status, device_failure;
  };
  std::vector<Part> ranks;
  std::atomic<int> ranks_left = 0;  // that have not run the segment
  std::vector<at::Tensor>
      before_norm;  // on the host, by sequence: rows whose final norm its LayerOutputs take; else undefined
  Clock::time_point start;
  StepResult result;  // its statuses are those of the segments before; rank 0 of the last one writes the rest
};

struct WorkerOptions {
  int threads = 1;
  at::ScalarType dtype = at::kFloat;  // of weights
  bool int8_kv = false;               // the KV cache; else of dtype
  ParallelGroup group;                // that shares the units
  std::vector<int> units;             // held here, ascending
  int64_t kv_blocks = 0;
  int64_t positions = 0;                    // the longest sequence
  DevicePlan plan;                          // of the device: what of it is offloaded
  std::optional<int64_t> offload_cpu_rows;  // as in ExecutorOptions
  std::vector<bool> leaves_process;         // by segment but the last: whether another process goes on with its output
};

class DeviceWorker {
 public:
  // `sampler` is shared by the workers: the head's writes it, the embeddings' read last tokens. `ranks` is null in a
  // group of one. `done` is called on this worker's thread with each step that it was the last rank to run a segment
  // of. All references must outlive the worker.
  DeviceWorker(const ModelSpec& spec, const std::vector<Segment>& segments, std::unique_ptr<DeviceRuntime> runtime,
               std::unique_ptr<Communicator> ranks, WorkerOptions options, SamplerState& sampler,
               std::function<void(std::shared_ptr<Step>)> done);
  ~DeviceWorker();  // after the work that is queued

  // Runs `work` on the worker's thread, behind what is queued, and waits for it. Torch's exceptions come back as
  // statuses.
  absl::Status Call(const std::function<absl::Status()>& work);

  // On the worker's thread, by Call. Behind BuildModel the loader may fill targets(). AllocateCache and then
  // ReserveActivations make the worker ready for steps; what both leave untouched is the runtime's to tell.
  void BuildModel();
  void AllocateCache();
  void ReserveActivations(int64_t bytes);
  LoadTargets targets();
  // Null where the device holds all its weights. Between BuildModel and the loading it is given its folder; StartStream
  // is called behind the loading, and before AllocateCache.
  WeightStream* stream() { return stream_.get(); }
  absl::Status StartStream();

  // The step's next segment, which must be one of this device; returns at once. The ranks of a group get steps in the
  // same order.
  void Enqueue(std::shared_ptr<Step> step);

  // Whether the next step is started while the device still chooses the last one's tokens: they stay on the device, and
  // the host learns of them later. So it is where one device without a group has the whole model and all weights, and
  // does its work beside the host.
  bool SamplesLater() const {
    return !runtime_->in_host_memory() && segments_.size() == 1 && ranks_ == nullptr && stream_ == nullptr;
  }

  DeviceRuntime& runtime() { return *runtime_; }
  ParallelGroup group() const { return options_.group; }
  at::ScalarType activations() const { return ops_->Activations(options_.dtype); }  // once the model is built
  DeviceStats stats() const;                                                        // any thread
  std::map<int, ExpertLoad> ExpertLoads() const {
    return model_->ExpertLoads();
  }  // any thread, once the model is built

 private:
  struct Command {
    std::shared_ptr<Step> step;                             // or
    std::function<void(const absl::Status& entered)> call;  // whether the thread has the device
  };

  // Tokens that the device was told to choose.
  struct Started {
    TokenRows rows;
    StartedSample sample;
    at::Tensor outputs;  // on the host, once done
    std::function<void()> done;
  };
  struct StartedStep {
    std::shared_ptr<Step> step;
    std::optional<Started> sampling;  // nothing: the step is done
  };

  void Loop();
  void EndOldest();  // of the steps started: waits for its tokens and passes it on
  absl::Status RunRank(Step& step, const absl::Status& entered);
  absl::Status Health();
  absl::Status RunSegment(Step& step);
  absl::Status Finish(Step& step, const at::Tensor& of_head, const TokenPlaces& sampled);
  void TakeTokens(Step& step, const Started& started);
  void CopyLogits(Step& step, const at::Tensor& logits);
  void Count(const Step& step);
  ModelContext Context(WeightFetcher* fetcher) const;

  const ModelSpec& spec_;
  const std::vector<Segment>& segments_;
  const std::unique_ptr<DeviceRuntime> runtime_;
  const std::unique_ptr<Communicator> ranks_;
  const WorkerOptions options_;
  SamplerState& sampler_;
  const std::function<void(std::shared_ptr<Step>)> done_;

  std::unique_ptr<Ops> ops_;
  std::unique_ptr<WeightStream> stream_;
  std::unique_ptr<DeviceModel> model_;
  std::unique_ptr<KvCache> cache_;
  RotaryTables rotary_;

  // Of SamplesLater; else nothing is in them.
  at::Tensor last_tokens_;  // int64 [slots], on the device
  std::deque<StartedStep> started_;
  std::optional<Started> sampling_;  // of the step that is being started

  std::atomic<int64_t> prefill_tokens_ = 0, decode_tokens_ = 0;
  uint64_t counted_step_ = 0;  // the last whose rows are counted: a device may run several segments of one
  BoundedQueue<Command> queue_;
  std::thread thread_;
};

}  // namespace causeway

#endif  // CAUSEWAY_ENGINE_EXECUTION_DEVICE_WORKER_H_
