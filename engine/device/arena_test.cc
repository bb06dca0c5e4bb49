#include "engine/device/arena.h"

#include <cstdint>
#include <cstring>
#include <map>
#include <random>

#include <gtest/gtest.h>

namespace causeway {
namespace {

TEST(ArenaTest, FreedBlocksAreReusedAndMerged) {
  Arena arena(1 << 20);
  void* a = arena.Allocate(300'000);
  void* b = arena.Allocate(300'000);
  void* c = arena.Allocate(300'000);
  EXPECT_EQ(arena.Allocate(300'000), nullptr);
  arena.Free(a, 300'000);
  arena.Free(c, 300'000);
  EXPECT_EQ(arena.Allocate(600'000), nullptr);  // room, but not in one piece
  arena.Free(b, 300'000);
  EXPECT_EQ(arena.holes(), 1u);
  EXPECT_EQ(arena.Allocate(1 << 20), a);
}

TEST(ArenaTest, TheSmallestHoleThatFitsIsTaken) {
  Arena arena(10'000 * 64);
  void* large = arena.Allocate(64 * 100);
  arena.Allocate(64);
  void* small = arena.Allocate(64 * 10);
  arena.Allocate(64);
  arena.Free(large, 64 * 100);
  arena.Free(small, 64 * 10);
  EXPECT_EQ(arena.Allocate(64 * 9), small);
}

TEST(ArenaTest, RandomBlocksNeverOverlapAndAllComesBack) {
  Arena arena(1 << 20);
  std::mt19937_64 random(7);
  std::map<char*, size_t> blocks;
  int refused = 0;
  for (int i = 0; i < 20'000; ++i) {
    if (random() % 2 == 0 || blocks.empty()) {
      const size_t bytes = 1 + random() % 40'000;
      char* block = static_cast<char*>(arena.Allocate(bytes));
      if (block == nullptr) {
        ++refused;
        continue;
      }
      EXPECT_EQ(reinterpret_cast<uintptr_t>(block) % Arena::kAlignment, 0u);
      auto next = blocks.lower_bound(block);
      if (next != blocks.end()) {
        EXPECT_LE(block + bytes, next->first);
      }
      if (next != blocks.begin()) {
        EXPECT_LE(std::prev(next)->first + std::prev(next)->second, block);
      }
      std::memset(block, i, bytes);
      blocks[block] = bytes;
    } else {
      auto block = std::next(blocks.begin(), random() % blocks.size());
      arena.Free(block->first, block->second);
      blocks.erase(block);
    }
  }
  EXPECT_GT(refused, 0);
  for (const auto& [block, bytes] : blocks) arena.Free(block, bytes);
  EXPECT_EQ(arena.holes(), 1u);
}

}  // namespace
}  // namespace causeway
