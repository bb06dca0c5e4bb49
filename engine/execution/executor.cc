#include "engine/execution/executor.h"

#include <algorithm>
#include <chrono>
#include <deque>
#include <iterator>
#include <map>
#include <thread>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/strings/str_cat.h"
#include "absl/synchronization/mutex.h"
#include "engine/architecture/registry.h"
#include "engine/base/bounded_queue.h"
#include "engine/base/status.h"
#include "engine/device/page_toucher.h"
#include "engine/execution/stage_worker.h"
#include "engine/execution/warm_up.h"
#include "engine/threads/processors.h"
#include "engine/weights/loader.h"
#include "engine/weights/packed_contents.h"
#include "engine/weights/scalar_type.h"

namespace causeway {
namespace {

constexpr size_t kResultsMax = 1024;  // far above steps in flight
constexpr int kReadersMax = 8;

class Stopwatch {
 public:
  double seconds() const { return std::chrono::duration<double>(std::chrono::steady_clock::now() - begun_).count(); }

 private:
  const std::chrono::steady_clock::time_point begun_ = std::chrono::steady_clock::now();
};

// Whether its worker needs the processor's cores.
bool ComputesOnCpu(const DevicePlan& device, const ModelSpec& spec, std::optional<int64_t> offload_cpu_rows) {
  if (device.device.kind != DeviceKind::kCuda) return true;
  return offload_cpu_rows != 0 &&
         std::any_of(device.offloaded.begin(), device.offloaded.end(), [&spec](const OffloadedModule& module) {
           return module.tier == "cpu" && module.name != spec.embedding_path &&
                  module.name != spec.position_embedding_path;
         });
}

// Routes steps through the segments. A step's segments queue at the workers of their devices, each of which works off
// its queue in order, so steps stay in order within every segment.
class PipelineExecutor final : public Executor {
 public:
  PipelineExecutor(ModelSpec spec, Plan plan)
      : spec_(std::move(spec)),
        plan_(std::move(plan)),
        limits_{spec_.vocab_size, plan_.options.max_num_seqs, plan_.kv_blocks, plan_.options.max_model_len},
        sampler_(plan_.options.max_num_seqs, spec_.vocab_size),
        sampled_in_(plan_.options.max_num_seqs, 0),
        results_(kResultsMax) {}

  ~PipelineExecutor() override {
    while (in_flight_ > 0) Wait();
  }

  absl::Status Start(const Checkpoint& checkpoint, const ExecutorOptions& options,
                     const std::function<void(const LoadProgress&)>& progress,
                     const std::function<absl::Status()>& proceed) {
    CAUSEWAY_RETURN_IF_ERROR(MakeWorkers(options));
    const Stopwatch begun;
    CAUSEWAY_RETURN_IF_ERROR(OnEach([](StageWorker& worker, int) {
      worker.BuildModel();
      return absl::OkStatus();
    }));
    CAUSEWAY_RETURN_IF_ERROR(AllocateOffloaded(checkpoint, options));
    // On the CPU the caches' pages are taken beside the loading, where it leaves processors idle. A stream first
    // measures, by itself.
    const auto early = [](StageWorker& worker) {
      return worker.runtime().device().is_cpu() && worker.stream() == nullptr;
    };
    CAUSEWAY_RETURN_IF_ERROR(AllocateCaches(early));
    PageToucher pages;
    AddUntouched(pages);
    const int threads = LoadThreads(options);
    pages.Start(std::min(ThreadsFor(options.cpu_threads) - threads, threads));
    LoadOptions load;
    load.readers = threads;
    load.progress = [&](int64_t done, int64_t total) {
      if (progress) progress({done, total, begun.seconds()});
    };
    load.proceed = proceed;
    load.from_disk = [&] { pages.Start(threads); };
    CAUSEWAY_RETURN_IF_ERROR(Load(checkpoint, std::move(load)));
    const Stopwatch loaded;
    pages.Finish(threads);
    CAUSEWAY_RETURN_IF_ERROR(OnEach(
        [](StageWorker& worker, int) { return worker.stream() == nullptr ? absl::OkStatus() : worker.StartStream(); }));
    CAUSEWAY_RETURN_IF_ERROR(AllocateCaches([&early](StageWorker& worker) { return !early(worker); }));
    CAUSEWAY_RETURN_IF_ERROR(OnEach([this](StageWorker& worker, int device) {
      worker.ReserveActivations(plan_.devices[device].activations);
      return absl::OkStatus();
    }));
    AddUntouched(pages);
    pages.Finish(threads);
    start_.memory = loaded.seconds();
    CAUSEWAY_RETURN_IF_ERROR(WarmUp());
    start_.warm_up = loaded.seconds() - start_.memory;
    return absl::OkStatus();
  }

