#include "engine/schedule/step_planner.h"

#include <algorithm>
#include <memory>
#include <utility>

#include "engine/base/check.h"
#include "engine/base/pipeline.h"

namespace causeway {
namespace {

// A prompt that doesn't fit into a step leaves half of the budget to others, unless the halves become too small to be
// efficient.
constexpr int64_t kShareRowsMin = 128;
// A refused sequence is tried again after this many steps even when no more blocks are available: meanwhile its prefix
// may have been registered.
constexpr uint64_t kRefusedSteps = 8;

}  // namespace

StepPlanner::StepPlanner(const SchedulerOptions& options, const Clock* clock, SequenceTable* table)
    : options_(options), clock_(clock), table_(*table) {}

std::optional<StepPlan> StepPlanner::Plan(uint64_t step) {
  step_ = step;
  budget_ = options_.max_num_batched_tokens;
  logits_ = options_.max_num_seqs - static_cast<int64_t>(table_.running().size());
  preempted_ = false;
  planned_.clear();
  Collect();
  for (Sequence* s : decodes_) {
    if (decode_part_ == 0 || budget_ == 0) break;
    if (s->state == SequenceState::kRunning) decode_part_ -= Give(*s, 1, /*may_preempt=*/true);
  }
  if (options_.micro_batches > 1) budget_ = PromptRows(PromptRowsLeft(), budget_, options_.micro_batches);
  PlanPrompts();
  if (!preempted_) AdmitWaiting();
  TopUp();
  if (std::all_of(planned_.begin(), planned_.end(), [](const Sequence* s) { return s->rows == 0; }))
    return std::nullopt;
  return Emit(step);
}

void StepPlanner::Collect() {
  decodes_.clear();
  prompts_.clear();
  const bool wait_for_token = options_.micro_batches > 1;
  int64_t decoding = 0;
  for (Sequence* s : table_.running()) {
    decoding += s->decoding();
    if (s->remaining() == 0 || (wait_for_token && s->unknown > 0)) continue;
    if (s->constraint != nullptr && s->decoding() && !s->constraint->Soon(s->length() - s->prompt_tokens)) continue;
    (s->decoding() ? decodes_ : prompts_).push_back(s);
  }
  // Each step takes a micro-batch of the sequences that decode. Those that were least recently in a step go first,
  // whatever their ranks, so that all get the same pace. The rest take their turn when the first lack blocks.
  decode_part_ = (decoding + options_.micro_batches - 1) / options_.micro_batches;
  if (static_cast<int64_t>(decodes_.size()) > decode_part_) {
    std::nth_element(decodes_.begin(), decodes_.begin() + decode_part_, decodes_.end(),
                     [](const Sequence* a, const Sequence* b) {
                       return a->last_step != b->last_step ? a->last_step < b->last_step : Outranks()(a, b);
                     });
    std::sort(decodes_.begin(), decodes_.begin() + decode_part_, Outranks());
  }
}

int64_t StepPlanner::Share(int64_t wanted, bool others) const {
  if (wanted <= budget_) return wanted;
  return others && budget_ >= 2 * kShareRowsMin ? budget_ / 2 : budget_;
}

// Sequences that wait are counted with all of their tokens, although the cache may have some and blocks may be lacking
// for others: that makes a step larger than it has to be, and no more.
int64_t StepPlanner::PromptRowsLeft() const {
  int64_t rows = 0;
  for (const Sequence* s : prompts_) rows += s->remaining();
  int64_t slots = options_.max_num_seqs - static_cast<int64_t>(table_.running().size());
  for (auto s = table_.waiting().begin(); slots > 0 && s != table_.waiting().end(); ++s, --slots)
    rows += (*s)->remaining();
  return rows;
}

void StepPlanner::PlanPrompts() {
  const bool more_wait = !table_.waiting().empty() && table_.slot_free();
  for (size_t i = 0; i < prompts_.size() && budget_ > 0; ++i) {
    Sequence& s = *prompts_[i];
    if (s.state != SequenceState::kRunning) continue;
    Give(s, Share(s.remaining(), more_wait || i + 1 < prompts_.size()), /*may_preempt=*/true);
  }
}

void StepPlanner::AdmitWaiting() {
  if (table_.waiting().empty()) return;
  const absl::Time now = clock_->Now();
  auto next = table_.waiting().begin();
  while (budget_ > 0 && logits_ > 0 && table_.slot_free() && next != table_.waiting().end()) {
    Sequence& s = **next;
    if (s.deadline <= now) {  // it has never started; the next Expire ends it
      ++next;
      continue;
    }
    if (s.unknown > 0 || !TryAdmit(s)) break;  // strictly by rank, since small ones would starve a large one otherwise
    next = table_.waiting().upper_bound(&s);   // admission took it out
    --logits_;
    const bool others = next != table_.waiting().end() && table_.slot_free();
    CAUSEWAY_CHECK(Give(s, Share(s.remaining(), others), /*may_preempt=*/false) > 0, "sequence ", s.id,
                   " was admitted for nothing");
    prompts_.push_back(&s);
  }
}

// A sequence is admitted when there are blocks for all of its tokens on top of what the running ones lack, and some for
// these to grow. Otherwise it would be preempted after a few steps, and its rows computed in vain. When none runs, all
// blocks are available, and Scheduler::Add has made sure that they suffice.
bool StepPlanner::TryAdmit(Sequence& s) {
  BlockPool& pool = table_.pool();
  if (Holds(waiting_refused_, s.id)) return false;
  const int64_t tokens = static_cast<int64_t>(s.tokens.size());
  // The last token is always computed: its row samples the next one. Rows that are to give a logprob or a layer's
  // output are computed, too, since the cache has none.
  const int64_t usable =
      s.layer_outputs != nullptr ? 0 : std::min(tokens - 1, s.scored < s.scored_max() ? s.scored : tokens);
  const int64_t cached = pool.Find(s.cursor, s.tokens, usable / kBlockTokens, found_);
  const int64_t found = static_cast<int64_t>(found_.size());
  if (!HasRoom(BlocksFor(tokens) - found + cached)) return Refuse(waiting_refused_, s.id);
  if (!s.was_admitted) {
    s.was_admitted = true;
    s.cached_tokens = found * kBlockTokens;
    if (options_.prefix_cache && s.after == 0) {
      prefix_query_tokens_ += s.prompt_tokens;
      prefix_hit_tokens_ += s.cached_tokens;
    }
  }
  table_.Admit(s, found_);
  return true;
}

bool StepPlanner::HasRoom(int64_t blocks) const {
  const std::vector<Sequence*>& running = table_.running();
  if (running.empty()) return true;
  const BlockPool& pool = table_.pool();
  int64_t lacking = 0;
  for (const Sequence* r : running) {
    lacking += std::max<int64_t>(0, BlocksFor(r->length()) - static_cast<int64_t>(r->table.size()));
  }
  const int64_t growth = std::min<int64_t>(running.size(), pool.total() / 16);
  return blocks + lacking + growth <= pool.available();
}

bool StepPlanner::Holds(const Refusal& refusal, uint64_t sequence) const {
  return !table_.running().empty() && refusal.sequence == sequence && step_ < refusal.until &&
         table_.pool().available() <= refusal.available;
}

bool StepPlanner::Refuse(Refusal& refusal, uint64_t sequence) {
  refusal = {.sequence = sequence, .available = table_.pool().available(), .until = step_ + kRefusedSteps};
  return false;
}

bool StepPlanner::CanStart(const SequenceCandidate& candidate) {
  int64_t slots = static_cast<int64_t>(table_.running().size()), blocks = 0;
  for (const Sequence* waiting : table_.waiting()) {
    if (waiting->priority < candidate.priority) break;  // `waiting` came before, so it ranks after only by its priority
    ++slots;
    blocks += BlocksFor(static_cast<int64_t>(waiting->tokens.size()));
  }
  if (slots == 0) return true;
  if (slots >= options_.max_num_seqs || Holds(new_refused_, candidate.id)) return false;
  const PrefixCursor cursor{.salt = std::make_shared<const std::string>(candidate.cache_salt)};
  const int64_t tokens = static_cast<int64_t>(candidate.prompt.size());
  const int64_t usable = candidate.computes_all ? 0 : tokens - 1;
  const int64_t cached = table_.pool().Find(cursor, candidate.prompt, usable / kBlockTokens, found_);
  blocks += BlocksFor(tokens) - static_cast<int64_t>(found_.size()) + cached;
  // When none runs, waiting sequences take blocks all the same.
  const bool room = table_.running().empty() ? blocks <= table_.pool().available() : HasRoom(blocks);
  return room || Refuse(new_refused_, candidate.id);
}

void StepPlanner::TopUp() {
  for (Sequence* s : prompts_) {
    if (budget_ == 0) return;
    if (s->state != SequenceState::kRunning || s->rows == 0) continue;
    Give(*s, std::min(s->remaining() - s->rows, budget_), /*may_preempt=*/false);
  }
}

int64_t StepPlanner::WithLogits(const Sequence& s, int64_t rows) const {
  const int64_t begin = s.issued + s.rows;
  if (std::max(begin, s.scored) >= s.scored_max()) return rows;
  // Rows need logits from the first one on that has no logprobs yet. Each sequence has one row of logits in every step
  // anyway.
  return std::min(rows, std::max<int64_t>(0, s.scored - begin) + (s.rows == 0) + logits_);
}

int64_t StepPlanner::Give(Sequence& s, int64_t rows, bool may_preempt) {
  BlockPool& pool = table_.pool();
  rows = WithLogits(s, rows);
  int64_t room = static_cast<int64_t>(s.table.size()) * kBlockTokens - s.issued - s.rows;
  while (room < rows) {
    if (pool.available() > 0) {
      s.table.push_back(pool.Allocate());
      room += kBlockTokens;
    } else if (room > 0 || !may_preempt) {
      rows = room;
    } else {
      Sequence& victim = *table_.running().back();
      if (&victim == &s) {
        // It keeps what it has and waits: those that rank above it end or take it. The highest ranked gets here only
        // when it runs alone, and alone it has all blocks, which suffice for any sequence. So it always gets on, and
        // something always ends.
        CAUSEWAY_CHECK(table_.running().size() > 1, "sequence ", s.id, " runs alone and lacks blocks with ",
                       s.table.size(), " of ", pool.total());
        return 0;
      }
      Preempt(victim);
    }
  }
  if (rows == 0) return 0;
  if (s.scored < s.scored_max()) {
    const int64_t scored = s.issued + s.rows + rows - std::max(s.scored, s.issued + s.rows);
    logits_ -= std::max<int64_t>(0, scored - (s.rows == 0));
  }
  if (s.rows == 0) planned_.push_back(&s);
  s.rows += rows;
  budget_ -= rows;
  return rows;
}

void StepPlanner::Preempt(Sequence& victim) {
  budget_ += victim.rows;
  victim.rows = 0;
  preempted_ = true;
  table_.Preempt(victim);
}

StepPlan StepPlanner::Emit(uint64_t step) {
  StepPlan plan;
  plan.step = step;
  plan.sequences.reserve(planned_.size());
  for (Sequence* s : planned_) {
    if (s->rows == 0) continue;
    plan.tokens += s->rows;
    if (s->rows > 1 || s->issued < s->prompt_tokens) plan.prefill_tokens += s->rows;
    EmitSequence(*s, step, plan.sequences.emplace_back());
  }
  for (Sequence* s : planned_) table_.Issued(*s);
  return plan;
}

void StepPlanner::EmitSequence(Sequence& s, uint64_t step, StepSequence& out) {
  out.sequence = s.id;
  out.slot = s.slot;
  out.context = s.issued;
  const int64_t end = s.issued + s.rows, known = std::min<int64_t>(end, s.tokens.size());
  out.tokens.reserve(s.rows);
  out.tokens.assign(s.tokens.begin() + std::min(s.issued, known), s.tokens.begin() + known);
  if (end > known) out.tokens.push_back(kPlaceholderToken);
  CAUSEWAY_CHECK(static_cast<int64_t>(out.tokens.size()) == s.rows, "sequence ", s.id, ": ", s.rows, " rows of ",
                 s.tokens.size(), " tokens, ", s.issued, " issued");
  out.block_table = s.table;
  out.sample = end == s.length();
  if (out.sample) out.generated = s.length() - s.prompt_tokens;
  const int64_t target_first = std::max(s.issued, s.scored), target_end = std::min(end, s.scored_max());
  if (target_first < target_end)
    out.targets.assign(s.tokens.begin() + target_first + 1, s.tokens.begin() + target_end + 1);
  if (s.issued < s.prompt_tokens) out.local.layer_outputs = s.layer_outputs;
  if (!s.started) {
    auto start = std::make_shared<SequenceStart>();
    start->sampling = s.sampling;
    start->min_tokens = s.min_tokens;
    start->stop_token_ids = s.stop_token_ids;
    start->tokens = s.tokens;
    start->prompt_tokens = s.prompt_tokens;
    out.local.constraint = s.constraint;
    out.start = std::move(start);
    s.started = true;
  }
  s.issued = end;
  s.unknown += out.sample;
  s.last_step = step;
  s.rows = 0;
}

}  // namespace causeway
