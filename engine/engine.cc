#include "engine/engine.h"

#include <algorithm>
#include <atomic>
#include <thread>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/container/flat_hash_map.h"
#include "absl/strings/str_cat.h"
#include "absl/synchronization/mutex.h"
#include "engine/base/check.h"
#include "engine/base/clock.h"
#include "engine/base/limits.h"
#include "engine/base/status.h"
#include "engine/constraint.h"
#include "engine/layer_outputs_budget.h"
#include "engine/request.h"
#include "engine/schedule/scheduler.h"
#include "engine/text_files.h"
#include "engine/threads/processors.h"

namespace causeway {
namespace {

struct Submission {
  RequestHandle handle;
  GenerationRequest request;
  std::shared_ptr<TokenSink> sink;
  absl::Time submitted;
  std::vector<std::shared_ptr<GrammarConstraint>> constraints;  // of each choice, or none
  std::shared_ptr<LayerOutputs> layer_outputs;
};

SchedulerOptions MakeSchedulerOptions(const PlacedModel& model, const EngineOptions& options,
                                      const Executor& executor) {
  SchedulerOptions scheduler;
  scheduler.num_blocks = model.plan.kv_blocks;
  scheduler.max_num_seqs = model.plan.options.max_num_seqs;
  scheduler.max_num_batched_tokens = model.plan.options.max_num_batched_tokens;
  scheduler.max_model_len = model.plan.options.max_model_len;
  scheduler.stages = static_cast<int>(model.plan.segments.size());
  scheduler.steps_in_flight = executor.steps_in_flight();
  scheduler.prefix_cache = options.prefix_cache;
  return scheduler;
}

// Masks take a fraction of a step's time, and the devices need the processor too.
int MaskThreads() { return std::clamp(ProcessorsAtHand() / 4, 1, 8); }

// RPC threads leave submissions and cancellations; one thread owns the scheduler, the executor's Run and Wait, and
// every active request.
class EngineImpl : public Engine {
 public:
  EngineImpl(PlacedModel model, const EngineOptions& options, EngineObserver* observer, TextFiles::Read text,
             std::unique_ptr<Executor> executor, double load_seconds)
      : model_(std::move(model)),
        queue_max_(options.queue_max),
        layer_outputs_(options.layer_outputs_bytes_max),
        observer_(observer),
        tokenizer_(std::move(text.tokenizer)),
        chat_template_(std::move(text.chat_template)),
        mask_workers_(MaskThreads(), [this] { Wake(); }),
        executor_(std::move(executor)),
        load_seconds_(load_seconds),
        text_seconds_(text.seconds),
        scheduler_(MakeSchedulerOptions(model_, options, *executor_), clock_),
        thread_([this] { Loop(); }) {}

  ~EngineImpl() override {
    {
      absl::MutexLock lock(&mutex_);
      draining_ = stopping_ = true;
    }
    thread_.join();
  }

  absl::StatusOr<RequestHandle> Submit(GenerationRequest request, std::shared_ptr<TokenSink> sink) override {
    CAUSEWAY_RETURN_IF_ERROR(Check(request));
    CAUSEWAY_ASSIGN_OR_RETURN(std::vector<std::shared_ptr<GrammarConstraint>> constraints, Constraints(request));
    CAUSEWAY_ASSIGN_OR_RETURN(
        std::shared_ptr<LayerOutputs> layer_outputs,
        layer_outputs_.Take(request.layer_units, static_cast<int64_t>(request.prompt.size()), model_.spec.hidden_size));
    absl::MutexLock lock(&mutex_);
    if (draining_) return absl::UnavailableError("the daemon is draining and takes no new requests");
    if (waiting_ >= queue_max_) {
      return absl::ResourceExhaustedError(
          absl::StrCat("the queue is full: ", waiting_, " requests are waiting and the limit is ", queue_max_));
    }
    const RequestHandle handle = next_sequence_;
    if (!ids_.emplace(request.request_id, handle).second) {
      return absl::AlreadyExistsError(absl::StrCat("request_id \"", request.request_id, "\" is already running"));
    }
    next_sequence_ += request.n;
    ++waiting_;
    submissions_.push_back(
        {handle, std::move(request), std::move(sink), clock_->Now(), std::move(constraints), std::move(layer_outputs)});
    return handle;
  }

