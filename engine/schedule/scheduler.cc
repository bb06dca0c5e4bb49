#include "engine/schedule/scheduler.h"

#include <algorithm>
#include <deque>
#include <limits>
#include <utility>

#include "absl/container/btree_set.h"
#include "absl/container/flat_hash_set.h"
#include "absl/strings/str_cat.h"
#include "absl/types/span.h"
#include "engine/base/check.h"
#include "engine/base/status.h"
#include "engine/schedule/sequence_table.h"
#include "engine/schedule/step_planner.h"

namespace causeway {
namespace {

absl::Status CheckOption(const char* name, int64_t value, int64_t min, int64_t max) {
  if (value >= min && value <= max) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat(name, " is ", value, ", expected a number in [", min, ", ", max, "]"));
}

}  // namespace

absl::Status Validate(const SchedulerOptions& o) {
  constexpr int64_t kMax = std::numeric_limits<int32_t>::max();
  CAUSEWAY_RETURN_IF_ERROR(CheckOption("num_blocks", o.num_blocks, 1, kMax));
  CAUSEWAY_RETURN_IF_ERROR(CheckOption("max_num_seqs", o.max_num_seqs, 1, kMax));
  // In every step there is a row for each running sequence, and at least one for a prompt beside them.
  CAUSEWAY_RETURN_IF_ERROR(CheckOption("max_num_batched_tokens", o.max_num_batched_tokens, o.max_num_seqs, kMax));
  CAUSEWAY_RETURN_IF_ERROR(CheckOption("max_model_len", o.max_model_len, 2, kMax));
  CAUSEWAY_RETURN_IF_ERROR(CheckOption("steps_in_flight", o.steps_in_flight, 1, kMax));
  return CheckOption("micro_batches", o.micro_batches, 1, o.steps_in_flight);
}

class Scheduler::Impl {
 public:
  Impl(const SchedulerOptions& options, const Clock* clock)
      : options_(options), clock_(clock), table_(options), planner_(options, clock, &table_) {}

  absl::Status Add(SequenceRequest request);
  bool CanStart(const SequenceCandidate& candidate) { return planner_.CanStart(candidate); }
  std::optional<SequenceEvent> Finish(uint64_t id, FinishReason why);
  std::vector<SequenceEvent> Expire();
  std::optional<StepPlan> Next();
  std::vector<SequenceEvent> Apply(const StepResult& result);
  SchedulerStats Stats() const;
  const SequenceTable& table() const { return table_; }

 private:
  // A step whose result is not applied yet.
  struct InFlight {
    struct Row {
      uint64_t sequence;
      bool sample;
      int64_t targets, target_first;  // how many targets, and the row of the first
    };
    struct Written {
      int32_t block;
      uint64_t allocation;
    };
    uint64_t step;
    std::vector<Row> rows;
    std::vector<Written> written;
  };

  InFlight Remember(const StepPlan& plan) const;
  SequenceEvent End(Sequence& sequence, FinishReason why, absl::Status status = absl::OkStatus());
  void Take(Sequence& sequence, const SampledToken& token, SequenceEvent& event);
  SequenceEvent EndNotFinite(Sequence& sequence, const absl::Status& status);
  void TakePrompt(Sequence& sequence, const InFlight::Row& row, absl::Span<const SampledToken> prompt,
                  std::vector<SequenceEvent>& events);
  std::vector<SequenceEvent> Fail(const InFlight& failed, const absl::Status& status, bool for_good);

  const SchedulerOptions options_;
  const Clock* const clock_;
  SequenceTable table_;
  StepPlanner planner_;
  std::deque<InFlight> in_flight_;
  uint64_t arrivals_ = 0, steps_ = 0;
};