  void Run(StepPlan plan) override {
    auto step = std::make_unique<Step>();
    step->plan = std::move(plan);
    Launch(std::move(step));
  }

  StepResult Wait() override {
    --in_flight_;
    return *results_.Pop();
  }

  int steps_in_flight() const override { return static_cast<int>(workers_.size()) + 1; }

  ExecutorStats Stats() const override {
    ExecutorStats stats;
    stats.start = start_;
    stats.devices.resize(plan_.devices.size());
    for (const auto& [device, worker] : workers_) {
      stats.devices[device] = worker->stats();
      stats.experts.merge(worker->ExpertLoads());
    }
    absl::MutexLock lock(&mutex_);
    for (const auto& [route, bytes] : transfers_) {
      stats.transfers.push_back(
          {plan_.devices[route.first].device.name, plan_.devices[route.second].device.name, bytes});
    }
    return stats;
  }

 private:
  absl::Status MakeWorkers(const ExecutorOptions& options) {
    std::map<int, std::vector<int>> units;  // by device
    for (const Segment& segment : plan_.segments) {
      for (const int unit : segment.units.all()) units[segment.device()].push_back(unit);
    }
    int on_cpu = 0;
    for (const auto& [device, held] : units)
      on_cpu += ComputesOnCpu(plan_.devices[device], spec_, options.offload_cpu_rows);
    const int threads = ThreadsFor(options.cpu_threads);
    CAUSEWAY_ASSIGN_OR_RETURN(const at::ScalarType dtype, ScalarTypeOf(plan_.options.dtype));
    for (auto& [device, held] : units) {
      std::sort(held.begin(), held.end());
      CAUSEWAY_ASSIGN_OR_RETURN(std::unique_ptr<DeviceRuntime> runtime,
                                MakeDeviceRuntime(plan_.devices[device], options.reference_ops));
      WorkerOptions worker{.threads = std::max(1, threads / std::max(1, on_cpu)),
                           .dtype = dtype,
                           .int8_kv = KvDType(plan_.options) == DType::kI8,
                           .units = held,
                           .kv_blocks = plan_.kv_blocks,
                           .positions = plan_.options.max_model_len,
                           .plan = plan_.devices[device],
                           .offload_cpu_rows = options.offload_cpu_rows};
      for (OffloadedModule& module : worker.plan.offloaded) {
        // The weight that a tied head has a copy of goes by the embeddings' name.
        if (spec_.tied_head && module.name == spec_.head_path) module.name = ModulePath(spec_.embedding_weight);
      }
      workers_[device] =
          std::make_unique<StageWorker>(spec_, plan_.segments, std::move(runtime), std::move(worker), sampler_,
                                        [this](std::unique_ptr<Step> step) { Advance(std::move(step)); });
    }
    return absl::OkStatus();
  }

  // On all workers at once; the first error by device.
  absl::Status OnEach(const std::function<absl::Status(StageWorker&, int)>& work) {
    std::map<int, absl::Status> statuses;
    for (const auto& [device, worker] : workers_) statuses[device];
    std::vector<std::thread> callers;
    for (const auto& [device, worker] : workers_) {
      callers.emplace_back([&, device = device, worker = worker.get()] {
        statuses[device] = worker->Call([&] { return work(*worker, device); });
      });
    }
    for (std::thread& caller : callers) caller.join();
    for (const auto& [device, status] : statuses) CAUSEWAY_RETURN_IF_ERROR(status);
    return absl::OkStatus();
  }

  absl::Status AllocateCaches(const std::function<bool(StageWorker&)>& whether) {
    return OnEach([&whether](StageWorker& worker, int) {
      if (whether(worker)) worker.AllocateCache();
      return absl::OkStatus();
    });
  }

  void AddUntouched(PageToucher& pages) {
    for (const auto& [device, worker] : workers_) {
      for (const absl::Span<char> memory : worker->runtime().TakeUntouched()) pages.Add(memory);
    }
  }

