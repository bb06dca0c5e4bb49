#include "engine/strategy/offload.h"

#include <limits>
#include <random>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "engine/plan/offload.h"
#include "engine/plan/test_models.h"

namespace causeway {
namespace {

using Kind = OffloadPiece::Kind;

size_t At(Kind kind) { return static_cast<size_t>(kind); }

FleetDevice DeviceWith(int64_t cpu_bytes, double disk_bytes_per_second = 0) {
  FleetDevice device;
  device.cpu_bytes = cpu_bytes;
  device.cpu_bytes_per_second = 1000;
  device.disk_bytes_per_second = disk_bytes_per_second;
  return device;
}

// A table of 100 bytes, four experts of 50, two MLPs of 40.
OffloadableByKind Some() {
  OffloadableByKind some;
  some[At(Kind::kTable)] = {.bytes = 100, .pieces = 1, .streamed = 100};
  some[At(Kind::kExpert)] = {.bytes = 200, .pieces = 4, .streamed = 240, .largest = 60, .second = 60};
  some[At(Kind::kMlp)] = {.bytes = 80, .pieces = 2, .streamed = 80, .largest = 30, .second = 10};
  return some;
}

TEST(StrategyOffloadTest, KindByKindInWholePiecesThroughABuffer) {
  const FleetDevice device = DeviceWith(1 << 20);
  EXPECT_EQ(Offload(Some(), 0, device)->bytes, 0);
  const Offloaded table = *Offload(Some(), 90, device);  // rows of it are looked up, through no buffer
  EXPECT_EQ(table.bytes, 100);
  EXPECT_EQ(table.staging, 0);
  EXPECT_EQ(table.experts + table.linears, 0);
  OffloadableByKind large = Some();
  for (Offloadable& kind : large) kind.bytes *= 100;  // beside a buffer of a page and two experts
  const Offloaded experts = *Offload(large, 10100, device);
  EXPECT_EQ(experts.staging, 4096 + 120);
  EXPECT_EQ(experts.experts, 5000);  // 10,100 + 4,216 less the table
  EXPECT_EQ(experts.bytes, 15000);
  const Offloaded mlp = *Offload(large, 10000 + 20000 + 3000, device);
  EXPECT_EQ(mlp.experts, 20000);
  EXPECT_EQ(mlp.linears, 8000);
  EXPECT_EQ(MostFreed(large, device), 38000 - 4216);
  EXPECT_TRUE(Offload(large, MostFreed(large, device), device).has_value());
  EXPECT_FALSE(Offload(large, MostFreed(large, device) + 1, device).has_value());
}

TEST(StrategyOffloadTest, CpuMemoryIsFilledFirstAndTheDiskHasTheRest) {
  OffloadableByKind large = Some();
  for (Offloadable& kind : large) kind.bytes *= 100, kind.streamed = kind.bytes;
  EXPECT_EQ(MostFreed(large, DeviceWith(0)), 0);
  EXPECT_FALSE(Offload(large, 1, DeviceWith(0)).has_value());
  EXPECT_EQ(MostFreed(large, DeviceWith(20000)), 20000 - 4216);  // the table and two experts
  EXPECT_EQ(Offload(large, 15000, DeviceWith(20000))->on_disk, 0);
  const FleetDevice device = DeviceWith(20000, 100);
  const Offloaded offloaded = *Offload(large, 25000, device);
  EXPECT_EQ(offloaded.bytes, 30000);
  EXPECT_EQ(offloaded.on_disk, 10000);
  // Nothing of the table is streamed; a third of the rest comes from the disk, ten times slower.
  const StreamSeconds seconds = SecondsToStream(offloaded, 0.5, device);
  EXPECT_DOUBLE_EQ(seconds.hidden, 0);
  EXPECT_DOUBLE_EQ(seconds.waited_for, 0.5 * (20000 * 2 / 3.0 / 1000 + 20000 / 3.0 / 100));
  // What streams in order hides behind computing, unless the processor that computes has to copy it.
  FleetDevice gpu = DeviceWith(30000, 100);
  gpu.device.kind = DeviceKind::kCuda;
  const Offloaded linears = {.bytes = 40000, .linears = 10000, .on_disk = 10000};
  EXPECT_DOUBLE_EQ(SecondsToStream(linears, 0.5, gpu).hidden, 7500.0 / 1000 + 2500.0 / 100);
  EXPECT_DOUBLE_EQ(SecondsToStream(linears, 0.5, gpu).waited_for, 0);
  EXPECT_DOUBLE_EQ(SecondsToStream(linears, 0.5, DeviceWith(30000, 100)).hidden, 2500.0 / 100);
  EXPECT_DOUBLE_EQ(SecondsToStream(linears, 0.5, DeviceWith(30000, 100)).waited_for, 7500.0 / 1000);
  FleetDevice in_place = DeviceWith(1 << 20);
  in_place.cpu_bytes_per_second = std::numeric_limits<double>::infinity();
  EXPECT_DOUBLE_EQ(SecondsToStream(*Offload(large, 25000, in_place), 0.5, in_place).waited_for, 0);
}

ModelSpec Mixture(int64_t layers) {
  return TestSpec({{"model_type", "qwen3_moe"},
                   {"vocab_size", 96},
                   {"hidden_size", 256},
                   {"intermediate_size", 512},
                   {"moe_intermediate_size", 128},
                   {"num_hidden_layers", layers},
                   {"num_attention_heads", 4},
                   {"num_key_value_heads", 2},
                   {"head_dim", 64},
                   {"num_experts", 8},
                   {"num_experts_per_tok", 2},
                   {"norm_topk_prob", true},
                   {"max_position_embeddings", 256},
                   {"decoder_sparse_step", 1},
                   {"mlp_only_layers", Json::array()},
                   {"tie_word_embeddings", false}},
                  DType::kBF16);
}

// Whatever the stage, the plan frees as much with no more, through a buffer that is no larger.
TEST(StrategyOffloadTest, APlanKeepsWhatItPromises) {
  std::mt19937 random(3);
  int found = 0;
  for (int round = 0; round < 200; ++round) {
    const bool tied = random() % 2 == 0;
    const ModelSpec spec =
        random() % 3 == 0
            ? Mixture(static_cast<int64_t>(1 + random() % 4))
            : TestLlama(
                  {.layers = static_cast<int64_t>(1 + random() % 6), .hidden = 256, .intermediate = 512, .tied = tied});
    const ModelWork work = MakeModelWork(spec, TestOptions("auto"));
    const int units = static_cast<int>(work.units.size()), first = static_cast<int>(random() % units),
              last = first + static_cast<int>(random() % (units - first));
    const bool shared = first == 0 && last == units - 1 && spec.tied_head;
    OffloadableByKind from;
    PieceList pieces;
    for (int unit = first; unit <= last; ++unit) {
      const OffloadableByKind& more = (shared ? work.offloadable_shared : work.offloadable)[unit];
      for (size_t kind = 0; kind < from.size(); ++kind) from[kind].Add(more[kind]);
    }
    const std::vector<OffloadPiece> all = OffloadPieces(spec, shared);
    for (const OffloadPiece& piece : all) {
      if (first <= piece.unit && piece.unit <= last) pieces.push_back(&piece);
    }
    const FleetDevice device = DeviceWith(int64_t{1} << 40);
    const int64_t most = MostFreed(from, device);
    for (const int64_t wanted : {most / 7, most / 2, most}) {
      if (wanted == 0) continue;
      const std::optional<Offloaded> offloaded = Offload(from, wanted, device);
      ASSERT_TRUE(offloaded.has_value()) << wanted << " of " << most;
      std::vector<bool> gone(pieces.size(), false);
      ASSERT_TRUE(Evict(pieces, wanted, gone));
      EXPECT_LE(StagingBytes(pieces, gone), offloaded->staging);
      int64_t bytes = 0;
      for (size_t i = 0; i < pieces.size(); ++i) bytes += gone[i] ? pieces[i]->bytes : 0;
      EXPECT_LE(bytes, offloaded->bytes);
      EXPECT_GE(bytes - StagingBytes(pieces, gone), wanted);
      ++found;
    }
  }
  EXPECT_GT(found, 150);
}

}  // namespace
}  // namespace causeway
