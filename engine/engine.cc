#include "engine/engine.h"

#include <algorithm>
#include <atomic>
#include <iterator>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/strings/str_cat.h"
#include "absl/synchronization/mutex.h"
#include "engine/base/check.h"
#include "engine/base/clock.h"
#include "engine/base/limits.h"
#include "engine/base/status.h"
#include "engine/constraint.h"
#include "engine/engine_loop.h"
#include "engine/front.h"
#include "engine/layer_outputs_budget.h"
#include "engine/request.h"
#include "engine/schedule/scheduler.h"
#include "engine/text_files.h"
#include "engine/threads/processors.h"

namespace causeway {
namespace {

SchedulerOptions MakeSchedulerOptions(const Plan& plan, const EngineOptions& options, const Executor& executor) {
  SchedulerOptions scheduler;
  scheduler.num_blocks = plan.kv_blocks;
  scheduler.max_num_seqs = plan.options.max_num_seqs;
  scheduler.max_num_batched_tokens = plan.options.max_num_batched_tokens;
  scheduler.max_model_len = plan.options.max_model_len;
  scheduler.micro_batches = executor.micro_batches();
  scheduler.steps_in_flight = executor.steps_in_flight();
  scheduler.prefix_cache = options.prefix_cache;
  return scheduler;
}

// Masks take a fraction of a step's time, and the devices need the processor, too.
int MaskThreads() { return std::clamp(ProcessorsAtHand() / 4, 1, 8); }

int64_t FewestBlocks(const std::vector<Plan>& replicas) {
  int64_t blocks = replicas.front().kv_blocks;
  for (const Plan& plan : replicas) blocks = std::min(blocks, plan.kv_blocks);
  return blocks;
}

// Replicas with devices that this process drives, the first of its group.
int ReplicasHere(const std::vector<Plan>& replicas) {
  return static_cast<int>(std::count_if(replicas.begin(), replicas.end(), [](const Plan& plan) {
    return std::any_of(plan.devices.begin(), plan.devices.end(),
                       [](const DevicePlan& device) { return device.device.process == 0; });
  }));
}

void Add(const SchedulerStats& more, SchedulerStats& sum) {
  sum.running += more.running;
  sum.waiting += more.waiting;
  sum.blocks_total += more.blocks_total;
  sum.blocks_used += more.blocks_used;
  sum.blocks_cached += more.blocks_cached;
  sum.preemptions += more.preemptions;
  sum.prefix_query_tokens += more.prefix_query_tokens;
  sum.prefix_hit_tokens += more.prefix_hit_tokens;
  sum.steps_unapplied += more.steps_unapplied;
}

// Replicas have the same layers, start one after the other, and read the same checkpoint.
void Add(ExecutorStats more, ExecutorStats& sum) {
  std::move(more.devices.begin(), more.devices.end(), std::back_inserter(sum.devices));
  std::move(more.transfers.begin(), more.transfers.end(), std::back_inserter(sum.transfers));
  sum.start.memory += more.start.memory;
  sum.start.warm_up += more.start.warm_up;
  if (sum.not_finite.empty()) sum.not_finite = std::move(more.not_finite);
  for (const auto& [layer, load] : more.experts) {
    ExpertLoad& all = sum.experts[layer];
    all.tokens.resize(load.tokens.size());
    for (size_t i = 0; i < load.tokens.size(); ++i) all.tokens[i] += load.tokens[i];
    all.steps += load.steps;
    all.busy += load.busy;
    all.busiest += load.busiest;
    all.expert_bytes = load.expert_bytes;
  }
}

// Loads a replica: this process's part, and that of others where there are some.
absl::StatusOr<std::unique_ptr<Executor>> MakeReplica(const PlacedModel& model, const EngineOptions& options,
                                                      int replica,
                                                      const std::function<void(const LoadProgress&)>& progress,
                                                      const std::function<absl::Status()>& proceed) {
  const Plan& plan = model.replicas[replica];
  ExecutorOptions executor = options.executor;
  const bool on_cpu = ComputesOnCpu(model.plan.devices.front().device.kind);
  if (const int here = ReplicasHere(model.replicas); here > 1 && on_cpu)
    executor.cpu_threads = std::max(1, ThreadsFor(options.executor.cpu_threads) / here);
  ReplicaProcesses processes;
  if (options.processes) {
    CAUSEWAY_ASSIGN_OR_RETURN(processes, options.processes(replica, plan));
  }
  return MakeLeadingExecutor(model.spec, *model.checkpoint, plan, std::move(processes.share),
                             std::move(processes.followers), executor, progress, proceed);
}

// The facade: it checks and prepares what callers ask for, and owns the loops that compute, one for each replica.
class EngineImpl : public Engine {
 public:
  EngineImpl(PlacedModel model, const EngineOptions& options, EngineObserver* observer, TextFiles::Read text,
             std::vector<std::unique_ptr<Executor>> executors, double load_seconds)
      : model_(std::move(model)),
        options_(options),
        layer_outputs_(options.layer_outputs_bytes_max),
        tokenizer_(std::move(text.tokenizer)),
        chat_template_(std::move(text.chat_template)),
        chat_template_error_(std::move(text.chat_template_error)),
        text_warnings_(std::move(text.warnings)),
        load_seconds_(load_seconds),
        text_seconds_(text.seconds),
        front_(static_cast<int>(executors.size()), options.queue_max, model_.plan.options.max_model_len,
               model_.plan.kv_blocks, clock_),
        mask_workers_(MaskThreads(), [this] { front_.Wake(); }) {
    for (size_t replica = 0; replica < executors.size(); ++replica) {
      const SchedulerOptions scheduler = MakeSchedulerOptions(model_.replicas[replica], options, *executors[replica]);
      loops_.push_back(std::make_unique<EngineLoop>(front_, static_cast<int>(replica), scheduler,
                                                    std::move(executors[replica]), observer, options.on_device_failure,
                                                    clock_));
    }
  }