  absl::Status AllocateOffloaded(const Checkpoint& checkpoint, const ExecutorOptions& options) {
    std::map<std::string, TensorInfo> tensors;
    if (plan_.offloaded_to_cpu + plan_.offloaded_to_disk > 0) {
      CAUSEWAY_ASSIGN_OR_RETURN(tensors, MatchTensors(spec_, checkpoint));
    }
    CAUSEWAY_ASSIGN_OR_RETURN(const at::ScalarType dtype, ScalarTypeOf(plan_.options.dtype));
    const PackedContents contents = DescribePacked(spec_, checkpoint, plan_.options.dtype, options.reference_ops);
    return OnEach([&](StageWorker& worker, int device) -> absl::Status {
      WeightStream* stream = worker.stream();
      if (stream == nullptr) return absl::OkStatus();
      CAUSEWAY_RETURN_IF_ERROR(stream->Allocate(worker.targets(), tensors, checkpoint, options.offload_folder,
                                                contents.text, contents.reusable));
      if (plan_.devices[device].units.front() != 0) return absl::OkStatus();
      const WeightFormat format = spec_.tied_head ? spec_.head.format : WeightFormat{};
      for (const auto& [table, held_as] :
           {std::pair(spec_.embedding_weight, format), std::pair(spec_.position_weight, WeightFormat{})}) {
        if (table.empty() || !stream->Offloads(table)) continue;
        const bool shared = spec_.tied_head && table == spec_.embedding_weight;
        CAUSEWAY_RETURN_IF_ERROR(stream->OpenTable(table, checkpoint, tensors.at(table), dtype, held_as, shared));
      }
      return absl::OkStatus();
    });
  }

  absl::Status Load(const Checkpoint& checkpoint, LoadOptions load) {
    LoadTargets targets;
    for (const auto& [device, worker] : workers_) {
      LoadTargets more = worker->targets();
      std::move(more.linears.begin(), more.linears.end(), std::back_inserter(targets.linears));
      std::move(more.vectors.begin(), more.vectors.end(), std::back_inserter(targets.vectors));
      std::move(more.elsewhere.begin(), more.elsewhere.end(), std::back_inserter(targets.elsewhere));
    }
    load.enter_thread = [this] { workers_.begin()->second->runtime().EnterThread(1); };
    const auto on_streams = [this](absl::Status (WeightStream::*act)(int)) {
      return [this, act](int batch) {
        for (const auto& [device, worker] : workers_) {
          if (worker->stream() == nullptr) continue;
          CAUSEWAY_RETURN_IF_ERROR(
              CatchTorch(worker->runtime().name(), [&] { return (worker->stream()->*act)(batch); }));
        }
        return absl::OkStatus();
      };
    };
    load.begin_batch = on_streams(&WeightStream::BeginBatch);
    load.end_batch = on_streams(&WeightStream::EndBatch);
    return LoadWeights(spec_, checkpoint, targets, load);
  }

  absl::Status WarmUp() {
    for (const auto& [device, worker] : workers_) worker->runtime().ResetActivationsPeak();
    auto step = std::make_unique<Step>();
    step->plan = WorstStep(spec_, plan_);
    step->warm_up = true;
    Launch(std::move(step));
    CAUSEWAY_RETURN_IF_ERROR(Wait().status);
    sampler_.Clear();
    std::fill(sampled_in_.begin(), sampled_in_.end(), 0);
    for (const auto& [device, worker] : workers_) {
      const DeviceMemory memory = worker->runtime().memory();
      // The reserve is for what libraries take: none on the CPU.
      const int64_t planned = plan_.devices[device].activations + plan_.devices[device].reserve,
                    measured = memory.activations_peak + memory.workspace;
      if (measured <= planned) continue;
      return absl::FailedPreconditionError(
          absl::StrCat("device ", worker->runtime().name(), ": a worst-case step (max_num_batched_tokens ",
                       plan_.options.max_num_batched_tokens, ", max_num_seqs ", plan_.options.max_num_seqs, ") took ",
                       measured, " bytes of activations and workspace, and the plan allows ", planned));
    }
    return absl::OkStatus();
  }

