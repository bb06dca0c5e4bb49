#include "engine/execution/device_worker.h"

#include <algorithm>
#include <optional>
#include <utility>

#include <ATen/ops/zeros.h>
#include <c10/core/InferenceMode.h>
#include <c10/util/Exception.h>

#include "absl/strings/str_cat.h"
#include "absl/synchronization/notification.h"
#include "engine/base/status.h"
#include "engine/base/trace.h"
#include "engine/execution/layer_capture.h"
#include "engine/ops/candidates.h"
#include "engine/ops/rehearsal.h"

namespace causeway {
namespace {

constexpr size_t kQueueMax = 1024;  // far above steps in flight times segments

class BusyScope {
 public:
  explicit BusyScope(DeviceRuntime& runtime) : runtime_(runtime) { runtime_.BeginWork(); }
  ~BusyScope() { runtime_.EndWork(); }
  BusyScope(const BusyScope&) = delete;
  BusyScope& operator=(const BusyScope&) = delete;

 private:
  DeviceRuntime& runtime_;
};

// A rank that ended because of another (Aborted) has less to say than that one.
void TakeStatuses(Step& step) {
  for (const Step::Part& part : step.ranks) {
    absl::Status& status = step.result.status;
    if (status.ok() || (absl::IsAborted(status) && !part.status.ok())) status = part.status;
    step.result.device_failure.Update(part.device_failure);
  }
}

}  // namespace

DeviceWorker::DeviceWorker(const ModelSpec& spec, const std::vector<Segment>& segments,
                           std::unique_ptr<DeviceRuntime> runtime, std::unique_ptr<Communicator> ranks,
                           WorkerOptions options, SamplerState& sampler,
                           std::function<void(std::shared_ptr<Step>)> done)
    : spec_(spec),
      segments_(segments),
      runtime_(std::move(runtime)),
      ranks_(std::move(ranks)),
      options_(std::move(options)),
      sampler_(sampler),
      done_(std::move(done)),
      queue_(kQueueMax),
      thread_([this] { Loop(); }) {}

DeviceWorker::~DeviceWorker() {
  queue_.Close();
  thread_.join();
}

absl::Status DeviceWorker::Call(const std::function<absl::Status()>& work) {
  absl::Status status;
  absl::Notification done;
  queue_.Push({nullptr, [&](const absl::Status& entered) {
                 status = entered.ok() ? CatchTorch(runtime_->name(), work) : entered;
                 done.Notify();
               }});
  done.WaitForNotification();
  return status;
}

void DeviceWorker::Enqueue(std::shared_ptr<Step> step) { queue_.Push({std::move(step), nullptr}); }

void DeviceWorker::Loop() {
  c10::InferenceMode inference;
  Trace::NameLane(runtime_->name());
  // Without it nothing can be computed: what fails here fails each call and step.
  const absl::Status entered = CatchTorch(runtime_->name(), [this] {
    runtime_->EnterThread(options_.threads);
    return absl::OkStatus();
  });
  while (true) {
    if (!started_.empty() && queue_.empty()) {
      EndOldest();
      continue;
    }
    std::optional<Command> command = queue_.Pop();
    if (!command.has_value()) break;
    if (command->call) {
      while (!started_.empty()) EndOldest();
      command->call(entered);
      continue;
    }
    std::shared_ptr<Step> step = std::move(command->step);
    if (step->segment == 0 && options_.group.rank == 0) step->start = Step::Clock::now();
    // A step that has failed still passes through, so that results come in order, and no rank waits for another.
    step->ranks[options_.group.rank].status = RunRank(*step, entered);
    started_.push_back({std::move(step), std::exchange(sampling_, std::nullopt)});
    if (!started_.back().sampling.has_value()) {
      while (!started_.empty()) EndOldest();
    }
  }
}

void DeviceWorker::EndOldest() {
  auto [step, sampling] = std::move(started_.front());
  started_.pop_front();
  Step::Part& part = step->ranks[options_.group.rank];
  if (sampling.has_value() && part.status.ok()) {
    part.status = CatchTorch(absl::StrCat("step ", step->plan.step, " on ", runtime_->name()), [&] {
      TakeTokens(*step, *sampling);
      return absl::OkStatus();
    });
  }
  if (!part.status.ok()) {
    part.hidden = {};
    if (stream_ != nullptr) stream_->ReleaseAll();
    part.device_failure = Health();
  }
  if (!step->warm_up && step->result.status.ok() && part.status.ok()) Count(*step);
  if (step->ranks_left.fetch_sub(1) > 1) return;
  TakeStatuses(*step);
  step->result.seconds = std::chrono::duration<double>(Step::Clock::now() - step->start).count();
  done_(std::move(step));
}

absl::Status DeviceWorker::RunRank(Step& step, const absl::Status& entered) {
  absl::Status status = CatchTorch(absl::StrCat("step ", step.plan.step, " on ", runtime_->name()), [&] {
    if (ranks_ != nullptr) ranks_->BeginStep();
    CAUSEWAY_RETURN_IF_ERROR(step.result.status);
    CAUSEWAY_RETURN_IF_ERROR(entered);
    return RunSegment(step);
  });
  if (!status.ok() && ranks_ != nullptr) ranks_->Fail();
  return status;
}

absl::Status DeviceWorker::Health() {
  return CatchTorch(runtime_->name(), [this] { return runtime_->Health(); });
}

ModelContext DeviceWorker::Context(WeightFetcher* fetcher) const {
  return {spec_, *ops_, runtime_->device(), options_.dtype, options_.group, fetcher};
}

void DeviceWorker::BuildModel() {
  ops_ = runtime_->MakeOps();
  if (!options_.plan.offloaded.empty()) stream_ = std::make_unique<WeightStream>(*runtime_, options_.plan);
  const ModelContext context = Context(stream_.get());
  MemoryScope scope(*runtime_, MemoryOwner::kWeights);
  runtime_->ReserveWeights(options_.plan.weights);
  model_ = std::make_unique<DeviceModel>(context, options_.units);
  runtime_->Synchronize();  // loaders write to it on streams of their own
}

void DeviceWorker::AllocateCache() {
  cache_ = std::make_unique<KvCache>(
      Context(nullptr), model_->layers(), options_.kv_blocks, options_.int8_kv,
      [this](at::IntArrayRef sizes, const at::TensorOptions& options) { return runtime_->CacheZeros(sizes, options); });
}

void DeviceWorker::ReserveActivations(int64_t bytes) {
  int64_t table_bytes = 0;
  if (!model_->layers().empty()) {
    MemoryScope scope(*runtime_, MemoryOwner::kWorkspace);
    const RotaryTables tables = MakeRotaryTables(spec_.rope, options_.positions);
    if (tables.cos.defined()) {
      rotary_ = {runtime_->Upload(tables.cos), runtime_->Upload(tables.sin)};
      table_bytes = static_cast<int64_t>(tables.cos.nbytes() + tables.sin.nbytes());
    }
  }
  if (SamplesLater()) {
    MemoryScope scope(*runtime_, MemoryOwner::kWorkspace);
    last_tokens_ = runtime_->Upload(at::zeros({sampler_.slots()}, at::kLong));
    table_bytes += static_cast<int64_t>(last_tokens_.nbytes());
  }
  runtime_->Synchronize();
  // The plan counts the tables, and these few tokens, among what a step needs.
  runtime_->ReserveActivations(std::max<int64_t>(0, bytes - table_bytes));
}

LoadTargets DeviceWorker::targets() {
  LoadTargets targets = model_->Targets();
  if (stream_ != nullptr) stream_->SetPortions(targets);
  return targets;
}

absl::Status DeviceWorker::StartStream() {
  MemoryScope scope(*runtime_, MemoryOwner::kActivations);
  return stream_->Start(activations(), options_.offload_cpu_rows);
}

absl::Status DeviceWorker::RunSegment(Step& step) {
  TraceSpan span("step");
  span.With("step", static_cast<int64_t>(step.plan.step)).With("segment", static_cast<int64_t>(step.segment));
  span.With("rows", step.plan.tokens).With("prefill rows", step.plan.prefill_tokens);
  MemoryScope scope(*runtime_, MemoryOwner::kActivations);
  const Segment& segment = segments_[step.segment];
  const Units units = UnitsOf(spec_);
  const StepBatch& batch = step.batch;
  DeviceRuntime::Sent& hidden = step.ranks[options_.group.rank].hidden;
  const bool speaks = options_.group.rank == 0;  // for the group: what all ranks have alike, one hands out
  if (stream_ != nullptr) stream_->BeginStep(step.plan.tokens);
  StageInput input;
  LocalIds ids;
  if (segment.units.first == Units::kEmbeddings) {
    ids.ids = last_tokens_.defined() ? batch.ids : batch.FilledIds(sampler_.last_tokens());
    // Only the first rank's process knows what was sampled.
    if (ranks_ != nullptr && !ranks_->share_memory() && !batch.placeholders.empty()) ranks_->Broadcast(ids.ids);
    if (ranks_ != nullptr) ids = IdsWithin(ids.ids, model_->words());
  } else {
    TraceSpan take_over("take over");
    take_over.With("bytes", hidden.tensor.defined() ? static_cast<int64_t>(hidden.tensor.nbytes()) : 0);
    input.hidden = runtime_->Receive(std::exchange(hidden, {}));
  }
  const TokenPlaces placeholders = last_tokens_.defined() ? PlaceholdersOf(batch) : TokenPlaces(),
                    samples = last_tokens_.defined() ? SamplesOf(step.plan, batch) : TokenPlaces();
  DeviceBatch uploaded = Upload(batch, ids, placeholders, samples, *runtime_);
  if (uploaded.placeholders.rows.defined()) {
    ops_->CopyTokens(uploaded.ids.ids, uploaded.placeholders.rows, last_tokens_, uploaded.placeholders.slots);
  }
  input.ids = uploaded.ids.ids;
  input.foreign = uploaded.ids.foreign;
  input.rows = uploaded.rows;
  input.batch = &uploaded.attention;
  input.ranks = ranks_.get();
  input.candidates = step.candidates;
  input.one_of_each = step.warm_up;
  std::optional<BusyScope> busy;
  if (!step.warm_up) busy.emplace(*runtime_);
  if (speaks && WantsLayerOutputs(step.plan)) {
    input.after_unit = [&](int unit, const Hidden& rows) { CaptureUnit(step, unit, units, rows, *runtime_); };
  }
  std::optional<Rehearsal> rehearsal;
  if (step.warm_up) rehearsal.emplace();
  at::Tensor output = model_->Forward(segment.units, std::move(input), rotary_, *cache_);
  if (step.warm_up) model_->ClearExpertLoads();
  if (speaks && segment.units.contains(units.norm())) CaptureFinalNorm(step, units, *model_, *runtime_);
  if (step.segment + 1 == segments_.size()) return speaks ? Finish(step, output, uploaded.samples) : absl::OkStatus();
  if (options_.leaves_process[step.segment]) {
    hidden = {runtime_->Download(output), nullptr};
  } else {
    hidden = runtime_->Send(std::move(output));
  }
  return absl::OkStatus();
}

// `of_head` is logits [selected, vocab] or, where the step has candidates, those of all ranks. It is of no use when no
// row is selected.
absl::Status DeviceWorker::Finish(Step& step, const at::Tensor& of_head, const TokenPlaces& sampled) {
  // Which tokens a sequence may get, and how likely, can depend on those before: then the host has to know them all.
  const bool later = last_tokens_.defined() && !step.warm_up &&
                     std::none_of(step.plan.sequences.begin(), step.plan.sequences.end(),
                                  [&](const StepSequence& s) { return s.sample && sampler_.FollowsTokens(s); });
  if (!later) {
    while (!started_.empty()) EndOldest();
  }
  Started started;
  CAUSEWAY_RETURN_IF_ERROR(started.rows.Begin(step.plan, step.batch, sampler_, step.result));
  CopyLogits(step, of_head);
  const std::vector<SampleRow>& rows = started.rows.rows();
  TraceSpan span("sample");
  span.With("rows", static_cast<int64_t>(rows.size()));
  if (last_tokens_.defined()) {
    if (!rows.empty()) {
      started.sample = ops_->StartSample(of_head, rows);
      if (sampled.slots.defined()) ops_->CopyTokens(last_tokens_, sampled.slots, started.sample.tokens, sampled.rows);
      started.outputs = runtime_->StartDownload(started.sample.outputs);
    }
    started.done = runtime_->Mark();
    if (later) {
      sampling_ = std::move(started);
    } else {
      TakeTokens(step, started);
    }
    return absl::OkStatus();
  }
  if (rows.empty()) {
    runtime_->Synchronize();
    return absl::OkStatus();
  }
  const std::vector<SampleOutput> outputs = step.candidates > 0
                                                ? SampleAmong(runtime_->Download(of_head), step.candidates, rows)
                                                : ops_->Sample(of_head, rows);
  started.rows.Take(outputs, at::toString(options_.dtype), sampler_, step.result);
  return absl::OkStatus();
}

void DeviceWorker::TakeTokens(Step& step, const Started& started) {
  TraceSpan span("wait for tokens");
  span.With("step", static_cast<int64_t>(step.plan.step));
  if (started.done != nullptr) started.done();
  if (started.rows.rows().empty()) return;
  started.rows.Take(ReadSample(started.sample, started.outputs), at::toString(options_.dtype), sampler_, step.result);
}

void DeviceWorker::CopyLogits(Step& step, const at::Tensor& logits) {
  for (size_t i = 0; i < step.plan.sequences.size(); ++i) {
    if (!step.plan.sequences[i].all_logits) continue;
    const StepBatch::Selected& selected = step.batch.selected[i];
    const at::Tensor rows = runtime_->Download(logits.narrow(0, selected.first, selected.count)).to(at::kFloat);
    const float* values = rows.const_data_ptr<float>();
    step.result.logits.emplace_back(values, values + rows.numel());
  }
}

void DeviceWorker::Count(const Step& step) {
  if (counted_step_ == step.number) return;
  counted_step_ = step.number;
  prefill_tokens_ += step.plan.prefill_tokens;
  decode_tokens_ += step.plan.tokens - step.plan.prefill_tokens;
}

DeviceStats DeviceWorker::stats() const {
  DeviceStats stats;
  stats.memory = runtime_->memory();
  stats.busy_seconds = runtime_->busy_seconds();
  stats.prefill_tokens = prefill_tokens_;
  stats.decode_tokens = decode_tokens_;
  if (ranks_ != nullptr) stats.collectives = ranks_->stats();
  if (stream_ != nullptr) {
    stats.streamed_bytes = stream_->streamed_bytes();
    stats.cpu_rows = stream_->cpu_rows(/*in_order=*/true);
    stats.expert_cpu_rows = stream_->cpu_rows(/*in_order=*/false);
  }
  return stats;
}

}  // namespace causeway
