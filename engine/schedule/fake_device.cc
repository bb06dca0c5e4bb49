#include "engine/schedule/fake_device.h"

#include <algorithm>
#include <set>

#include <gtest/gtest.h>

#include "absl/strings/str_cat.h"
#include "engine/base/limits.h"

namespace causeway {
namespace {

uint64_t Mix(uint64_t a, uint64_t b) {
  uint64_t z = a * 0x9e3779b97f4a7c15u + b + 0x632be59bd9b4e019u;
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
  z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
  return z ^ (z >> 31);
}

// What a row leaves in the cache. It depends on the row's token and on all that it attends to.
uint64_t RowValue(uint64_t before, int64_t position, int32_t token) { return Mix(Mix(before, position), token); }

int32_t Draw(uint64_t attended, const SamplingParams& sampling, int64_t generated, int64_t min_tokens,
             const std::vector<int32_t>& stop_token_ids) {
  uint64_t draw = Mix(Mix(attended, sampling.seed), generated);
  while (true) {
    const int32_t token = static_cast<int32_t>(draw % kFakeVocab);
    const bool stops = std::find(stop_token_ids.begin(), stop_token_ids.end(), token) != stop_token_ids.end();
    if (generated >= min_tokens || !stops) return token;
    draw = Mix(draw, 1);
  }
}

}  // namespace

FakeTruth TruthOf(const SequenceRequest& request, const SchedulerOptions& options) {
  const int64_t prompt = static_cast<int64_t>(request.prompt.size());
  int64_t length_max = std::min(options.max_model_len, options.num_blocks * kBlockTokens + 1);
  if (request.stop.max_tokens > 0) length_max = std::min(length_max, prompt + request.stop.max_tokens);
  FakeTruth truth;
  uint64_t attended = 0;
  std::vector<int32_t> tokens = request.prompt;
  for (int64_t position = 0;; ++position) {
    attended = Mix(attended, RowValue(attended, position, tokens[position]));
    if (position + 1 < static_cast<int64_t>(tokens.size())) continue;
    const int64_t generated = static_cast<int64_t>(truth.generated.size());
    const int32_t token = Draw(attended, request.sampling, generated, request.stop.min_tokens, request.stop.token_ids);
    tokens.push_back(token);
    truth.generated.push_back(token);
    const auto& stops = request.stop.token_ids;
    truth.stopped = generated >= request.stop.min_tokens && std::find(stops.begin(), stops.end(), token) != stops.end();
    if (truth.stopped || static_cast<int64_t>(tokens.size()) >= length_max) return truth;
  }
}

FakeDevice::FakeDevice(const SchedulerOptions& options)
    : options_(options), cache_(options.num_blocks * kBlockTokens), slots_(options.max_num_seqs) {}

void FakeDevice::Add(const SequenceRequest& request) {
  SequenceTruth& truth = sequences_[request.id];
  truth.request = request;
  truth.tokens = request.prompt;
}

FakeDevice::Entry& FakeDevice::At(const StepSequence& s, int64_t position) {
  return cache_[s.block_table[position / kBlockTokens] * kBlockTokens + position % kBlockTokens];
}

StepResult FakeDevice::Run(const StepPlan& plan, bool fail) {
  EXPECT_EQ(plan.step, last_step_ + 1);
  last_step_ = plan.step;
  EXPECT_FALSE(plan.sequences.empty());
  StepResult result;
  result.step = plan.step;

  int64_t rows = 0, prefill = 0;
  std::set<uint64_t> ids;
  std::set<int32_t> slots;
  std::map<int32_t, uint64_t> written;
  for (const StepSequence& s : plan.sequences) {
    EXPECT_TRUE(ids.insert(s.sequence).second) << "sequence " << s.sequence << " is twice in step " << plan.step;
    EXPECT_TRUE(slots.insert(s.slot).second) << "slot " << s.slot << " is twice in step " << plan.step;
    const int64_t n = static_cast<int64_t>(s.tokens.size());
    rows += n;
    if (n > 1 || s.context < static_cast<int64_t>(sequences_[s.sequence].request.prompt.size())) prefill += n;
    for (size_t i = s.context / kBlockTokens; i < s.block_table.size(); ++i) {
      EXPECT_TRUE(written.insert({s.block_table[i], s.sequence}).second)
          << "block " << s.block_table[i] << " is written by two";
    }
  }
  EXPECT_EQ(plan.tokens, rows);
  EXPECT_EQ(plan.prefill_tokens, prefill);
  EXPECT_LE(rows, options_.max_num_batched_tokens);
  for (const StepSequence& s : plan.sequences) {
    for (int32_t block : s.block_table) {
      const auto it = written.find(block);
      EXPECT_TRUE(it == written.end() || it->second == s.sequence)
          << "block " << block << " of sequence " << s.sequence << " is written by sequence " << it->second
          << " in the same step";
    }
  }

  for (const StepSequence& s : plan.sequences) {
    const auto truth = sequences_.find(s.sequence);
    if (truth == sequences_.end()) {
      ADD_FAILURE() << "step " << plan.step << " has sequence " << s.sequence << ", which was never added";
      continue;
    }
    const int32_t token = RunSequence(s, truth->second, fail);
    if (s.sample) {
      SampledToken sampled;
      sampled.sequence = s.sequence;
      sampled.token = token;
      result.tokens.push_back(sampled);
    }
  }
  if (fail) {
    result.status = absl::InternalError(absl::StrCat("step ", plan.step, " was made to fail"));
    result.tokens.clear();
  }
  return result;
}

int32_t FakeDevice::RunSequence(const StepSequence& s, SequenceTruth& truth, bool fail) {
  SCOPED_TRACE(testing::Message() << "sequence " << s.sequence << " in step " << last_step_);
  const int64_t rows = static_cast<int64_t>(s.tokens.size()), end = s.context + rows;
  EXPECT_GE(rows, 1);
  EXPECT_EQ(static_cast<int64_t>(s.block_table.size()), BlocksFor(end));
  EXPECT_EQ(std::set<int32_t>(s.block_table.begin(), s.block_table.end()).size(), s.block_table.size());
  for (int32_t block : s.block_table) EXPECT_TRUE(block >= 0 && block < options_.num_blocks) << block;
  EXPECT_LE(end + 1, options_.max_model_len);
  EXPECT_TRUE(s.slot >= 0 && s.slot < options_.max_num_seqs) << s.slot;
  Slot& slot = slots_[s.slot];

  if (s.start != nullptr) {
    EXPECT_EQ(s.context % kBlockTokens, 0);
    EXPECT_LT(s.context, static_cast<int64_t>(s.start->tokens.size())) << "the last token is always computed";
    EXPECT_EQ(s.start->tokens, truth.tokens);
    EXPECT_EQ(s.start->prompt_tokens, static_cast<int64_t>(truth.request.prompt.size()));
    EXPECT_TRUE(options_.prefix_cache || s.context == 0) << s.context;
    slot = {s.sequence, -1, s.start};
    truth.next = s.context;
    restarts_ += truth.started;
    truth.started = true;
  }
  EXPECT_EQ(slot.sequence, s.sequence) << "slot " << s.slot << " belongs to another";
  EXPECT_EQ(s.context, truth.next) << "each token is computed once and in order";
  truth.next = end;
  EXPECT_LE(end, static_cast<int64_t>(truth.tokens.size()));
  EXPECT_EQ(s.sample, end == static_cast<int64_t>(truth.tokens.size()));
  if (testing::Test::HasFailure()) return 0;

  uint64_t attended = 0;
  for (int64_t position = 0; position < end; ++position) {
    Entry& entry = At(s, position);
    if (position >= s.context) {
      int32_t token = s.tokens[position - s.context];
      if (token == kPlaceholderToken) {
        EXPECT_EQ(position, end - 1) << "only the last may be a placeholder";
        EXPECT_EQ(options_.micro_batches, 1) << "in a pipeline tokens in flight are waited for";
        token = slot.last_token;
      }
      EXPECT_EQ(token, truth.tokens[position]) << "position " << position;
      entry = {fail ? Mix(last_step_, position) : RowValue(attended, position, token), truth.request.cache_salt};
    }
    EXPECT_EQ(entry.salt, truth.request.cache_salt) << "position " << position;
    attended = Mix(attended, entry.value);
  }
  if (!s.sample) return -1;
  const int64_t generated = static_cast<int64_t>(truth.tokens.size()) - slot.start->prompt_tokens;
  EXPECT_EQ(s.generated, generated);
  slot.last_token =
      Draw(attended, slot.start->sampling, s.generated, slot.start->min_tokens, slot.start->stop_token_ids);
  truth.tokens.push_back(slot.last_token);
  return slot.last_token;
}

}  // namespace causeway