absl::Status Scheduler::Impl::Add(SequenceRequest request) {
  const int64_t prompt = static_cast<int64_t>(request.prompt.size());
  // The last token needs no block: it is never the input of a step.
  const int64_t cache_tokens = options_.num_blocks * kBlockTokens;
  if (request.id == 0) return absl::InvalidArgumentError("the sequence's id is 0, expected a positive number");
  if (prompt == 0) return absl::InvalidArgumentError("the prompt has 0 tokens, expected at least 1");
  if (prompt + 1 > options_.max_model_len) {
    return absl::InvalidArgumentError(absl::StrCat("the prompt has ", prompt, " tokens, expected at most ",
                                                   options_.max_model_len - 1, ": the context is ",
                                                   options_.max_model_len, " tokens with at least one generated"));
  }
  if (prompt > cache_tokens) {
    return absl::InvalidArgumentError(absl::StrCat("the prompt has ", prompt, " tokens, expected at most ",
                                                   cache_tokens, ": the KV cache has ", options_.num_blocks,
                                                   " blocks of ", kBlockTokens));
  }
  if (table_.Find(request.id) != nullptr)
    return absl::AlreadyExistsError(absl::StrCat("sequence ", request.id, " exists"));

  auto s = std::make_unique<Sequence>();
  s->id = request.id;
  s->arrival = ++arrivals_;
  s->priority = request.priority;
  s->deadline = request.deadline;
  s->sampling = std::move(request.sampling);
  s->constraint = std::move(request.constraint);
  s->layer_outputs = std::move(request.layer_outputs);
  s->min_tokens = request.stop.min_tokens;
  s->stop_token_ids = std::move(request.stop.token_ids);
  s->after = request.after;
  s->tokens = std::move(request.prompt);
  s->prompt_tokens = prompt;
  if (!s->sampling.prompt_logprobs) s->scored = s->scored_max();
  s->length_max = std::min(options_.max_model_len, cache_tokens + 1);
  if (request.stop.max_tokens > 0 && request.stop.max_tokens < s->length_max - prompt) {
    s->length_max = prompt + request.stop.max_tokens;
  }
  s->cursor.salt = std::make_shared<const std::string>(std::move(request.cache_salt));
  table_.Add(std::move(s));
  return absl::OkStatus();
}

SequenceEvent Scheduler::Impl::End(Sequence& s, FinishReason why, absl::Status status) {
  SequenceEvent event;
  event.sequence = s.id;
  event.cached_tokens = s.cached_tokens;
  event.finished = why;
  event.status = std::move(status);
  table_.Remove(s);
  return event;
}

std::optional<SequenceEvent> Scheduler::Impl::Finish(uint64_t id, FinishReason why) {
  Sequence* s = table_.Find(id);
  if (s == nullptr) return std::nullopt;
  return End(*s, why);
}

std::vector<SequenceEvent> Scheduler::Impl::Expire() {
  std::vector<SequenceEvent> events;
  if (table_.deadlines().empty()) return events;
  const absl::Time now = clock_->Now();
  while (!table_.deadlines().empty() && table_.deadlines().begin()->first <= now) {
    events.push_back(End(*table_.Find(table_.deadlines().begin()->second), FinishReason::kDeadline));
  }
  return events;
}

std::optional<StepPlan> Scheduler::Impl::Next() {
  if (static_cast<int64_t>(in_flight_.size()) >= options_.steps_in_flight) return std::nullopt;
  std::optional<StepPlan> plan = planner_.Plan(steps_ + 1);
  if (!plan.has_value()) return std::nullopt;
  ++steps_;
  in_flight_.push_back(Remember(*plan));
  return plan;
}

Scheduler::Impl::InFlight Scheduler::Impl::Remember(const StepPlan& plan) const {
  InFlight step;
  step.step = plan.step;
  step.rows.reserve(plan.sequences.size());
  step.written.reserve(plan.sequences.size());
  for (const StepSequence& s : plan.sequences) {
    for (size_t i = s.context / kBlockTokens; i < s.block_table.size(); ++i) {
      step.written.push_back({s.block_table[i], table_.pool().allocation(s.block_table[i])});
    }
    const int64_t targets = static_cast<int64_t>(s.targets.size()),
                  end = s.context + static_cast<int64_t>(s.tokens.size());
    step.rows.push_back({s.sequence, s.sample, targets, end - s.sample - targets});
  }
  return step;
}

