// Measures one layer's experts at the row counts of decoding and prefill. A random router spreads tokens evenly.
// bytes_per_second counts the weights of the experts that got a token, once; FLOPS counts the multiply-adds; busy
// counts the experts that got a token. Weights lie on what pages malloc gives them; the daemon's lie on huge ones
// (engine/device/regions.h) and are read faster.
//   experts_benchmark --benchmark_filter=64x ; CAUSEWAY_CPU_THREADS sets the threads
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include <ATen/TensorOperators.h>
#include <c10/core/InferenceMode.h>

#include "benchmark/benchmark.h"
#include "engine/ops/ops.h"
#include "engine/ops/ops_testing.h"

namespace causeway {
namespace {

struct Shape {
  int64_t experts, chosen, hidden, inner;
};

class Layer {
 public:
  explicit Layer(const Shape& shape) : shape_(shape) {
    testing::Random random(1);
    for (int64_t e = 0; e < shape.experts; ++e) {
      const LinearWeight* up = Add(2 * shape.inner, shape.hidden, random);
      experts_.push_back({up, Add(shape.hidden, shape.inner, random)});
    }
  }

  const Shape& shape() const { return shape_; }

  void Run(benchmark::State& state) {
    c10::InferenceMode guard;
    const int64_t tokens = state.range(0);
    testing::Random random(2);
    // As many sets of tokens as it takes for caches to forget one. Each has a routing of its own.
    constexpr int kSets = 16;
    std::vector<at::Tensor> x;
    std::vector<Routing> routings;
    for (int i = 0; i < kSets; ++i) {
      x.push_back(random.Tensor({tokens, shape_.hidden}, at::kBFloat16));
      routings.push_back(ops_->Route(random.Tensor({tokens, shape_.experts}, at::kBFloat16), {},
                                     {.experts_per_token = shape_.chosen}));
    }
    int64_t set = 0, busy = 0, read = 0;
    std::vector<int32_t> counts;
    for (auto _ : state) {
      benchmark::DoNotOptimize(ops_->Experts(x[set], routings[set], experts_, Activation::kSilu, &counts));
      set = (set + 1) % kSets;
      for (size_t e = 0; e < counts.size(); ++e) {
        if (counts[e] == 0) continue;
        ++busy;
        read += experts_[e].up->bytes() + experts_[e].down->bytes();
      }
    }
    const double iterations = static_cast<double>(state.iterations());
    state.SetBytesProcessed(read);
    state.counters["busy"] = static_cast<double>(busy) / iterations;
    state.counters["FLOPS"] = benchmark::Counter(
        6.0 * static_cast<double>(tokens * shape_.chosen * shape_.hidden * shape_.inner) * iterations,
        benchmark::Counter::kIsRate);
  }

 private:
  const LinearWeight* Add(int64_t out, int64_t in, testing::Random& random) {
    held_.push_back(ops_->NewLinear(out, in, false, at::kBFloat16, at::kCPU));
    const at::Tensor rows = random.Tensor({64, in}, at::kBFloat16, 1 / std::sqrt(static_cast<double>(in)));
    for (int64_t row = 0; row < out; row += 64)
      held_.back()->SetRows(row, rows.narrow(0, 0, std::min<int64_t>(64, out - row)));
    return held_.back().get();
  }

  const Shape shape_;
  const std::unique_ptr<Ops> ops_ = MakeCpuOps();
  std::vector<std::unique_ptr<LinearWeight>> held_;
  std::vector<ExpertWeights> experts_;
};

// Holds one shape's weights at a time.
Layer& Held(const Shape& shape) {
  static std::unique_ptr<Layer> layer;
  if (layer == nullptr || layer->shape().experts != shape.experts) {
    layer.reset();
    testing::SetTeamFromEnvironment();
    layer = std::make_unique<Layer>(shape);
  }
  return *layer;
}

void Register() {
  for (const Shape& s : {Shape{64, 8, 2048, 768}, Shape{8, 2, 2048, 5632}}) {
    const std::string name = std::to_string(s.experts) + "x" + std::to_string(s.hidden) + "x" +
                             std::to_string(s.inner) + "/" + std::to_string(s.chosen);
    auto* b =
        benchmark::RegisterBenchmark(("experts_" + name).c_str(), [s](benchmark::State& state) { Held(s).Run(state); });
    b->UseRealTime()->MeasureProcessCPUTime()->MinTime(0.2);
    for (int64_t tokens : {1, 4, 16, 128, 512}) b->Arg(tokens);
  }
}

[[maybe_unused]] const bool registered = (Register(), true);

}  // namespace
}  // namespace causeway
