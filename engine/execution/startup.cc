#include "engine/execution/startup.h"

#include <algorithm>
#include <iterator>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "engine/architecture/registry.h"
#include "engine/architecture/shard.h"
#include "engine/base/clock.h"
#include "engine/base/status.h"
#include "engine/device/page_toucher.h"
#include "engine/execution/memory_left.h"
#include "engine/plan/ranks.h"
#include "engine/threads/processors.h"
#include "engine/weights/loader.h"
#include "engine/weights/packed_contents.h"
#include "engine/weights/scalar_type.h"

namespace causeway {
namespace {

constexpr int kReadersMax = 8;

double SecondsSince(absl::Time begun) { return absl::ToDoubleSeconds(Clock::Real()->Now() - begun); }

// Whether its worker needs the processor's cores.
bool NeedsProcessors(const DevicePlan& device, std::optional<int64_t> offload_cpu_rows) {
  if (ComputesOnCpu(device.device.kind)) return true;
  return offload_cpu_rows != 0 &&
         std::any_of(device.offloaded.begin(), device.offloaded.end(), [](const OffloadedModule& module) {
           return module.tier == Tier::kCpu && module.kind != PieceKind::kTable;
         });
}

// Neighbouring rows of a table, as a table.
TensorInfo RowsOf(TensorInfo table, ShareRange rows) {
  const uint64_t row_bytes = table.bytes / table.shape.at(0);
  table.offset += rows.first * row_bytes;
  table.bytes = rows.count * row_bytes;
  table.shape[0] = rows.count;
  return table;
}

// What loading needs at each of its steps.
class Loading {
 public:
  Loading(const ModelSpec& spec, const Plan& plan, const Checkpoint& checkpoint, const ExecutorOptions& options,
          const DeviceWorkers& workers)
      : spec_(spec), plan_(plan), checkpoint_(checkpoint), options_(options), workers_(workers) {}

  absl::StatusOr<LoadedModel> Run(const StartupCallbacks& callbacks) {
    LoadedModel model;
    const absl::Time begun = Clock::Real()->Now();
    CAUSEWAY_RETURN_IF_ERROR(OnEach([](DeviceWorker& worker, int) {
      worker.BuildModel();
      return absl::OkStatus();
    }));
    CAUSEWAY_RETURN_IF_ERROR(AllocateOffloaded());
    // On the CPU the caches' pages are taken beside the loading, where it leaves processors idle. A stream first
    // measures, by itself.
    const auto early = [](DeviceWorker& worker) {
      return worker.runtime().in_host_memory() && worker.stream() == nullptr;
    };
    CAUSEWAY_RETURN_IF_ERROR(AllocateCaches(early));
    PageToucher pages;
    AddUntouched(pages);
    const int threads = LoadThreads(options_);
    pages.Start(std::min(ThreadsFor(options_.cpu_threads) - threads, threads));
    LoadOptions load;
    load.whole = workers_.size() == DevicesInUse(plan_).size();
    load.readers = threads;
    load.progress = [&](int64_t done, int64_t total) {
      if (callbacks.progress) callbacks.progress({done, total, SecondsSince(begun)});
    };
    load.proceed = callbacks.proceed;
    load.not_finite = [&](const std::string& tensor, int64_t values) { model.not_finite[tensor] += values; };
    load.from_disk = [&] { pages.Start(threads); };
    CAUSEWAY_RETURN_IF_ERROR(Load(std::move(load)));
    const absl::Time loaded = Clock::Real()->Now();
    pages.Finish(threads);
    CAUSEWAY_RETURN_IF_ERROR(OnEach([](DeviceWorker& worker, int) {
      return worker.stream() == nullptr ? absl::OkStatus() : worker.StartStream();
    }));
    CAUSEWAY_RETURN_IF_ERROR(AllocateCaches([&early](DeviceWorker& worker) { return !early(worker); }));
    CAUSEWAY_RETURN_IF_ERROR(OnEach([this](DeviceWorker& worker, int device) {
      worker.ReserveActivations(plan_.devices[device].activations);
      return absl::OkStatus();
    }));
    AddUntouched(pages);
    pages.Finish(threads);
    model.memory_seconds = SecondsSince(loaded);
    return model;
  }