  void Launch(std::unique_ptr<Step> step) {
    ++in_flight_;
    step->number = ++launched_;
    step->result.step = step->plan.step;
    step->result.rows = step->plan.tokens;
    step->result.prefill_rows = step->plan.prefill_tokens;
    step->result.sequences = static_cast<int64_t>(step->plan.sequences.size());
    absl::StatusOr<StepBatch> batch = MakeStepBatch(step->plan, limits_);
    if (batch.ok()) {
      step->batch = *std::move(batch);
    } else {
      step->result.status = std::move(batch).status();
    }
    // A placeholder waits until the step that samples it is done. With one segment the worker's queue sees to that.
    uint64_t needs = 0;
    for (const StepBatch::Placeholder& placeholder : step->batch.placeholders) {
      needs = std::max(needs, sampled_in_[placeholder.slot]);
      if (sampled_in_[placeholder.slot] == 0) {
        step->result.status = absl::InternalError(
            absl::StrCat("step plan: a placeholder in slot ", placeholder.slot, ", which no step samples for"));
      }
    }
    if (step->result.status.ok()) {
      for (const StepSequence& sequence : step->plan.sequences) {
        if (sequence.sample) sampled_in_[sequence.slot] = step->number;
      }
    }
    if (plan_.segments.size() == 1) needs = 0;
    {
      absl::MutexLock lock(&mutex_);
      held_back_.push_back({needs, std::move(step)});
    }
    Release();
  }

  // Steps enter the first segment in order, each as soon as the tokens it reads are there.
  void Release() {
    absl::MutexLock lock(&mutex_);
    while (!held_back_.empty() && held_back_.front().needs <= finished_) {
      workers_.at(plan_.segments.front().device())->Enqueue(std::move(held_back_.front().step));
      held_back_.pop_front();
    }
  }

  // On the thread of the worker that ran the step's segment.
  void Advance(std::unique_ptr<Step> step) {
    const int from = plan_.segments[step->segment].device();
    if (++step->segment < plan_.segments.size()) {
      const int to = plan_.segments[step->segment].device();
      if (step->hidden.defined() && !step->warm_up) {
        absl::MutexLock lock(&mutex_);
        transfers_[{from, to}] += step->hidden.nbytes();
      }
      workers_.at(to)->Enqueue(std::move(step));
      return;
    }
    {
      absl::MutexLock lock(&mutex_);
      finished_ = step->number;
    }
    StepResult result = std::move(step->result);
    step.reset();  // who learns of the result finds that the step holds nothing of its sequences any more
    results_.Push(std::move(result));
    Release();
  }

  const ModelSpec spec_;
  const Plan plan_;
  const BatchLimits limits_;
  SamplerState sampler_;
  StartSeconds start_;  // not written any more once Start has returned

  // Of the thread that calls Run and Wait.
  int in_flight_ = 0;
  uint64_t launched_ = 0;
  std::vector<uint64_t> sampled_in_;  // by slot: the last step launched that samples there

  struct HeldBack {
    uint64_t needs = 0;  // the step that must be finished first
    std::unique_ptr<Step> step;
  };
  mutable absl::Mutex mutex_;
  std::deque<HeldBack> held_back_ ABSL_GUARDED_BY(mutex_);
  uint64_t finished_ ABSL_GUARDED_BY(mutex_) = 0;
  std::map<std::pair<int, int>, int64_t> transfers_ ABSL_GUARDED_BY(mutex_);  // (from, to) -> bytes

  BoundedQueue<StepResult> results_;
  std::map<int, std::unique_ptr<StageWorker>>
      workers_;  // by device; last, so that their threads end before the rest goes
};

absl::Status Check(const Plan& plan, const ModelSpec& spec) {
  const int units = UnitsOf(spec).count();
  int next = 0;
  for (const Segment& segment : plan.segments) {
    if (segment.units.first != next || segment.units.last < segment.units.first) {
      return absl::InternalError(absl::StrCat("plan: a segment of units ", segment.units.first, " to ",
                                              segment.units.last, " where unit ", next, " is next"));
    }
    next = segment.units.last + 1;
  }
  if (next != units) return absl::InternalError(absl::StrCat("plan: segments end before unit ", next, " of ", units));
  if (plan.kv_blocks <= 0) {
    return absl::FailedPreconditionError(
        "the plan has no KV cache; it shows where weights go, but nothing can run on it");
  }
  return absl::OkStatus();
}

}  // namespace

int LoadThreads(const ExecutorOptions& options) { return std::min(ThreadsFor(options.cpu_threads), kReadersMax); }

absl::StatusOr<std::unique_ptr<Executor>> MakeExecutor(const ModelSpec& spec, const Checkpoint& checkpoint,
                                                       const Plan& plan, const ExecutorOptions& options,
                                                       const std::function<void(const LoadProgress&)>& progress,
                                                       const std::function<absl::Status()>& proceed) {
  CAUSEWAY_RETURN_IF_ERROR(Check(plan, spec));
  auto executor = std::make_unique<PipelineExecutor>(spec, plan);
  CAUSEWAY_RETURN_IF_ERROR(executor->Start(checkpoint, options, progress, proceed));
  return executor;
}

}  // namespace causeway
