// Measures paged attention of llama-1b (32 heads, 4 key-value heads) and gpt2-xl (25 heads), in decoding and prefill,
// each with a cache in bf16, fp16 and int8. bytes_per_second counts keys and values (and their scales) read once; FLOPS
// counts the multiply-adds that the causal mask leaves.
#include <cmath>
#include <memory>
#include <string>
#include <vector>

#include <ATen/ops/full.h>
#include <c10/core/InferenceMode.h>

#include "benchmark/benchmark.h"
#include "engine/ops/cpu/cpu_ops.h"
#include "engine/ops/cpu/huge_pages.h"
#include "engine/ops/ops_testing.h"

namespace causeway {
namespace {

struct Case {
  const char* name;
  int64_t heads, kv_heads, head_dim;
  int32_t sequences, rows, context;
};

// The computation's dtype, and whether the cache is int8.
struct Cache {
  const char* name;
  at::ScalarType dtype;
  bool int8;
};
constexpr Cache kCaches[] = {{"bf16", at::kBFloat16, false}, {"fp16", at::kHalf, false}, {"int8", at::kBFloat16, true}};

void Attention(benchmark::State& state, const Case& c, const Cache& cache) {
  const auto& [label, dtype, int8] = cache;
  c10::InferenceMode guard;
  testing::SetTeamFromEnvironment();
  const std::unique_ptr<Ops> ops = MakeCpuOps();
  testing::Random random(1);
  AttentionBatch batch;
  const int64_t blocks =
      testing::MakeBatch(std::vector<testing::Span>(c.sequences, {c.rows, c.context}), random, batch);
  // Several layers take turns, so that keys and values come from memory.
  std::vector<KvLayer> layers;
  const at::Tensor block =
      random.Tensor({1, c.kv_heads, kBlockTokens, c.head_dim}, at::kFloat, int8 ? 30 : 1).to(int8 ? at::kChar : dtype);
  const at::Tensor block_scales = at::full({1, c.kv_heads, kBlockTokens}, 1.0 / 30, at::kFloat);
  const int64_t block_bytes = 2 * (block.nbytes() + (int8 ? block_scales.nbytes() : 0)),
                layer_bytes = blocks * block_bytes;
  for (int64_t bytes = 0; bytes < (128 << 20); bytes += layer_bytes) {
    KvLayer& layer = layers.emplace_back();
    const auto fill = [&](at::Tensor& side, const at::Tensor& from) {
      std::vector<int64_t> sizes = from.sizes().vec();
      sizes[0] = blocks;
      side = at::empty(sizes, from.options());
      AskForHugePages(side.mutable_data_ptr(), side.nbytes());
      side.copy_(from.expand_as(side));
    };
    fill(layer.keys, block);
    fill(layer.values, block);
    if (!int8) continue;
    fill(layer.key_scales, block_scales);
    fill(layer.value_scales, block_scales);
  }
  const at::Tensor qkv =
      random.Tensor({batch.positions.size(0), (c.heads + 2 * c.kv_heads) * c.head_dim}, ops->Activations(dtype));
  const double scale = 1 / std::sqrt(static_cast<double>(c.head_dim));
  size_t next = 0;
  for (auto _ : state) {
    benchmark::DoNotOptimize(ops->PagedAttention(qkv, c.heads, c.kv_heads, c.head_dim, scale, 0, batch, layers[next]));
    next = (next + 1) % layers.size();
  }
  state.SetBytesProcessed(state.iterations() * c.sequences * c.context * block_bytes / kBlockTokens);
  const double pairs = c.sequences * (static_cast<double>(c.rows) * (c.context - c.rows) + 0.5 * c.rows * (c.rows + 1));
  state.counters["FLOPS"] = benchmark::Counter(
      4.0 * pairs * static_cast<double>(c.heads * c.head_dim * state.iterations()), benchmark::Counter::kIsRate);
}

void Register() {
  for (const Case& c : {Case{"llama/decode_1x160", 32, 4, 64, 1, 1, 160},
                        {"llama/decode_16x160", 32, 4, 64, 16, 1, 160},
                        {"llama/decode_1x8000", 32, 4, 64, 1, 1, 8000},
                        {"llama/decode_16x2000", 32, 4, 64, 16, 1, 2000},
                        {"llama/prefill_1x128", 32, 4, 64, 1, 128, 128},
                        {"llama/prefill_16x128", 32, 4, 64, 16, 128, 128},
                        {"llama/prefill_1x2000", 32, 4, 64, 1, 2000, 2000},
                        {"llama/chunk_512_of_4096", 32, 4, 64, 1, 512, 4096},
                        {"gpt2xl/decode_1x160", 25, 25, 64, 1, 1, 160},
                        {"gpt2xl/decode_16x160", 25, 25, 64, 16, 1, 160},
                        {"gpt2xl/decode_16x1000", 25, 25, 64, 16, 1, 1000},
                        {"gpt2xl/prefill_1x1000", 25, 25, 64, 1, 1000, 1000}}) {
    for (const Cache& cache : kCaches) {
      const std::string name = c.name + std::string("/") + cache.name;
      benchmark::RegisterBenchmark(name.c_str(), [c, &cache](benchmark::State& state) { Attention(state, c, cache); })
          ->UseRealTime()
          ->MinTime(0.2);
    }
  }
}

[[maybe_unused]] const bool registered = (Register(), true);

}  // namespace
}  // namespace causeway