  absl::StatusOr<std::shared_ptr<const GrammarMatcher>> CompileGrammar(const GrammarSource& source) override {
    if (tokenizer_ == nullptr)
      return absl::InvalidArgumentError("the model has no tokenizer, and grammars are about text");
    const GrammarCompiler* compiler;
    {
      // Made when first asked for: it takes a while, and most daemons never are.
      absl::MutexLock lock(&grammar_mutex_);
      if (!grammar_compiler_.has_value()) grammar_compiler_ = GrammarCompiler::Create(*tokenizer_);
      CAUSEWAY_RETURN_IF_ERROR(grammar_compiler_->status());
      compiler = (*grammar_compiler_)->get();
    }
    return compiler->Compile(source);
  }

  void Cancel(RequestHandle request) override {
    absl::MutexLock lock(&mutex_);
    cancellations_.push_back(request);
  }

  absl::Status Cancel(const std::string& request_id) override {
    absl::MutexLock lock(&mutex_);
    const auto found = ids_.find(request_id);
    if (found == ids_.end()) {
      return absl::NotFoundError(absl::StrCat("no request with request_id \"", request_id, "\" is running or waiting"));
    }
    cancellations_.push_back(found->second);
    return absl::OkStatus();
  }

  bool Drain(absl::Time deadline) override {
    absl::MutexLock lock(&mutex_);
    draining_ = true;
    const auto empty = [this]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) { return ids_.empty(); };
    const bool ended = mutex_.AwaitWithDeadline(absl::Condition(&empty), deadline);
    if (!ended) {
      for (const auto& [id, handle] : ids_) cancellations_.push_back(handle);
      mutex_.Await(absl::Condition(&empty));
    }
    return ended;
  }

  EngineStats Stats() const override {
    EngineStats stats;
    {
      absl::MutexLock lock(&mutex_);
      stats = stats_;
      stats.requests_waiting = waiting_;
      stats.requests_running = static_cast<int64_t>(ids_.size()) - waiting_;
    }
    stats.load_seconds = load_seconds_;
    stats.text_seconds = text_seconds_;
    const MaskWorkers::Stats masks = mask_workers_.stats();
    stats.masks = masks.masks;
    stats.mask_seconds = masks.seconds;
    stats.executor = executor_->Stats();
    return stats;
  }

  const PlacedModel& model() const override { return model_; }
  const Tokenizer* tokenizer() const override { return tokenizer_.get(); }
  const ChatTemplate* chat_template() const override { return chat_template_.get(); }

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
    const int64_t cache_tokens = model_.plan.kv_blocks * kBlockTokens;
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

  // One for each choice; all the same copy of what was compiled.
  absl::StatusOr<std::vector<std::shared_ptr<GrammarConstraint>>> Constraints(const GenerationRequest& request) {
    std::vector<std::shared_ptr<GrammarConstraint>> constraints;
    for (int32_t i = 0; request.grammar != nullptr && i < request.n; ++i) {
      CAUSEWAY_ASSIGN_OR_RETURN(std::unique_ptr<GrammarMatcher> matcher, request.grammar->Clone());
      constraints.push_back(std::make_shared<GrammarConstraint>(std::move(matcher), model_.spec.vocab_size,
                                                                request.stop.token_ids, mask_workers_));
    }
    return constraints;
  }

  // A sequence that waited for its mask can be planned.
  void Wake() {
    absl::MutexLock lock(&mutex_);
    mask_ready_ = true;
  }

