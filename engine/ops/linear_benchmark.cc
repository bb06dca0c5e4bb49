// Measures linears of llama-1b's and gpt2-xl's shapes at the row counts of decoding and prefill. Weights are in floats
// and quantized, and come from memory: they rotate through copies of 256 MB in all. bytes_per_second counts the weights
// read once; FLOPS counts the multiply-adds.
//   linear_benchmark --benchmark_filter='int8.*5632' ; CAUSEWAY_CPU_THREADS sets the threads, CAUSEWAY_ISA the kernels
//   (avx2, ...)
#include <cmath>
#include <cstdlib>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include <ATen/ops/full.h>
#include <c10/core/InferenceMode.h>

#include "benchmark/benchmark.h"
#include "engine/ops/cpu/cpu_ops.h"
#include "engine/ops/ops_testing.h"

namespace causeway {
namespace {

constexpr int64_t kRotationBytes = 256 << 20;

cpu::Isa ChosenIsa() {
  const char* name = std::getenv("CAUSEWAY_ISA");
  for (cpu::Isa isa : cpu::SupportedIsas()) {
    if (name != nullptr && cpu::IsaName(isa) == std::string(name)) return isa;
  }
  return cpu::SupportedIsas().front();
}

Ops& BenchmarkedOps() {
  static const std::unique_ptr<Ops> ops = [] {
    testing::SetTeamFromEnvironment();
    return MakeCpuOps(ChosenIsa());
  }();
  return *ops;
}

// How a linear is held, and what it is computed in.
struct Held {
  const char* name;
  at::ScalarType dtype;
  WeightFormat format;
};
const Held kHeld[] = {{"bf16", at::kBFloat16, {}},
                      {"fp16", at::kHalf, {}},
                      {"fp32", at::kFloat, {}},
                      {"int8", at::kBFloat16, {WeightKind::kInt8}},
                      {"int4-32", at::kBFloat16, {WeightKind::kInt4, 32}},
                      {"int4-64", at::kBFloat16, {WeightKind::kInt4, 64}},
                      {"int4-128-zeros", at::kBFloat16, {WeightKind::kInt4, 128, true}},
                      {"fp8", at::kBFloat16, {WeightKind::kFp8, 128}}};

// Fills rows [row, row + n) of a weight; what the values are doesn't matter.
void FillRows(LinearWeight& weight, int64_t row, int64_t n, const Held& held, testing::Random& random) {
  const int64_t in = weight.in_features(), groups = held.format.groups(in);
  if (held.format.kind == WeightKind::kFloat) {
    weight.SetRows(row, random.Tensor({n, in}, held.dtype, 1 / std::sqrt(static_cast<double>(in))));
    return;
  }
  const bool int8 = held.format.kind == WeightKind::kInt8;
  QuantizedRows rows;
  rows.values = at::full({n, in}, 5, int8 ? at::kChar : at::kByte);
  rows.scales = at::full({n, groups}, 0.125, at::kFloat);
  if (held.format.zero_points) rows.zeros = at::full({n, groups}, 7, at::kByte);
  weight.SetQuantizedRows(row, rows);
}

const std::vector<std::unique_ptr<LinearWeight>>& Weights(int64_t out, int64_t in, const Held& held) {
  static std::tuple<int64_t, int64_t, const Held*> current;
  static std::vector<std::unique_ptr<LinearWeight>> weights;
  if (current != std::tuple(out, in, &held)) {
    weights.clear();
    current = {out, in, &held};
    testing::Random random(1);
    for (int64_t bytes = 0; bytes < kRotationBytes; bytes += weights.back()->bytes()) {
      weights.push_back(BenchmarkedOps().NewLinear(out, in, false, held.dtype, at::kCPU, held.format));
      FillRows(*weights.back(), 0, out, held, random);
    }
  }
  return weights;
}

void Linear(benchmark::State& state, int64_t out, int64_t in, const Held& held) {
  c10::InferenceMode guard;
  const auto& weights = Weights(out, in, held);
  testing::Random random(2);
  const at::Tensor x = random.Tensor({state.range(0), in}, BenchmarkedOps().Activations(held.dtype));
  size_t next = 0;
  for (auto _ : state) {
    benchmark::DoNotOptimize(weights[next]->Forward(x));
    next = (next + 1) % weights.size();
  }
  const double iterations = static_cast<double>(state.iterations());
  state.SetBytesProcessed(state.iterations() * weights[0]->bytes());
  state.counters["FLOPS"] = benchmark::Counter(2.0 * static_cast<double>(out * in * state.range(0)) * iterations,
                                               benchmark::Counter::kIsRate);
}

void Register() {
  struct Shape {
    const char* name;
    int64_t out, in;
  };
  for (const Shape& s : {Shape{"llama_qkv", 2560, 2048},
                         {"llama_o", 2048, 2048},
                         {"llama_gate_up", 11264, 2048},
                         {"llama_down", 2048, 5632},
                         {"llama_head", 32000, 2048},
                         {"gpt2xl_qkv", 4800, 1600},
                         {"gpt2xl_o", 1600, 1600},
                         {"gpt2xl_fc", 6400, 1600},
                         {"gpt2xl_proj", 1600, 6400},
                         {"gpt2xl_head", 50257, 1600}}) {
    for (const Held& held : kHeld) {
      auto* b = benchmark::RegisterBenchmark(
          (std::string(held.name) + "/" + s.name + "_" + std::to_string(s.out) + "x" + std::to_string(s.in)).c_str(),
          [s, &held](benchmark::State& state) { Linear(state, s.out, s.in, held); });
      b->UseRealTime()->MeasureProcessCPUTime()->MinTime(0.1);
      for (int64_t rows : {1, 4, 8, 16, 32, 128, 512}) b->Arg(rows);
    }
  }
}

[[maybe_unused]] const bool registered = (Register(), true);

}  // namespace
}  // namespace causeway