std::vector<SequenceEvent> Scheduler::Impl::Apply(const StepResult& result) {
  CAUSEWAY_CHECK(!in_flight_.empty() && in_flight_.front().step == result.step, "the result of step ", result.step,
                 ", expected ", in_flight_.empty() ? "none" : absl::StrCat("that of step ", in_flight_.front().step));
  const InFlight step = std::move(in_flight_.front());
  in_flight_.pop_front();
  if (!result.status.ok()) return Fail(step, result.status, !result.device_failure.ok());

  std::vector<SequenceEvent> events;
  events.reserve(step.rows.size());
  size_t next = 0, next_prompt = 0;
  for (const InFlight::Row& row : step.rows) {
    if (row.targets > 0) {
      CAUSEWAY_CHECK(next_prompt + row.targets <= result.prompt.size(), "step ", step.step, " has ",
                     result.prompt.size(), " targets");
      if (Sequence* s = table_.Find(row.sequence); s != nullptr) {
        TakePrompt(*s, row, absl::MakeSpan(result.prompt).subspan(next_prompt, row.targets), events);
      }
      next_prompt += row.targets;
    }
    if (!row.sample) continue;
    CAUSEWAY_CHECK(next < result.tokens.size() && result.tokens[next].sequence == row.sequence, "step ", step.step,
                   " has ", result.tokens.size(), " tokens; that of sequence ", row.sequence, " is not at ", next);
    const SampledToken& token = result.tokens[next++];
    if (Sequence* s = table_.Find(row.sequence); s != nullptr) Take(*s, token, events.emplace_back());
  }
  CAUSEWAY_CHECK(next == result.tokens.size(), "step ", step.step, " has ", result.tokens.size(), " tokens, expected ",
                 next);
  return events;
}

// A preempted sequence may have rows computed again while the results of the first time are still in flight.
void Scheduler::Impl::TakePrompt(Sequence& s, const InFlight::Row& row, absl::Span<const SampledToken> prompt,
                                 std::vector<SequenceEvent>& events) {
  for (const SampledToken& token : prompt) {
    if (token.outcome != SampledToken::Outcome::kNotFinite) continue;
    events.push_back(EndNotFinite(s, token.status));
    return;
  }
  const int64_t known = s.scored - row.target_first;
  CAUSEWAY_CHECK(known >= 0, "sequence ", s.id, ": targets from row ", row.target_first, " on, ", s.scored, " known");
  if (known >= row.targets) return;
  SequenceEvent& event = events.emplace_back();
  event.sequence = s.id;
  event.cached_tokens = s.cached_tokens;
  event.prompt.assign(prompt.begin() + known, prompt.end());
  s.scored += row.targets - known;
}

void Scheduler::Impl::Take(Sequence& s, const SampledToken& token, SequenceEvent& event) {
  using Outcome = SampledToken::Outcome;
  if (token.outcome == Outcome::kNotFinite) {
    event = EndNotFinite(s, token.status);
    return;
  }
  if (token.outcome != Outcome::kToken) {
    event = End(s, token.outcome == Outcome::kFailed ? FinishReason::kError : FinishReason::kStop, token.status);
    return;
  }
  const int64_t generated = static_cast<int64_t>(s.tokens.size()) - s.prompt_tokens;  // without this one
  s.tokens.push_back(token.token);
  --s.unknown;
  table_.Issued(s);  // a block that this token completes may be in flight already

  event.sequence = s.id;
  event.cached_tokens = s.cached_tokens;
  event.token = token;
  if (generated >= s.min_tokens &&
      std::find(s.stop_token_ids.begin(), s.stop_token_ids.end(), token.token) != s.stop_token_ids.end()) {
    event.finished = FinishReason::kStop;
    event.stop_token = token.token;
  } else if (static_cast<int64_t>(s.tokens.size()) >= s.length_max) {
    event.finished = FinishReason::kLength;
  }
  if (event.finished.has_value()) table_.Remove(s);
}