 private:
  // On all workers at once; the first error by device.
  absl::Status OnEach(const std::function<absl::Status(DeviceWorker&, int)>& work) {
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

  absl::Status AllocateCaches(const std::function<bool(DeviceWorker&)>& whether) {
    return OnEach([&whether](DeviceWorker& worker, int) {
      if (whether(worker)) worker.AllocateCache();
      return absl::OkStatus();
    });
  }

  void AddUntouched(PageToucher& pages) {
    for (const auto& [device, worker] : workers_) {
      for (const absl::Span<char> memory : worker->runtime().TakeUntouched()) pages.Add(memory);
    }
  }

  absl::Status AllocateOffloaded() {
    std::map<std::string, TensorInfo> tensors;
    if (plan_.offloaded_to_cpu + plan_.offloaded_to_disk > 0) {
      CAUSEWAY_ASSIGN_OR_RETURN(tensors, MatchTensors(spec_, checkpoint_));
    }
    CAUSEWAY_ASSIGN_OR_RETURN(const at::ScalarType dtype, ScalarTypeOf(plan_.options.dtype));
    const PackedContents contents = DescribePacked(spec_, checkpoint_, plan_.options.dtype, options_.reference_ops);
    return OnEach([&](DeviceWorker& worker, int device) -> absl::Status {
      WeightStream* stream = worker.stream();
      if (stream == nullptr) return absl::OkStatus();
      const ParallelGroup group = worker.group();
      const std::string text = absl::StrCat(contents.text, "\nrank ", group.rank, " of ", group.size);
      CAUSEWAY_RETURN_IF_ERROR(
          stream->Allocate(worker.targets(), tensors, checkpoint_, options_.offload_folder, text, contents.reusable));
      if (plan_.devices[device].units.front() != 0) return absl::OkStatus();
      const WeightFormat format = spec_.tied_head ? spec_.head.format : WeightFormat{};
      for (const auto& [table, held_as] :
           {std::pair(spec_.embedding_weight, format), std::pair(spec_.position_weight, WeightFormat{})}) {
        if (table.empty() || !stream->Offloads(table)) continue;
        const bool shared = spec_.tied_head && table == spec_.embedding_weight;
        TensorInfo rows = tensors.at(table);
        if (table == spec_.embedding_weight) {
          CAUSEWAY_ASSIGN_OR_RETURN(const ShareRange words, ShardWords(spec_, group));
          rows = RowsOf(std::move(rows), words);
        }
        CAUSEWAY_RETURN_IF_ERROR(
            stream->OpenTable(table, checkpoint_, rows, dtype, worker.activations(), held_as, shared));
      }
      return absl::OkStatus();
    });
  }

  absl::Status Load(LoadOptions load) {
    std::vector<LoadTargets> ranks(workers_.begin()->second->group().size);
    for (const auto& [device, worker] : workers_) {
      LoadTargets& targets = ranks[worker->group().rank];
      LoadTargets more = worker->targets();
      std::move(more.linears.begin(), more.linears.end(), std::back_inserter(targets.linears));
      std::move(more.vectors.begin(), more.vectors.end(), std::back_inserter(targets.vectors));
      std::move(more.elsewhere.begin(), more.elsewhere.end(), std::back_inserter(targets.elsewhere));
    }
    load.enter_thread = [this] { workers_.begin()->second->runtime().EnterThread(1); };
    const auto on_streams = [this](absl::Status (WeightStream::*act)(int)) {
      return [this, act](int portion) {
        for (const auto& [device, worker] : workers_) {
          if (worker->stream() == nullptr) continue;
          CAUSEWAY_RETURN_IF_ERROR(
              CatchTorch(worker->runtime().name(), [&] { return (worker->stream()->*act)(portion); }));
        }
        return absl::OkStatus();
      };
    };
    load.begin_portion = on_streams(&WeightStream::BeginPortion);
    load.end_portion = on_streams(&WeightStream::EndPortion);
    return LoadWeights(spec_, checkpoint_, ranks, load);
  }

  const ModelSpec& spec_;
  const Plan& plan_;
  const Checkpoint& checkpoint_;
  const ExecutorOptions& options_;
  const DeviceWorkers& workers_;
};

}  // namespace

absl::Status CheckServable(const Plan& plan, const ModelSpec& spec) {
  const int units = UnitsOf(spec).count();
  int next = 0;
  for (const Segment& segment : plan.segments) {
    if (segment.units.first != next || segment.units.last < segment.units.first) {
      return absl::InternalError(absl::StrCat("plan: a segment of units ", segment.units.first, " to ",
                                              segment.units.last, " where unit ", next, " is next"));
    }
    const size_t ranks = plan.segments.front().devices.size();
    if (segment.devices.empty() || segment.devices.size() != ranks) {
      return absl::InternalError(absl::StrCat("plan: units ", segment.units.first, " to ", segment.units.last,
                                              " are on ", segment.devices.size(), " devices, others on ", ranks));
    }
    CAUSEWAY_RETURN_IF_ERROR(Shard(spec, {0, static_cast<int>(ranks)}).status());
    const std::string missing = MissingForGroups(plan.devices[segment.device()].device.kind, static_cast<int>(ranks));
    if (!missing.empty()) return absl::UnimplementedError(absl::StrCat("this version lacks ", missing));
    next = segment.units.last + 1;
  }
  if (next != units) return absl::InternalError(absl::StrCat("plan: segments end before unit ", next, " of ", units));
  if (plan.kv_blocks <= 0) {
    return absl::FailedPreconditionError(
        "the plan has no KV cache; it shows where weights go, but nothing can run on it");
  }
  return absl::OkStatus();
}

int LoadThreads(const ExecutorOptions& options) { return std::min(ThreadsFor(options.cpu_threads), kReadersMax); }

absl::StatusOr<DeviceWorkers> MakeWorkers(const ModelSpec& spec, const Plan& plan, const ProcessShare& share,
                                          const ExecutorOptions& options, SamplerState& sampler,
                                          const std::function<void(std::shared_ptr<Step>)>& done) {
  DeviceWorkers workers;
  std::map<int, std::vector<int>> units;  // by device
  std::map<int, ParallelGroup> groups;
  std::map<int, std::unique_ptr<Communicator>> ranks;
  for (const Segment& segment : plan.segments) {
    const int size = static_cast<int>(segment.devices.size());
    std::vector<std::unique_ptr<Communicator>> communicators;
    const bool own_group =
        std::all_of(segment.devices.begin(), segment.devices.end(), [&share](int device) { return share.has(device); });
    if (size > 1 && own_group && !ranks.contains(segment.device())) communicators = MakeHostCommunicators(size);
    for (int rank = 0; rank < size; ++rank) {
      const int device = segment.devices[rank];
      if (!share.has(device)) continue;
      groups[device] = {rank, size};
      for (const int unit : segment.units.all()) units[device].push_back(unit);
      if (!communicators.empty()) ranks[device] = std::move(communicators[rank]);
      if (own_group || ranks.contains(device)) continue;
      std::vector<PeerRank> peers;
      for (const int other : segment.devices) peers.push_back({share.peers.at(other), WhereIs(plan, other)});
      ranks[device] = MakeLinkCommunicator(*share.own.at(device), std::move(peers), rank);
    }
  }
  const auto make_runtime = options.make_runtime ? options.make_runtime : &MakeDeviceRuntime;
  int on_cpu = 0;
  for (const auto& [device, held] : units) on_cpu += NeedsProcessors(plan.devices[device], options.offload_cpu_rows);
  const int threads = ThreadsFor(options.cpu_threads);
  CAUSEWAY_ASSIGN_OR_RETURN(const at::ScalarType dtype, ScalarTypeOf(plan.options.dtype));
  for (auto& [device, held] : units) {
    std::sort(held.begin(), held.end());
    CAUSEWAY_ASSIGN_OR_RETURN(std::unique_ptr<DeviceRuntime> runtime,
                              make_runtime(plan.devices[device], options.reference_ops));
    if (groups.at(device).size > 1 && !runtime->in_host_memory()) {
      return absl::InternalError(
          absl::StrCat(runtime->name(), ": ranks tell each other sums through the CPU's memory, where it is not"));
    }
    WorkerOptions worker{.threads = std::max(1, threads / std::max(1, on_cpu)),
                         .dtype = dtype,
                         .int8_kv = KvDType(plan.options) == DType::kI8,
                         .group = groups.at(device),
                         .units = held,
                         .kv_blocks = plan.kv_blocks,
                         .positions = plan.options.max_model_len,
                         .plan = plan.devices[device],
                         .offload_cpu_rows = options.offload_cpu_rows};
    for (size_t i = 0; i + 1 < plan.segments.size(); ++i)
      worker.leaves_process.push_back(!share.has(plan.segments[i + 1].devices[worker.group.rank]));
    for (OffloadedModule& module : worker.plan.offloaded) {
      // The weight that a tied head has a copy of goes by the embeddings' name.
      if (spec.tied_head && module.kind == PieceKind::kHead) module.name = ModulePath(spec.embedding_weight);
    }
    workers[device] = std::make_unique<DeviceWorker>(spec, plan.segments, std::move(runtime), std::move(ranks[device]),
                                                     std::move(worker), sampler, done);
  }
  return workers;
}

absl::StatusOr<LoadedModel> LoadModel(const ModelSpec& spec, const Plan& plan, const Checkpoint& checkpoint,
                                      const ExecutorOptions& options, const StartupCallbacks& callbacks,
                                      const DeviceWorkers& workers) {
  return Loading(spec, plan, checkpoint, options, workers).Run(callbacks);
}

absl::Status CheckActivations(const Plan& plan, const DeviceWorkers& workers) {
  for (const auto& [device, worker] : workers) {
    // The reserve is for what libraries take: none on the CPU.
    const int64_t planned = plan.devices[device].activations + plan.devices[device].reserve;
    const int64_t left = PlannedLessMeasured(plan.devices[device], worker->runtime().memory()).activations +
                         plan.devices[device].reserve;
    if (left >= 0) continue;
    return absl::FailedPreconditionError(
        absl::StrCat("device ", worker->runtime().name(), ": a worst-case step (max_num_batched_tokens ",
                     plan.options.max_num_batched_tokens, ", max_num_seqs ", plan.options.max_num_seqs, ") took ",
                     planned - left, " bytes of activations and workspace, and the plan allows ", planned));
  }
  return absl::OkStatus();
}

}  // namespace causeway
