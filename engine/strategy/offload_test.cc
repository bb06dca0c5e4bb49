#include "engine/strategy/offload.h"

#include <limits>
#include <random>
#include <utility>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "engine/plan/offload.h"
#include "engine/plan/test_models.h"

namespace causeway {
namespace {

FleetDevice DeviceWith(int64_t cpu_bytes, double disk_bytes_per_second = 0) {
  FleetDevice device;
  device.cpu_bytes = cpu_bytes;
  device.cpu_bytes_per_second = 1000;
  device.disk_bytes_per_second = disk_bytes_per_second;
  return device;
}

// What may leave a device: a table of 100 pages, four experts of 50, two MLPs of 40.
class StrategyOffloadTest : public ::testing::Test {
 protected:
  static constexpr int64_t kPage = 4096;

  static OffloadPiece Piece(PieceKind kind, int64_t pages, std::vector<int64_t> streamed) {
    for (int64_t& linear : streamed) linear *= kPage;
    return {.kind = kind, .bytes = pages * kPage, .streamed = std::move(streamed)};
  }

  const std::vector<OffloadPiece> pieces_ = {
      Piece(PieceKind::kTable, 100, {}),       Piece(PieceKind::kExpert, 50, {30, 20}),
      Piece(PieceKind::kExpert, 50, {30, 20}), Piece(PieceKind::kExpert, 50, {30, 20}),
      Piece(PieceKind::kExpert, 50, {30, 20}), Piece(PieceKind::kMlp, 40, {30, 10}),
      Piece(PieceKind::kMlp, 40, {30, 10}),
  };
  const std::vector<PieceRun> held_ = RunsOf(pieces_);
};

TEST_F(StrategyOffloadTest, KindByKindInWholePiecesThroughABuffer) {
  const FleetDevice device = DeviceWith(int64_t{1} << 40);
  EXPECT_EQ(Offload(held_, 0, device)->bytes, 0);
  const Offloaded table = *Offload(held_, 90 * kPage, device);  // rows of it are looked up, through no buffer
  EXPECT_EQ(table.bytes, 100 * kPage);
  EXPECT_EQ(table.staging, 0);
  EXPECT_EQ(table.experts + table.linears, 0);
  const Offloaded experts = *Offload(held_, 110 * kPage, device);
  EXPECT_EQ(experts.staging, 101 * kPage);  // two experts, and a page to begin at
  EXPECT_EQ(experts.experts, 150 * kPage);  // 110 + 101 less the table
  EXPECT_EQ(experts.bytes, 250 * kPage);
  const Offloaded mlp = *Offload(held_, 210 * kPage, device);
  EXPECT_EQ(mlp.experts, 200 * kPage);
  EXPECT_EQ(mlp.linears, 40 * kPage);
  const int64_t most = MostFreed(held_, RoomElsewhere(device));
  EXPECT_EQ(most, (380 - 101) * kPage);
  EXPECT_TRUE(Offload(held_, most, device).has_value());
  EXPECT_FALSE(Offload(held_, most + 1, device).has_value());
}

TEST_F(StrategyOffloadTest, CpuMemoryIsFilledFirstAndTheDiskHasTheRest) {
  EXPECT_EQ(MostFreed(held_, RoomElsewhere(DeviceWith(0))), 0);
  EXPECT_FALSE(Offload(held_, 1, DeviceWith(0)).has_value());
  // Room for the table and three experts.
  EXPECT_EQ(MostFreed(held_, RoomElsewhere(DeviceWith(250 * kPage))), (250 - 101) * kPage);
  EXPECT_EQ(Offload(held_, 149 * kPage, DeviceWith(250 * kPage))->on_disk, 0);
  EXPECT_FALSE(Offload(held_, 150 * kPage, DeviceWith(250 * kPage)).has_value());
  const FleetDevice device = DeviceWith(200 * kPage, 100);
  const Offloaded offloaded = *Offload(held_, 190 * kPage, device);
  EXPECT_EQ(offloaded.bytes, 300 * kPage);
  EXPECT_EQ(offloaded.on_disk, 100 * kPage);
  // Nothing of the table is streamed; a third of the rest comes from the disk, ten times slower.
  const StreamSeconds seconds = SecondsToStream(offloaded, 0.5, device);
  EXPECT_DOUBLE_EQ(seconds.hidden, 0);
  EXPECT_DOUBLE_EQ(seconds.waited_for, 0.5 * 200 * kPage * (2 / 3.0 / 1000 + 1 / 3.0 / 100));
  // What streams in order hides behind computing, unless the processor that computes has to copy it.
  FleetDevice gpu = DeviceWith(30000, 100);
  gpu.device.kind = DeviceKind::kCuda;
  const Offloaded linears = {.bytes = 40000, .linears = 10000, .on_disk = 10000};
  EXPECT_DOUBLE_EQ(SecondsToStream(linears, 0.5, gpu).hidden, 7500.0 / 1000 + 2500.0 / 100);
  EXPECT_DOUBLE_EQ(SecondsToStream(linears, 0.5, gpu).waited_for, 0);
  EXPECT_DOUBLE_EQ(SecondsToStream(linears, 0.5, DeviceWith(30000, 100)).hidden, 2500.0 / 100);
  EXPECT_DOUBLE_EQ(SecondsToStream(linears, 0.5, DeviceWith(30000, 100)).waited_for, 7500.0 / 1000);
  FleetDevice in_place = DeviceWith(int64_t{1} << 40);
  in_place.cpu_bytes_per_second = std::numeric_limits<double>::infinity();
  EXPECT_DOUBLE_EQ(SecondsToStream(*Offload(held_, 190 * kPage, in_place), 0.5, in_place).waited_for, 0);
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

// Whatever the stage and the room elsewhere, what MostFreed promises can be offloaded, and nothing else is decided than
// what a plan would.
TEST(StrategyOffloadPropertyTest, WhatMayLeaveDoes) {
  std::mt19937 random(3);
  int found = 0;
  for (int round = 0; round < 400; ++round) {
    const bool tied = random() % 2 == 0;
    const ModelSpec spec =
        random() % 3 == 0
            ? Mixture(static_cast<int64_t>(1 + random() % 4))
            : TestLlama(
                  {.layers = static_cast<int64_t>(1 + random() % 6), .hidden = 256, .intermediate = 512, .tied = tied});
    const int units = UnitsOf(spec).count(), first = static_cast<int>(random() % units),
              last = first + static_cast<int>(random() % (units - first));
    const PieceTable table(spec);
    const HeldPieces held = PiecesWithin(table.Runs(first == 0 && last == units - 1 && spec.tied_head), {first, last});
    const FleetDevice device = DeviceWith(random() % 2 == 0 ? int64_t{1} << 40 : TestBytes(spec) / (1 + random() % 9));
    const int64_t most = MostFreed(held, RoomElsewhere(device));
    for (const int64_t wanted : {most / 7, most / 2, most}) {
      if (wanted == 0) continue;
      const std::optional<Offloaded> offloaded = Offload(held, wanted, device);
      ASSERT_TRUE(offloaded.has_value()) << wanted << " of " << most << " with " << device.cpu_bytes;
      EXPECT_GE(offloaded->bytes - offloaded->staging, wanted);
      const PieceList gone = Gone(held, Evict(held, wanted));
      EXPECT_EQ(StagingBytes(gone), offloaded->staging);
      ++found;
    }
  }
  EXPECT_GT(found, 150);
}

}  // namespace
}  // namespace causeway
