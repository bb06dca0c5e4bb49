// Seeded random tensors and batches for the tests and benchmarks of operations.
#ifndef CAUSEWAY_ENGINE_OPS_OPS_TESTING_H_
#define CAUSEWAY_ENGINE_OPS_OPS_TESTING_H_

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <numeric>
#include <random>
#include <utility>
#include <vector>

#include <ATen/ops/empty.h>
#include <ATen/ops/tensor.h>

#include "engine/ops/ops.h"
#include "engine/threads/team.h"

namespace causeway::testing {

// Gives a benchmark the threads that CAUSEWAY_CPU_THREADS says, or one.
inline void SetTeamFromEnvironment() {
  const char* threads = std::getenv("CAUSEWAY_CPU_THREADS");
  SetTeam(threads == nullptr ? 1 : std::max(1, std::atoi(threads)), TakeOver::kAllowed);
}

class Random {
 public:
  explicit Random(uint64_t seed) : engine_(seed) {}

  // A normally distributed tensor in `dtype`.
  at::Tensor Tensor(at::IntArrayRef sizes, at::ScalarType dtype, double deviation = 1) {
    at::Tensor t = at::empty(sizes, at::kFloat);
    std::normal_distribution<float> normal(0, static_cast<float>(deviation));
    std::generate_n(t.mutable_data_ptr<float>(), t.numel(), [&] { return normal(engine_); });
    return t.to(dtype);
  }
  int64_t Between(int64_t low, int64_t high) { return std::uniform_int_distribution<int64_t>(low, high)(engine_); }
  std::mt19937_64& engine() { return engine_; }

 private:
  std::mt19937_64 engine_;
};

// A sequence of a batch: it has `rows` in this step, and `context` tokens in all.
struct Span {
  int32_t rows, context;
};

// Makes a batch of these sequences, with their blocks scattered over the cache in random order. Returns the number of
// blocks it needs.
inline int64_t MakeBatch(const std::vector<Span>& spans, Random& random, AttentionBatch& batch) {
  const auto blocks_of = [](const Span& s) { return BlocksFor(s.context); };
  int64_t total = 1, widest = 1, tokens = 0;  // block 0 stands for padding and stays unused
  for (const Span& s : spans) {
    total += blocks_of(s);
    widest = std::max(widest, blocks_of(s));
    tokens += s.rows;
  }
  std::vector<int32_t> blocks(total - 1);
  std::iota(blocks.begin(), blocks.end(), 1);
  std::shuffle(blocks.begin(), blocks.end(), random.engine());

  batch = AttentionBatch();
  batch.positions = at::empty({tokens}, at::kLong);
  batch.slots = at::empty({tokens}, at::kLong);
  batch.block_tables = at::empty({static_cast<int64_t>(spans.size()), widest}, at::kInt);
  batch.block_tables.zero_();
  batch.query_start_host = {0};
  int64_t row = 0, next = 0;
  for (size_t s = 0; s < spans.size(); ++s) {
    int32_t* table = batch.block_tables.mutable_data_ptr<int32_t>() + s * widest;
    for (int64_t b = 0; b < blocks_of(spans[s]); ++b) table[b] = blocks[next++];
    for (int32_t i = 0; i < spans[s].rows; ++i, ++row) {
      const int64_t position = spans[s].context - spans[s].rows + i;
      batch.positions.mutable_data_ptr<int64_t>()[row] = position;
      batch.slots.mutable_data_ptr<int64_t>()[row] =
          table[position / kBlockTokens] * kBlockTokens + position % kBlockTokens;
    }
    batch.query_start_host.push_back(static_cast<int32_t>(row));
    batch.context_lens_host.push_back(spans[s].context);
    batch.context_max = std::max<int64_t>(batch.context_max, spans[s].context);
  }
  batch.query_start = at::tensor(batch.query_start_host, at::kInt);
  batch.context_lens = at::tensor(batch.context_lens_host, at::kInt);
  return total;
}

}  // namespace causeway::testing

#endif  // CAUSEWAY_ENGINE_OPS_OPS_TESTING_H_
