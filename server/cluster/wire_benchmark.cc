// How long a step takes to become a message and bytes, and back.
#include "server/cluster/wire.h"

#include <benchmark/benchmark.h>

#include "engine/base/check.h"

namespace causeway {
namespace {

constexpr int64_t kContext = 4096;

StepPlan Plan(int sequences, int tokens, bool starts) {
  StepPlan plan{.step = 1, .tokens = int64_t{sequences} * tokens, .prefill_tokens = tokens > 1 ? tokens : 0};
  for (int i = 0; i < sequences; ++i) {
    StepSequence sequence{
        .sequence = uint64_t(1000 + i), .slot = i, .context = kContext, .sample = true, .generated = 7};
    sequence.tokens.assign(tokens, 30'000);
    sequence.block_table.resize((kContext + tokens + 15) / 16);
    for (size_t b = 0; b < sequence.block_table.size(); ++b) sequence.block_table[b] = static_cast<int32_t>(b) * 7;
    if (starts) {
      auto start = std::make_shared<SequenceStart>();
      start->tokens.assign(tokens, 30'000);
      start->prompt_tokens = tokens;
      sequence.start = std::move(start);
    }
    plan.sequences.push_back(std::move(sequence));
  }
  return plan;
}

void Steps(benchmark::internal::Benchmark* steps) {
  steps->ArgNames({"sequences", "tokens"})->Args({64, 1})->Args({1, 2048});
}

void StepToWire(benchmark::State& state) {
  const StepPlan plan = Plan(state.range(0), state.range(1), state.range(1) > 1);
  for (auto _ : state) benchmark::DoNotOptimize(ToWire(plan));
}
BENCHMARK(StepToWire)->Apply(Steps);

void StepFromWire(benchmark::State& state) {
  const v1::Step wire = ToWire(Plan(state.range(0), state.range(1), state.range(1) > 1));
  for (auto _ : state) CAUSEWAY_CHECK(FromWire(wire, {}).ok());
}
BENCHMARK(StepFromWire)->Apply(Steps);

void StepToBytes(benchmark::State& state) {
  const v1::Step wire = ToWire(Plan(state.range(0), state.range(1), state.range(1) > 1));
  for (auto _ : state) benchmark::DoNotOptimize(wire.SerializeAsString());
  state.counters["bytes"] = static_cast<double>(wire.ByteSizeLong());
}
BENCHMARK(StepToBytes)->Apply(Steps);

void StepFromBytes(benchmark::State& state) {
  const std::string bytes = ToWire(Plan(state.range(0), state.range(1), state.range(1) > 1)).SerializeAsString();
  for (auto _ : state) {
    v1::Step wire;
    CAUSEWAY_CHECK(wire.ParseFromString(bytes));
  }
}
BENCHMARK(StepFromBytes)->Apply(Steps);

}  // namespace
}  // namespace causeway