  void Loop() {
    std::vector<SequenceEvent> events;
    int in_flight = 0;
    while (true) {
      const Commands commands = TakeCommands();
      if (commands.stop) break;
      for (SequenceEvent& event : scheduler_.Expire()) events.push_back(std::move(event));
      while (in_flight < executor_->steps_in_flight()) {
        std::optional<StepPlan> plan = scheduler_.Next();
        if (!plan.has_value()) break;
        Admit(*plan);
        executor_->Run(*std::move(plan));
        ++in_flight;
      }
      // The devices have work again; only now is the last step's text made and sent.
      Deliver(events);
      events.clear();
      // After that, so that a request which has just finished keeps its tokens and its reason.
      for (const RequestHandle request : commands.cancellations) CancelRequest(request);
      Publish();
      if (in_flight > 0) {
        StepResult result = executor_->Wait();
        --in_flight;
        events = scheduler_.Apply(result);
        Observe(result);
      } else {
        WaitForCommands();
      }
    }
    Deliver(events);
    for (; in_flight > 0; --in_flight) executor_->Wait();
    while (!requests_.empty()) CancelRequest(requests_.begin()->first);
  }

  void WaitForCommands() {
    const absl::Time deadline = scheduler_.NextDeadline();
    absl::MutexLock lock(&mutex_);
    const auto awake = [this]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
      return stopping_ || mask_ready_ || !submissions_.empty() || !cancellations_.empty();
    };
    mutex_.AwaitWithTimeout(absl::Condition(&awake), deadline - clock_->Now());
  }

  struct Commands {
    std::vector<RequestHandle> cancellations;
    bool stop = false;
  };
  // Starts what was submitted; the rest is for the caller.
  Commands TakeCommands() {
    std::vector<Submission> submissions;
    Commands commands;
    {
      absl::MutexLock lock(&mutex_);
      submissions.swap(submissions_);
      commands.cancellations.swap(cancellations_);
      commands.stop = stopping_;
      mask_ready_ = false;
      for (const Submission& submission : submissions) stats_.constrained_requests += !submission.constraints.empty();
    }
    for (Submission& submission : submissions) Start(std::move(submission));
    return commands;
  }

  void Start(Submission submission) {
    const RequestHandle first = submission.handle;
    const int32_t n = submission.request.n;
    for (const auto& constraint : submission.constraints) constraint->Begin();
    auto request = std::make_unique<ActiveRequest>(
        std::move(submission.request), std::move(submission.sink), tokenizer_.get(), first, submission.submitted,
        std::move(submission.constraints), std::move(submission.layer_outputs));
    ActiveRequest* active = request.get();
    requests_.emplace(first, std::move(request));
    for (int32_t i = 0; i < n; ++i) {
      const absl::Status added = scheduler_.Add(active->Sequence(i, model_.plan.options.max_model_len));
      CAUSEWAY_CHECK(added.ok(), "the scheduler refused what Submit had checked: ", added.ToString());
      sequences_.emplace(first + i, active);
    }
  }

  void CancelRequest(RequestHandle handle) {
    const auto found = requests_.find(handle);
    if (found == requests_.end()) return;  // ended meanwhile
    for (const uint64_t sequence : found->second->Live())
      Deliver({*scheduler_.Finish(sequence, FinishReason::kCancelled)});
  }

  // The requests of the sequences that the step starts leave the queue.
  void Admit(const StepPlan& plan) {
    for (const StepSequence& sequence : plan.sequences) {
      if (sequence.start == nullptr) continue;
      ActiveRequest& request = *sequences_.at(sequence.sequence);
      if (request.admitted()) continue;  // another choice of it was, or it was preempted since
      request.Admit(clock_->Now(), observer_);
      absl::MutexLock lock(&mutex_);
      --waiting_;
    }
  }

  void Deliver(const std::vector<SequenceEvent>& events) {
    const absl::Time now = clock_->Now();
    for (const SequenceEvent& event : events) {
      const auto found = sequences_.find(event.sequence);
      if (found == sequences_.end()) continue;  // ended by a cancellation or a stop string meanwhile
      ActiveRequest& request = *found->second;
      const bool ended = request.Take(event, now, observer_);
      if (ended && !event.finished.has_value()) scheduler_.Finish(event.sequence, FinishReason::kStop);
      if (ended) sequences_.erase(event.sequence);
      CloseIfEnded(request);
    }
  }

  void CloseIfEnded(ActiveRequest& request) {
    if (!request.ended()) return;
    Publish();  // who waits for the request's end finds its blocks free
    {
      absl::MutexLock lock(&mutex_);
      if (!request.admitted()) --waiting_;
      ids_.erase(request.id());
    }
    request.Close(clock_->Now(), observer_);
    requests_.erase(request.handle());
  }

