#include "engine/architecture/shard.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace causeway {
namespace {

TEST(ShardTest, ColumnsAreCutWithinEachGroup) {
  const LinearSpec spec{.parts = {{"q", "qb", 8}, {"k", "kb", 4}, {"v", "vb", 4}}, .in_features = 6};
  const absl::StatusOr<LinearShard> shard = ColumnShard(spec, {8, 4, 4}, {.rank = 1, .size = 2});
  ASSERT_TRUE(shard.ok()) << shard.status();
  ASSERT_EQ(shard->outputs.size(), 3u);
  EXPECT_EQ(shard->outputs[0].first, 4);
  EXPECT_EQ(shard->outputs[0].count, 4);
  EXPECT_EQ(shard->outputs[1].first, 10);
  EXPECT_EQ(shard->outputs[1].count, 2);
  EXPECT_EQ(shard->outputs[2].first, 14);
  EXPECT_EQ(shard->out_count(), 8);
  EXPECT_EQ(shard->in_count, 6);
  EXPECT_TRUE(shard->bias);
}

TEST(ShardTest, RowsAreCutAlongInputsAndRankZeroAddsTheBias) {
  const LinearSpec spec{.parts = {{"o", "ob", 8}}, .in_features = 6};
  const absl::StatusOr<LinearShard> first = RowShard(spec, {.rank = 0, .size = 2}),
                                    second = RowShard(spec, {.rank = 1, .size = 2});
  ASSERT_TRUE(first.ok() && second.ok());
  EXPECT_EQ(first->in_first, 0);
  EXPECT_EQ(second->in_first, 3);
  EXPECT_EQ(second->in_count, 3);
  EXPECT_EQ(second->out_count(), 8);
  EXPECT_TRUE(first->bias);
  EXPECT_FALSE(second->bias);
}

TEST(ShardTest, TheWholeIsTheShardOfAGroupOfOne) {
  const LinearSpec spec{.parts = {{"q", "qb", 8}, {"k", "kb", 4}}, .in_features = 7};
  const LinearShard whole = WholeShard(spec);
  EXPECT_EQ(whole.out_count(), 12);
  EXPECT_EQ(whole.in_count, 7);
  EXPECT_TRUE(whole.bias);
}

TEST(ShardTest, WhatCannotBeCutIsRefusedByName) {
  const ParallelGroup two{.rank = 0, .size = 2};
  const auto why = [](const absl::StatusOr<LinearShard>& shard) { return std::string(shard.status().message()); };
  LinearSpec spec{.parts = {{"layers.0.o_proj.weight", "", 8}}, .in_features = 7};
  EXPECT_EQ(why(RowShard(spec, two)), "layers.0.o_proj.weight: 7 features cannot be cut into 2 equal shares");
  EXPECT_EQ(why(ColumnShard(spec, {5, 3}, two)),
            "layers.0.o_proj.weight: 5 features cannot be cut into 2 equal shares");
  EXPECT_EQ(why(ColumnShard(spec, {4}, two)), "layers.0.o_proj.weight: groups of 4 outputs, but the linear has 8");
  spec.in_features = 192;
  spec.format.group = 64;
  EXPECT_EQ(why(RowShard(spec, two)), "layers.0.o_proj.weight: shares of 96 inputs would cut groups of 64");
  spec.format = {.reordered = true};
  EXPECT_EQ(why(RowShard(spec, two)), "layers.0.o_proj.weight: inputs ordered by activation cannot be cut into shares");
}

}  // namespace
}  // namespace causeway
