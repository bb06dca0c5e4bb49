// Measures what scheduling one step costs: 256 sequences run, 10,000 wait. The goal is 50 us for Next and Apply
// together.
#include "engine/schedule/scheduler.h"

#include <chrono>
#include <cstdint>
#include <cstdlib>
#include <deque>
#include <optional>
#include <utility>
#include <vector>

#include <benchmark/benchmark.h>

namespace causeway {
namespace {

struct Load {
  int64_t running, waiting, prompt;
};

// Keeps `running` sequences decoding. Those that end are replaced, so that admission and ends are part of the cost.
void Steps(benchmark::State& state, const Load& load, int stages) {
  SchedulerOptions options;
  options.max_num_seqs = load.running;
  options.max_num_batched_tokens = 2048;
  options.max_model_len = 8192;
  options.num_blocks = load.running * (load.prompt + 600) / 16;
  options.micro_batches = stages;
  options.steps_in_flight = stages == 1 ? 2 : stages + 1;
  Scheduler scheduler(options, Clock::Real());
  uint64_t id = 0;
  const auto add = [&] {
    SequenceRequest request;
    request.id = ++id;
    for (int64_t i = 0; i < load.prompt; ++i) request.prompt.push_back(static_cast<int32_t>((id * 31 + i) % 32000));
    request.stop.max_tokens = 1 + static_cast<int64_t>(id % 512);
    request.stop.token_ids = {-5};
    if (!scheduler.Add(std::move(request)).ok()) std::abort();
  };
  while (static_cast<int64_t>(id) < load.running + load.waiting) add();

  // Only Next and Apply are timed. Results are made as the executor would make them.
  std::deque<StepResult> results;
  int64_t sequences = 0, steps = 0;
  double seconds = 0;
  const auto timed = [&seconds](const auto& call) {
    const auto start = std::chrono::steady_clock::now();
    auto result = call();
    seconds += std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    return result;
  };
  const auto round = [&] {
    while (std::optional<StepPlan> plan = timed([&] { return scheduler.Next(); })) {
      StepResult& result = results.emplace_back();
      result.step = plan->step;
      for (const StepSequence& s : plan->sequences) {
        if (s.sample) result.tokens.push_back({s.sequence, static_cast<int32_t>(plan->step % 32000), 0, {}});
      }
      sequences += static_cast<int64_t>(plan->sequences.size());
      ++steps;
    }
    for (const SequenceEvent& event : timed([&] { return scheduler.Apply(results.front()); })) {
      if (event.finished.has_value()) add();
    }
    results.pop_front();
  };
  while (scheduler.Stats().running < load.running || steps < 1000) round();  // until as many sequences end as arrive
  sequences = steps = 0;
  for (auto _ : state) {
    seconds = 0;
    round();
    state.SetIterationTime(seconds);
  }
  state.counters["sequences"] = benchmark::Counter(static_cast<double>(sequences) / static_cast<double>(steps));
  state.counters["waiting"] = static_cast<double>(scheduler.Stats().waiting);
  state.counters["preemptions"] = static_cast<double>(scheduler.Stats().preemptions);
}

void BM_Step(benchmark::State& state) {
  Steps(state, {state.range(0), state.range(1), 500}, static_cast<int>(state.range(2)));
}
BENCHMARK(BM_Step)
    ->ArgNames({"running", "waiting", "stages"})
    ->Args({16, 0, 1})
    ->Args({256, 0, 1})
    ->Args({256, 10000, 1})
    ->Args({256, 10000, 4})
    ->Iterations(3000)
    ->UseManualTime()
    ->Unit(benchmark::kMicrosecond);

}  // namespace
}  // namespace causeway