// Any of its blocks may hold what makes the logits what they are, so that nobody is to find them by their prefix. Those
// who hold some of them already go on: if a shared block is to blame, their own logits tell.
SequenceEvent Scheduler::Impl::EndNotFinite(Sequence& s, const absl::Status& status) {
  for (const int32_t block : s.table) table_.pool().Forget(block);
  return End(s, FinishReason::kError, status);
}

// What the failed step was to write is garbage. It is forgotten, and its sequences end, as do those that found such a
// block by its prefix. What later steps compute from garbage needs no search: a block filled by them before this result
// was registered behind the garbage in the chain of prefixes, so it is found no more either, and who holds it holds the
// garbage too. A sequence preempted since such a step was planned holds nothing that could tell, and a token of it may
// be on its way: it ends.
std::vector<SequenceEvent> Scheduler::Impl::Fail(const InFlight& failed, const absl::Status& status, bool for_good) {
  BlockPool& pool = table_.pool();
  absl::flat_hash_set<int32_t> garbage;
  for (const InFlight::Written& w : failed.written) {
    // Blocks that were handed out again since then get written by their new owners.
    if (pool.allocation(w.block) == w.allocation) garbage.insert(w.block);
  }
  absl::btree_set<uint64_t> ends;
  for (const InFlight::Row& row : failed.rows) {
    if (table_.Find(row.sequence) != nullptr) ends.insert(row.sequence);
  }
  for (const Sequence* s : table_.running()) {
    if (std::any_of(s->table.begin(), s->table.end(), [&](int32_t block) { return garbage.contains(block); }))
      ends.insert(s->id);
  }
  for (const InFlight& later : in_flight_) {
    for (const InFlight::Row& row : later.rows) {
      const Sequence* s = table_.Find(row.sequence);
      if (s != nullptr && s->state != SequenceState::kRunning) ends.insert(row.sequence);
    }
  }
  for (int32_t block : garbage) pool.Forget(block);
  if (for_good) {  // no other step can be computed either
    for (const auto& [id, sequence] : table_.all()) ends.insert(id);
  }
  std::vector<SequenceEvent> events;
  for (uint64_t id : ends) events.push_back(End(*table_.Find(id), FinishReason::kError, status));
  return events;
}

SchedulerStats Scheduler::Impl::Stats() const {
  SchedulerStats stats;
  stats.running = static_cast<int64_t>(table_.running().size());
  stats.waiting = table_.waiting_count();
  stats.blocks_total = table_.pool().total();
  stats.blocks_used = table_.pool().used();
  stats.blocks_cached = table_.pool().cached();
  stats.preemptions = table_.preemptions();
  stats.prefix_query_tokens = planner_.prefix_query_tokens();
  stats.prefix_hit_tokens = planner_.prefix_hit_tokens();
  stats.steps_unapplied = static_cast<int64_t>(in_flight_.size());
  return stats;
}

Scheduler::Scheduler(const SchedulerOptions& options, const Clock* clock) {
  const absl::Status status = Validate(options);
  CAUSEWAY_CHECK(status.ok(), std::string(status.message()));
  impl_ = std::make_unique<Impl>(options, clock);
}
Scheduler::~Scheduler() = default;
absl::Status Scheduler::Add(SequenceRequest request) { return impl_->Add(std::move(request)); }
bool Scheduler::CanStart(const SequenceCandidate& candidate) { return impl_->CanStart(candidate); }
std::optional<SequenceEvent> Scheduler::Finish(uint64_t id, FinishReason why) { return impl_->Finish(id, why); }
std::vector<SequenceEvent> Scheduler::Expire() { return impl_->Expire(); }
absl::Time Scheduler::NextDeadline() const {
  const auto& deadlines = impl_->table().deadlines();
  return deadlines.empty() ? absl::InfiniteFuture() : deadlines.begin()->first;
}
std::optional<StepPlan> Scheduler::Next() { return impl_->Next(); }
std::vector<SequenceEvent> Scheduler::Apply(const StepResult& result) { return impl_->Apply(result); }
bool Scheduler::idle() const { return impl_->table().all().empty(); }
SchedulerStats Scheduler::Stats() const { return impl_->Stats(); }

}  // namespace causeway
