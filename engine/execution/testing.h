// For tests of this folder: plans over simulated devices, and a driver that generates through an Executor as a
// scheduler would.
#ifndef CAUSEWAY_ENGINE_EXECUTION_TESTING_H_
#define CAUSEWAY_ENGINE_EXECUTION_TESTING_H_

#include <algorithm>
#include <cstdint>
#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

#include <gmock/gmock.h>

#include "engine/base/limits.h"
#include "engine/execution/executor.h"
#include "tests/support/tiny_checkpoint.h"

namespace causeway::testing {

inline const std::vector<std::vector<int32_t>> kPrompts = {
    {5},
    {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16},
    {80, 3, 3, 3, 17, 60, 2, 9, 44, 31, 8, 77, 5, 6, 1, 0, 19, 23, 42, 11, 7, 7, 70},
    {9, 8, 7}};

inline Plan PlanFor(const ModelSpec& spec, const std::string& devices, PlanOptions options = {}) {
  const absl::StatusOr<std::vector<Device>> parsed = ParseDevices(devices, [] { return std::vector<Device>(); });
  options.dtype = DType::kF32;
  options.cpu_threads = 2;  // as Start has
  options.max_num_seqs = 4;
  options.max_num_batched_tokens = 64;
  options.max_model_len = 96;
  if (options.kv_cache_tokens < 0) options.kv_cache_tokens = 4 * 96;
  const absl::StatusOr<Plan> plan = MakePlan(spec, parsed.value(), options);
  if (!plan.ok()) throw std::runtime_error(plan.status().ToString());
  return *plan;
}

struct DriveOptions {
  int64_t tokens = 24;      // to generate for each prompt
  int64_t chunk = 64;       // rows of a prompt in a step
  bool one_by_one = false;  // a prompt at a time, instead of all in each step
  bool ahead = false;       // as many steps in flight as the executor takes, over placeholders
  bool all_logits = false;
  SamplingParams sampling = {.temperature = 0};
};

class Driver {
 public:
  Driver(Executor& executor, const std::vector<std::vector<int32_t>>& prompts, const DriveOptions& options)
      : executor_(executor), options_(options) {
    for (const std::vector<int32_t>& prompt : prompts) sequences_.push_back({prompt});
  }

  // The tokens generated for each prompt.
  std::vector<std::vector<int32_t>> Run() {
    std::vector<std::vector<size_t>> groups(1);
    for (size_t i = 0; i < sequences_.size(); ++i) {
      if (options_.one_by_one && i > 0) groups.emplace_back();
      groups.back().push_back(i);
    }
    for (const std::vector<size_t>& group : groups) RunGroup(group);
    std::vector<std::vector<int32_t>> generated;
    for (const Sequence& sequence : sequences_) generated.push_back(sequence.generated);
    return generated;
  }

  // Of all_logits: of each sequence, row after row.
  const std::vector<float>& logits(size_t i) const { return sequences_[i].logits; }

 private:
  struct Sequence {
    std::vector<int32_t> prompt, generated = {};
    int64_t computed = 0, planned = 0;  // rows in steps; tokens sampled by steps, done or not
    std::vector<float> logits = {};
  };

  void RunGroup(const std::vector<size_t>& group) {
    std::vector<std::vector<size_t>> in_flight;  // the sequences of each step
    while (true) {
      const size_t limit = options_.ahead ? executor_.steps_in_flight() : 1;
      while (in_flight.size() < limit) {
        std::vector<size_t> members;
        StepPlan plan = NextStep(group, members);
        if (plan.sequences.empty()) break;
        executor_.Run(std::move(plan));
        in_flight.push_back(members);
      }
      if (in_flight.empty()) return;
      const StepResult result = executor_.Wait();
      ASSERT_TRUE(result.status.ok()) << result.status;
      EXPECT_EQ(result.step, ++finished_);
      for (const SampledToken& token : result.tokens) sequences_[token.sequence - 1].generated.push_back(token.token);
      for (size_t i = 0; i < result.logits.size(); ++i) {
        std::vector<float>& logits = sequences_[in_flight.front()[i]].logits;
        logits.insert(logits.end(), result.logits[i].begin(), result.logits[i].end());
      }
      in_flight.erase(in_flight.begin());
    }
  }

  StepPlan NextStep(const std::vector<size_t>& group, std::vector<size_t>& members) {
    StepPlan plan;
    for (const size_t i : group) {
      Sequence& sequence = sequences_[i];
      if (sequence.planned == options_.tokens) continue;
      const int64_t prompt = sequence.prompt.size(), length = prompt + sequence.planned;
      const int64_t end = std::min(length, sequence.computed + options_.chunk);
      StepSequence step{.sequence = i + 1,
                        .slot = static_cast<int32_t>(i),
                        .context = sequence.computed,
                        .all_logits = options_.all_logits,
                        .generated = sequence.planned};
      for (int64_t at = sequence.computed; at < end; ++at) {
        const int64_t known = sequence.generated.size();
        step.tokens.push_back(at < prompt           ? sequence.prompt[at]
                              : at - prompt < known ? sequence.generated[at - prompt]
                                                    : kPlaceholderToken);
      }
      // Blocks of different sequences alternate, so that no two in a row are neighbours.
      for (int64_t b = 0; b * kBlockTokens < end; ++b) step.block_table.push_back(b * sequences_.size() + i);
      if (sequence.computed == 0) {
        auto start = std::make_shared<SequenceStart>();
        start->sampling = options_.sampling;
        start->sampling.seed += i;
        start->tokens = sequence.prompt;
        start->prompt_tokens = prompt;
        step.start = std::move(start);
      }
      plan.tokens += end - sequence.computed;
      if (sequence.computed < prompt) plan.prefill_tokens += end - sequence.computed;
      step.sample = end == length;
      sequence.planned += step.sample;
      sequence.computed = end;
      plan.sequences.push_back(std::move(step));
      members.push_back(i);
    }
    if (!plan.sequences.empty()) plan.step = ++started_;
    return plan;
  }

  Executor& executor_;
  const DriveOptions options_;
  std::vector<Sequence> sequences_;
  uint64_t started_ = 0, finished_ = 0;
};

inline std::unique_ptr<Executor> Start(const TinyCheckpoint& tiny, const Plan& plan, bool reference = false) {
  absl::StatusOr<std::unique_ptr<Executor>> executor =
      MakeExecutor(tiny.spec(), tiny.checkpoint(), plan, {.cpu_threads = 2, .reference_ops = reference}, nullptr);
  if (!executor.ok()) throw std::runtime_error(executor.status().ToString());
  return *std::move(executor);
}

}  // namespace causeway::testing

#endif  // CAUSEWAY_ENGINE_EXECUTION_TESTING_H_
