// Linears of llama-1b's and gpt2-xl's shapes at the row counts of decoding and prefill, weights taken from memory: they
// rotate through copies of 256 MB in all. bytes_per_second counts the weights read once; FLOPS the multiply-adds.
//   linear_benchmark --benchmark_filter=5632 ; OMP_NUM_THREADS sets the threads, CAUSEWAY_ISA the kernels (avx2, ...)
#include <cmath>
#include <cstdlib>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

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
  static const std::unique_ptr<Ops> ops = MakeCpuOps(ChosenIsa());
  return *ops;
}

const std::vector<std::unique_ptr<LinearWeight>>& Weights(int64_t out, int64_t in, at::ScalarType dtype) {
  static std::tuple<int64_t, int64_t, at::ScalarType> held;
  static std::vector<std::unique_ptr<LinearWeight>> weights;
  if (held != std::tuple(out, in, dtype)) {
    weights.clear();
    held = {out, in, dtype};
    testing::Random random(1);
    const at::Tensor rows = random.Tensor({64, in}, dtype, 1 / std::sqrt(static_cast<double>(in)));
    for (int64_t bytes = 0; bytes < kRotationBytes; bytes += weights.back()->bytes()) {
      weights.push_back(BenchmarkedOps().NewLinear(out, in, false, dtype, at::kCPU));
      for (int64_t row = 0; row < out; row += 64) BenchmarkedOps().SetRows(*weights.back(), row, rows.narrow(0, 0, std::min<int64_t>(64, out - row)));
    }
  }
  return weights;
}

void Linear(benchmark::State& state, int64_t out, int64_t in, at::ScalarType dtype) {
  c10::InferenceMode guard;
  const auto& weights = Weights(out, in, dtype);
  testing::Random random(2);
  const at::Tensor x = random.Tensor({state.range(0), in}, dtype);
  size_t next = 0;
  for (auto _ : state) {
    benchmark::DoNotOptimize(BenchmarkedOps().Linear(x, *weights[next]));
    next = (next + 1) % weights.size();
  }
  const double iterations = static_cast<double>(state.iterations());
  state.SetBytesProcessed(state.iterations() * weights[0]->bytes());
  state.counters["FLOPS"] = benchmark::Counter(2.0 * static_cast<double>(out * in * state.range(0)) * iterations, benchmark::Counter::kIsRate);
}

void Register() {
  struct Shape {
    const char* name;
    int64_t out, in;
  };
  for (const Shape& s : {Shape{"llama_qkv", 2560, 2048}, {"llama_o", 2048, 2048}, {"llama_gate_up", 11264, 2048}, {"llama_down", 2048, 5632},
                         {"llama_head", 32000, 2048}, {"gpt2xl_qkv", 4800, 1600}, {"gpt2xl_o", 1600, 1600}, {"gpt2xl_fc", 6400, 1600},
                         {"gpt2xl_proj", 1600, 6400}, {"gpt2xl_head", 50257, 1600}}) {
    for (at::ScalarType dtype : {at::kBFloat16, at::kFloat}) {
      auto* b = benchmark::RegisterBenchmark(
          (std::string(dtype == at::kFloat ? "fp32/" : "bf16/") + s.name + "_" + std::to_string(s.out) + "x" + std::to_string(s.in)).c_str(),
          [s, dtype](benchmark::State& state) { Linear(state, s.out, s.in, dtype); });
      b->UseRealTime()->MeasureProcessCPUTime()->MinTime(0.1);
      for (int64_t rows : {1, 4, 8, 16, 32, 128, 512}) b->Arg(rows);
    }
  }
}

[[maybe_unused]] const bool registered = (Register(), true);

}  // namespace
}  // namespace causeway
