// Measures how fast one thread quantizes weights while they are loaded; bytes_per_second counts the rows read.
#include "engine/ops/quantize.h"

#include <cmath>

#include <c10/core/InferenceMode.h>

#include "benchmark/benchmark.h"
#include "engine/ops/ops_testing.h"

namespace causeway {
namespace {

void Quantizes(benchmark::State& state, const WeightFormat& format) {
  c10::InferenceMode guard;
  testing::Random random(1);
  const at::Tensor rows = random.Tensor({1024, 4096}, at::kBFloat16, 1.0 / 64);
  for (auto _ : state) benchmark::DoNotOptimize(Quantize(rows, format));
  state.SetBytesProcessed(static_cast<int64_t>(state.iterations()) * rows.nbytes());
}
BENCHMARK_CAPTURE(Quantizes, int8, WeightFormat{.kind = WeightKind::kInt8});
BENCHMARK_CAPTURE(Quantizes, int4_32, WeightFormat{.kind = WeightKind::kInt4, .group = 32});
BENCHMARK_CAPTURE(Quantizes, int4_64, WeightFormat{.kind = WeightKind::kInt4, .group = 64});

}  // namespace
}  // namespace causeway

BENCHMARK_MAIN();