  ~EngineImpl() override { front_.Stop(); }

  absl::StatusOr<RequestHandle> Submit(GenerationRequest request, std::shared_ptr<TokenSink> sink) override {
    CAUSEWAY_RETURN_IF_ERROR(Check(request));
    CAUSEWAY_ASSIGN_OR_RETURN(std::vector<std::shared_ptr<GrammarConstraint>> constraints, Constraints(request));
    CAUSEWAY_ASSIGN_OR_RETURN(
        std::shared_ptr<LayerOutputs> layer_outputs,
        layer_outputs_.Take(request.layer_units, static_cast<int64_t>(request.prompt.size()), model_.spec.hidden_size));
    for (const auto& constraint : constraints) constraint->Begin();
    const std::string id = request.request_id;
    return front_.Submit(id, request.n, [&](RequestHandle handle) {
      constrained_requests_ += !constraints.empty();
      return std::make_unique<ActiveRequest>(std::move(request), std::move(sink), tokenizer_.get(), handle,
                                             clock_->Now(), std::move(constraints), std::move(layer_outputs));
    });
  }

  absl::StatusOr<std::shared_ptr<const GrammarMatcher>> CompileGrammar(const GrammarSource& source) override {
    if (tokenizer_ == nullptr)
      return absl::InvalidArgumentError("the model has no tokenizer, and grammars are about text");
    const GrammarCompiler* compiler;
    {
      // The compiler is made when it is first needed: it takes a while, and most daemons never need it.
      absl::MutexLock lock(&grammar_mutex_);
      if (!grammar_compiler_.has_value()) grammar_compiler_ = GrammarCompiler::Create(*tokenizer_);
      CAUSEWAY_RETURN_IF_ERROR(grammar_compiler_->status());
      compiler = (*grammar_compiler_)->get();
    }
    return compiler->Compile(source);
  }

  void Cancel(RequestHandle request) override { front_.Cancel(request); }
  absl::Status Cancel(const std::string& request_id) override { return front_.Cancel(request_id); }
  void SetLimits(int64_t queue_max, int64_t layer_outputs_bytes_max) override {
    front_.SetQueueMax(queue_max);
    layer_outputs_.SetBytesMax(layer_outputs_bytes_max);
  }
  bool Drain(absl::Time deadline) override { return front_.Drain(deadline); }

  absl::Status Restore(int replica) override {
    if (!loops_[replica]->AwaitGone())
      return absl::FailedPreconditionError(absl::StrCat("replica ", replica, " is not lost"));
    CAUSEWAY_ASSIGN_OR_RETURN(std::unique_ptr<Executor> executor,
                              MakeReplica(model_, options_, replica, nullptr, nullptr));
    loops_[replica]->Return(std::move(executor));
    return absl::OkStatus();
  }

  EngineStats Stats() const override {
    EngineStats stats;
    const Front::Counts counts = front_.counts();
    stats.requests_waiting = counts.waiting;
    stats.requests_running = counts.running;
    stats.constrained_requests = constrained_requests_;
    stats.last_step = absl::InfinitePast();
    for (const auto& loop : loops_) {
      const EngineLoop::Stats replica = loop->stats();
      stats.replicas.push_back({replica.scheduler, replica.lost});
      stats.last_step = std::max(stats.last_step, replica.last_step);
      Add(replica.scheduler, stats.scheduler);
      ExecutorStats executor = loop->executor_stats();
      executor.devices.resize(model_.replicas[stats.replicas.size() - 1].devices.size());
      Add(std::move(executor), stats.executor);
    }
    stats.load_seconds = load_seconds_;
    stats.text_seconds = text_seconds_;
    const MaskWorkers::Stats masks = mask_workers_.stats();
    stats.masks = masks.masks;
    stats.mask_seconds = masks.seconds;
    return stats;
  }

  const PlacedModel& model() const override { return model_; }
  const Tokenizer* tokenizer() const override { return tokenizer_.get(); }
  const ChatTemplate* chat_template() const override { return chat_template_.get(); }
  std::string chat_template_error() const override { return chat_template_error_; }
  std::vector<std::string> text_warnings() const override { return text_warnings_; }

