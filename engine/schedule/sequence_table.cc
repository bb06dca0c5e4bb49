#include "engine/schedule/sequence_table.h"

#include <algorithm>

#include "absl/types/span.h"
#include "engine/base/check.h"

namespace causeway {

SequenceTable::SequenceTable(const SchedulerOptions& options)
    : prefix_cache_(options.prefix_cache), pool_(options.num_blocks, options.prefix_cache) {
  for (int64_t slot = options.max_num_seqs - 1; slot >= 0; --slot) slots_.push_back(static_cast<int32_t>(slot));
  running_.reserve(options.max_num_seqs);
}

Sequence& SequenceTable::Add(std::unique_ptr<Sequence> sequence) {
  Sequence& s = *sequence;
  const Sequence* leader = prefix_cache_ ? Find(s.after) : nullptr;
  if (leader != nullptr && !leader->prompt_issued) {
    s.state = SequenceState::kHeld;
    held_[s.after].push_back(&s);
  } else {
    s.state = SequenceState::kWaiting;
    waiting_.insert(&s);
  }
  if (s.deadline != absl::InfiniteFuture()) deadlines_.insert({s.deadline, s.id});
  sequences_.emplace(s.id, std::move(sequence));
  return s;
}

Sequence* SequenceTable::Find(uint64_t id) {
  const auto it = sequences_.find(id);
  return it == sequences_.end() ? nullptr : it->second.get();
}

void SequenceTable::Remove(Sequence& s) {
  switch (s.state) {
    case SequenceState::kRunning: GiveBack(s); break;
    case SequenceState::kWaiting: waiting_.erase(&s); break;
    case SequenceState::kHeld: {
      std::vector<Sequence*>& held = held_[s.after];
      held.erase(std::find(held.begin(), held.end(), &s));
      break;
    }
  }
  LetGo(s);
  deadlines_.erase({s.deadline, s.id});
  sequences_.erase(s.id);
}

void SequenceTable::Admit(Sequence& s, const std::vector<int32_t>& found) {
  CAUSEWAY_CHECK(s.state == SequenceState::kWaiting && s.unknown == 0 && slot_free(), "sequence ", s.id);
  waiting_.erase(&s);
  s.state = SequenceState::kRunning;
  running_.insert(std::upper_bound(running_.begin(), running_.end(), &s, Outranks()), &s);
  s.slot = slots_.back();
  slots_.pop_back();
  s.started = false;
  s.table = found;
  pool_.Take(found, s.cursor);
  s.issued = static_cast<int64_t>(found.size()) * kBlockTokens;
}

void SequenceTable::Preempt(Sequence& s) {
  GiveBack(s);
  s.state = SequenceState::kWaiting;
  waiting_.insert(&s);
  ++preemptions_;
}

void SequenceTable::GiveBack(Sequence& s) {
  pool_.Release(s.table);
  s.table.clear();
  s.cursor.parent = 0;
  s.cursor.blocks = 0;
  s.issued = 0;
  slots_.push_back(s.slot);
  s.slot = -1;
  running_.erase(std::lower_bound(running_.begin(), running_.end(), &s, Outranks()));
}

void SequenceTable::Issued(Sequence& s) {
  if (s.state != SequenceState::kRunning) return;
  if (prefix_cache_) {
    const int64_t known = std::min<int64_t>(s.issued, s.tokens.size());
    while ((s.cursor.blocks + 1) * kBlockTokens <= known) {
      int32_t& block = s.table[s.cursor.blocks];
      block = pool_.Register(s.cursor, absl::MakeSpan(s.tokens).subspan(s.cursor.blocks * kBlockTokens, kBlockTokens),
                             block);
    }
  }
  if (!s.prompt_issued && s.issued >= s.prompt_tokens) {
    s.prompt_issued = true;
    LetGo(s);
  }
}

void SequenceTable::LetGo(const Sequence& leader) {
  const auto it = held_.find(leader.id);
  if (it == held_.end()) return;
  for (Sequence* s : it->second) {
    s->state = SequenceState::kWaiting;
    waiting_.insert(s);
  }
  held_.erase(it);
}

}  // namespace causeway