  void Observe(const StepResult& result) {
    last_step_ = clock_->Now();
    if (observer_ == nullptr) return;
    observer_->OnStep({.seconds = result.seconds,
                       .tokens = result.rows,
                       .prefill_tokens = result.prefill_rows,
                       .sequences = result.sequences});
  }

  void Publish() {
    const SchedulerStats scheduler = scheduler_.Stats();
    absl::MutexLock lock(&mutex_);
    stats_.blocks_total = model_.plan.kv_blocks;
    stats_.blocks_used = scheduler.blocks_used;
    stats_.blocks_cached = scheduler.blocks_cached;
    stats_.preemptions = scheduler.preemptions;
    stats_.prefix_query_tokens = scheduler.prefix_query_tokens;
    stats_.prefix_hit_tokens = scheduler.prefix_hit_tokens;
    stats_.last_step = last_step_;
  }

  const PlacedModel model_;
  const int64_t queue_max_;
  LayerOutputsBudget layer_outputs_;
  EngineObserver* const observer_;  // may be null
  const std::unique_ptr<Tokenizer> tokenizer_;
  const std::unique_ptr<ChatTemplate> chat_template_;

  // Destroyed in this order: the executor, whose steps in flight tell the workers their tokens; the workers, who wake
  // the engine by what the mutex guards.
  mutable absl::Mutex mutex_;
  std::vector<Submission> submissions_ ABSL_GUARDED_BY(mutex_);
  std::vector<RequestHandle> cancellations_ ABSL_GUARDED_BY(mutex_);
  absl::flat_hash_map<std::string, RequestHandle> ids_ ABSL_GUARDED_BY(mutex_);  // of requests submitted and not ended
  uint64_t next_sequence_ ABSL_GUARDED_BY(mutex_) = 1;
  int64_t waiting_ ABSL_GUARDED_BY(mutex_) = 0;  // of those, not yet admitted
  bool draining_ ABSL_GUARDED_BY(mutex_) = false, stopping_ ABSL_GUARDED_BY(mutex_) = false;
  bool mask_ready_ ABSL_GUARDED_BY(mutex_) = false;
  EngineStats stats_ ABSL_GUARDED_BY(mutex_);
  MaskWorkers mask_workers_;
  const std::unique_ptr<Executor> executor_;
  const double load_seconds_, text_seconds_;
  const Clock* const clock_ = Clock::Real();

  absl::Mutex grammar_mutex_;
  std::optional<absl::StatusOr<std::unique_ptr<GrammarCompiler>>> grammar_compiler_ ABSL_GUARDED_BY(grammar_mutex_);

  // Of the engine's thread.
  Scheduler scheduler_;
  absl::flat_hash_map<RequestHandle, std::unique_ptr<ActiveRequest>> requests_;
  absl::flat_hash_map<uint64_t, ActiveRequest*> sequences_;
  absl::Time last_step_ = absl::InfinitePast();

  std::thread thread_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<Engine>> Engine::Create(PlacedModel model, const EngineOptions& options,
                                                       EngineObserver* observer,
                                                       const std::function<void(const LoadProgress&)>& progress) {
  const absl::Time start = Clock::Real()->Now();
  if (model.plan.kv_blocks == 0) return absl::FailedPreconditionError("the plan holds no KV cache; serving needs one");
  TextFiles text_files(model.folder);
  CAUSEWAY_ASSIGN_OR_RETURN(std::unique_ptr<Executor> executor,
                            MakeExecutor(model.spec, *model.checkpoint, model.plan, options.executor, progress,
                                         [&text_files] { return text_files.Check(); }));
  CAUSEWAY_RETURN_IF_ERROR(Validate(MakeSchedulerOptions(model, options, *executor)));
  CAUSEWAY_ASSIGN_OR_RETURN(TextFiles::Read text, text_files.Take());
  const double load_seconds = absl::ToDoubleSeconds(Clock::Real()->Now() - start);
  return std::make_unique<EngineImpl>(std::move(model), options, observer, std::move(text), std::move(executor),
                                      load_seconds);
}

}  // namespace causeway