 private:
  absl::Status Check(const GenerationRequest& request) const {
    CAUSEWAY_CHECK(request.layer_units.empty() || request.layer_units.back() <= UnitsOf(model_.spec).norm(),
                   "layer_units");
    if (request.prompt.empty()) return absl::InvalidArgumentError("the prompt is empty; at least one token is needed");
    for (size_t i = 0; i < request.prompt.size(); ++i) {
      if (request.prompt[i] < 0 || request.prompt[i] >= model_.spec.vocab_size) {
        return absl::InvalidArgumentError(absl::StrCat("token id ", request.prompt[i], " at position ", i,
                                                       " of the prompt is outside the vocabulary [0, ",
                                                       model_.spec.vocab_size, ")"));
      }
    }
    const auto length = static_cast<int64_t>(request.prompt.size());
    const int64_t cache_tokens = FewestBlocks(model_.replicas) * kBlockTokens;
    if (length > cache_tokens) {
      return absl::InvalidArgumentError(
          absl::StrCat("the prompt has ", length, " tokens and the KV cache holds ", cache_tokens));
    }
    if (length >= model_.plan.options.max_model_len) {
      return absl::InvalidArgumentError(absl::StrCat("the prompt has ", length, " tokens and max_model_len is ",
                                                     model_.plan.options.max_model_len,
                                                     "; a prompt must leave room for at least one token"));
    }
    return absl::OkStatus();
  }

  // Makes one for each choice; all are copies of the same compiled grammar.
  absl::StatusOr<std::vector<std::shared_ptr<GrammarConstraint>>> Constraints(const GenerationRequest& request) {
    std::vector<std::shared_ptr<GrammarConstraint>> constraints;
    for (int32_t i = 0; request.grammar != nullptr && i < request.n; ++i) {
      CAUSEWAY_ASSIGN_OR_RETURN(std::unique_ptr<GrammarMatcher> matcher, request.grammar->Clone());
      constraints.push_back(std::make_shared<GrammarConstraint>(std::move(matcher), model_.spec.vocab_size,
                                                                request.stop.token_ids, mask_workers_));
    }
    return constraints;
  }

  const PlacedModel model_;
  const EngineOptions options_;
  LayerOutputsBudget layer_outputs_;
  const std::unique_ptr<Tokenizer> tokenizer_;
  const std::unique_ptr<ChatTemplate> chat_template_;
  const std::string chat_template_error_;
  const std::vector<std::string> text_warnings_;
  const double load_seconds_, text_seconds_;
  const Clock* const clock_ = Clock::Real();
  std::atomic<int64_t> constrained_requests_ = 0;

  absl::Mutex grammar_mutex_;
  std::optional<absl::StatusOr<std::unique_ptr<GrammarCompiler>>> grammar_compiler_ ABSL_GUARDED_BY(grammar_mutex_);

  // Members are destroyed from the last one on: first the loops, whose steps in flight tell the workers their tokens;
  // then the workers, which wake the front.
  Front front_;
  MaskWorkers mask_workers_;
  std::vector<std::unique_ptr<EngineLoop>> loops_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<Engine>> Engine::Create(PlacedModel model, const EngineOptions& options,
                                                       EngineObserver* observer,
                                                       const std::function<void(const LoadProgress&)>& progress) {
  const absl::Time start = Clock::Real()->Now();
  if (model.plan.kv_blocks == 0) return absl::FailedPreconditionError("the plan holds no KV cache; serving needs one");
  TextFiles text_files(model.folder, options.chat_template_file);
  std::vector<std::unique_ptr<Executor>> executors;
  const auto replicas = static_cast<int64_t>(model.replicas.size());
  double seconds_before = 0, seconds = 0;  // of the replicas loaded before, and of this one so far
  for (const Plan& plan : model.replicas) {
    const auto index = static_cast<int64_t>(executors.size());
    seconds_before += std::exchange(seconds, 0);
    const auto of_all = [&](const LoadProgress& own) {
      seconds = own.seconds;
      if (!progress) return;
      progress({.bytes_done = own.bytes_done + index * own.bytes_total,
                .bytes_total = own.bytes_total * replicas,
                .seconds = seconds_before + seconds});
    };
    CAUSEWAY_ASSIGN_OR_RETURN(
        std::unique_ptr<Executor> executor,
        MakeReplica(model, options, static_cast<int>(index), of_all, [&text_files] { return text_files.Check(); }));
    CAUSEWAY_RETURN_IF_ERROR(Validate(MakeSchedulerOptions(plan, options, *executor)));
    executors.push_back(std::move(executor));
  }
  CAUSEWAY_ASSIGN_OR_RETURN(TextFiles::Read text, text_files.Take());
  if (text.tokenizer != nullptr) {
    std::string warning = VocabularyWarning(*text.tokenizer, model.spec.vocab_size);
    if (!warning.empty()) text.warnings.push_back(std::move(warning));
  }
  const double load_seconds = absl::ToDoubleSeconds(Clock::Real()->Now() - start);
  return std::make_unique<EngineImpl>(std::move(model), options, observer, std::move(text), std::move(executors),
                                      load_seconds);
}

}  // namespace causeway
