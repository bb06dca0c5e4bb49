#include "engine/cache/block_pool.h"

#include <algorithm>
#include <cstdint>
#include <map>
#include <memory>
#include <numeric>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace causeway {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;
using Tokens = std::vector<int32_t>;

PrefixCursor Root(const std::string& salt = "") { return {std::make_shared<const std::string>(salt), 0, 0}; }

// Full blocks of tokens, one for each of `values` and filled with it.
Tokens Filled(std::initializer_list<int32_t> values) {
  Tokens tokens;
  for (int32_t value : values) tokens.insert(tokens.end(), kBlockTokens, value);
  return tokens;
}

// Allocates and registers a block for each full one of `tokens`.
std::vector<int32_t> Compute(BlockPool& pool, const Tokens& tokens, const std::string& salt = "") {
  PrefixCursor cursor = Root(salt);
  std::vector<int32_t> table;
  for (size_t i = 0; i + kBlockTokens <= tokens.size(); i += kBlockTokens) {
    table.push_back(pool.Register(cursor, absl::MakeSpan(tokens).subspan(i, kBlockTokens), pool.Allocate()));
  }
  return table;
}

std::vector<int32_t> Find(const BlockPool& pool, const Tokens& tokens, const std::string& salt = "",
                          int64_t max = 1000) {
  std::vector<int32_t> found;
  pool.Find(Root(salt), tokens, max, found);
  return found;
}

TEST(BlockPool, HandsOutEveryBlockOnceAndTakesThemBack) {
  BlockPool pool(5, true);
  std::vector<int32_t> blocks;
  for (int i = 0; i < 5; ++i) blocks.push_back(pool.Allocate());
  EXPECT_EQ(pool.available(), 0);
  EXPECT_EQ(pool.used(), 5);
  std::vector<int32_t> sorted = blocks;
  std::sort(sorted.begin(), sorted.end());
  EXPECT_THAT(sorted, ElementsAre(0, 1, 2, 3, 4));
  pool.Release(blocks);
  EXPECT_EQ(pool.available(), 5);
  EXPECT_EQ(pool.cached(), 0) << "nothing was registered";
}

TEST(BlockPoolDeathTest, MisuseIsNoticed) {
  BlockPool pool(1, true);
  const int32_t block = pool.Allocate();
  EXPECT_DEATH(pool.Allocate(), "all 1 blocks are used");
  pool.Release(block);
  EXPECT_DEATH(pool.Release(block), "released once too often");
}

TEST(BlockPool, FindsTheLongestKnownPrefixOfWholeBlocks) {
  BlockPool pool(10, true);
  const auto table = Compute(pool, Filled({1, 2, 3}));
  EXPECT_EQ(Find(pool, Filled({1, 2, 3})), table);
  EXPECT_THAT(Find(pool, Filled({1, 2, 9})), ElementsAre(table[0], table[1]));
  EXPECT_THAT(Find(pool, Filled({2, 3})), IsEmpty()) << "a block is known only behind its own prefix";
  EXPECT_THAT(Find(pool, Filled({1, 2, 3}), "", 1), ElementsAre(table[0]));
  Tokens partial = Filled({1, 2});
  partial.pop_back();
  EXPECT_THAT(Find(pool, partial), ElementsAre(table[0]));
  EXPECT_THAT(Find(pool, Filled({1, 2}), "salt"), IsEmpty());
}

TEST(BlockPool, SaltsAreApart) {
  BlockPool pool(10, true);
  const auto a = Compute(pool, Filled({1, 2}), "a"), b = Compute(pool, Filled({1, 2}), "b");
  EXPECT_EQ(Find(pool, Filled({1, 2}), "a"), a);
  EXPECT_EQ(Find(pool, Filled({1, 2}), "b"), b);
  EXPECT_NE(a, b);
  EXPECT_THAT(Find(pool, Filled({1, 2})), IsEmpty());
}

TEST(BlockPool, EqualHashesAreNoHit) {
  BlockPool pool(40, true, /*hash_mask=*/0);
  std::map<std::pair<std::string, std::pair<int, int>>, std::vector<int32_t>> tables;
  for (const std::string salt : {"", "x"}) {
    for (int first = 0; first < 3; ++first) {
      for (int second = 0; second < 3; ++second) {
        tables[{salt, {first, second}}] = Compute(pool, Filled({first, second}), salt);
      }
    }
  }
  for (const auto& [key, table] : tables) {
    EXPECT_EQ(Find(pool, Filled({key.second.first, key.second.second}), key.first), table);
  }
  Tokens other = Filled({0});
  other[7] = 5;
  EXPECT_THAT(Find(pool, other), IsEmpty());
}

TEST(BlockPool, ReleasedPrefixesStayFoundUntilBlocksAreNeeded) {
  BlockPool pool(4, true);
  const auto table = Compute(pool, Filled({1, 2, 3}));
  pool.Release(table);
  EXPECT_EQ(pool.cached(), 3);
  EXPECT_EQ(pool.available(), 4);
  std::vector<int32_t> found;
  EXPECT_EQ(pool.Find(Root(), Filled({1, 2, 3}), 2, found), 2) << "both are cached, used by no one";
  PrefixCursor cursor = Root();
  pool.Take(found, cursor);
  EXPECT_EQ(cursor.blocks, 2);
  EXPECT_EQ(pool.available(), 2);
  EXPECT_EQ(pool.Find(Root(), Filled({1, 2, 3}), 9, found), 1);
  // The cursor goes on from its place.
  EXPECT_EQ(pool.Register(cursor, Filled({3}), pool.Allocate()), table[2]) << "the known block is taken in its place";
  EXPECT_EQ(pool.available(), 1);
  pool.Release(table);
  EXPECT_EQ(pool.available(), 4);
}

TEST(BlockPool, EvictsLeastRecentlyUsedTailsBeforeHeads) {
  BlockPool pool(5, true);
  const auto old = Compute(pool, Filled({1, 2}));
  const auto young = Compute(pool, Filled({7, 8, 9}));
  pool.Release(old);
  pool.Release(young);
  // `old` is used again, so `young` goes first.
  std::vector<int32_t> found = Find(pool, Filled({1, 2}));
  PrefixCursor cursor = Root();
  pool.Take(found, cursor);
  pool.Release(found);
  EXPECT_EQ(pool.Allocate(), young[2]);
  EXPECT_THAT(Find(pool, Filled({7, 8, 9})), ElementsAre(young[0], young[1]));
  EXPECT_EQ(pool.Allocate(), young[1]);
  EXPECT_EQ(pool.Allocate(), young[0]);
  EXPECT_EQ(pool.Allocate(), old[1]);
  EXPECT_THAT(Find(pool, Filled({1, 2})), ElementsAre(old[0]));
  EXPECT_EQ(pool.Allocate(), old[0]);
  EXPECT_THAT(Find(pool, Filled({1, 2})), IsEmpty());
  EXPECT_EQ(pool.available(), 0);
}

TEST(BlockPool, EqualPrefixesComputedTogetherEndUpShared) {
  BlockPool pool(6, true);
  const auto first = Compute(pool, Filled({1, 2}));
  const auto second = Compute(pool, Filled({1, 2, 3}));
  EXPECT_EQ(second[0], first[0]);
  EXPECT_EQ(second[1], first[1]);
  EXPECT_EQ(pool.used(), 3);
  EXPECT_EQ(pool.references(first[0]), 2);
  pool.Release(first);
  EXPECT_EQ(pool.used(), 3);
  pool.Release(second);
  EXPECT_EQ(pool.used(), 0);
}

TEST(BlockPool, ForgottenBlocksAreFoundNoMore) {
  BlockPool pool(4, true);
  const auto table = Compute(pool, Filled({1, 2, 3}));
  pool.Forget(table[1]);
  EXPECT_THAT(Find(pool, Filled({1, 2, 3})), ElementsAre(table[0]));
  pool.Release(table);
  EXPECT_EQ(pool.cached(), 2);
  EXPECT_EQ(pool.available(), 4);
  // The same tokens computed anew do not lead to the blocks that came after the forgotten one.
  const auto again = Compute(pool, Filled({1, 2}));
  EXPECT_EQ(again[0], table[0]);
  EXPECT_EQ(Find(pool, Filled({1, 2, 3})).size(), 2u);
  pool.Release(again);
  pool.Forget(again[1]);  // while it is cached
  EXPECT_THAT(Find(pool, Filled({1, 2})), ElementsAre(again[0]));
  EXPECT_EQ(pool.available(), 4);
  std::vector<int32_t> all;
  for (int i = 0; i < 4; ++i) all.push_back(pool.Allocate());
  std::sort(all.begin(), all.end());
  EXPECT_THAT(all, ElementsAre(0, 1, 2, 3));
}

TEST(BlockPool, WithoutPrefixCacheNothingIsFound) {
  BlockPool pool(4, false);
  const auto table = Compute(pool, Filled({1, 2}));
  EXPECT_THAT(Find(pool, Filled({1, 2})), IsEmpty());
  pool.Release(table);
  EXPECT_EQ(pool.cached(), 0);
  EXPECT_EQ(pool.available(), 4);
}

TEST(BlockPool, AllocationTellsOneUseFromTheNext) {
  BlockPool pool(1, true);
  const auto table = Compute(pool, Filled({1}));
  const uint64_t allocation = pool.allocation(table[0]);
  pool.Release(table);
  PrefixCursor cursor = Root();
  pool.Take(Find(pool, Filled({1})), cursor);
  EXPECT_EQ(pool.allocation(table[0]), allocation) << "a hit keeps the content";
  pool.Release(table);
  pool.Allocate();
  EXPECT_NE(pool.allocation(table[0]), allocation);
}

// Random holders take random chains over a small alphabet. They are compared with what each block was really filled
// with.
TEST(BlockPool, RandomUseAgainstTheTruth) {
  for (uint64_t seed = 0; seed < 300; ++seed) {
    std::mt19937_64 random(seed);
    const int64_t total = 1 + static_cast<int64_t>(random() % 24);
    BlockPool pool(total, true, random() % 2 ? ~uint64_t{0} : random() % 4);
    struct Holder {
      std::string salt;
      Tokens tokens;
      std::vector<int32_t> table;
    };
    std::vector<Holder> holders;
    std::map<int32_t, std::pair<std::string, Tokens>> content;  // what each block was filled with: salt and prefix
    for (int step = 0; step < 300; ++step) {
      if (random() % 2 && !holders.empty()) {
        const size_t i = random() % holders.size();
        pool.Release(holders[i].table);
        holders.erase(holders.begin() + i);
      } else {
        Holder holder;
        holder.salt = random() % 4 ? "" : "s";
        const size_t blocks = 1 + random() % 6;
        for (size_t i = 0; i < blocks; ++i) {
          const Tokens block = Filled({static_cast<int32_t>(random() % 2)});
          holder.tokens.insert(holder.tokens.end(), block.begin(), block.end());
        }
        PrefixCursor cursor = Root(holder.salt);
        const int64_t cached = pool.Find(cursor, holder.tokens, blocks, holder.table);
        for (size_t i = 0; i < holder.table.size(); ++i) {
          const Tokens prefix(holder.tokens.begin(), holder.tokens.begin() + (i + 1) * kBlockTokens);
          ASSERT_EQ(content[holder.table[i]], std::make_pair(holder.salt, prefix)) << "a wrong hit";
        }
        const int64_t before = pool.available();
        pool.Take(holder.table, cursor);
        ASSERT_EQ(pool.available(), before - cached);
        while (holder.table.size() < blocks && pool.available() > 0) {
          const size_t i = holder.table.size();
          const int32_t mine = pool.Allocate();
          const int32_t block =
              pool.Register(cursor, absl::MakeSpan(holder.tokens).subspan(i * kBlockTokens, kBlockTokens), mine);
          const Tokens prefix(holder.tokens.begin(), holder.tokens.begin() + (i + 1) * kBlockTokens);
          ASSERT_EQ(block, mine) << "found blocks end where nothing more is known";
          content[block] = {holder.salt, prefix};
          holder.table.push_back(block);
        }
        holders.push_back(std::move(holder));
      }
      std::map<int32_t, int32_t> references;
      for (const Holder& holder : holders) {
        for (int32_t block : holder.table) ++references[block];
      }
      ASSERT_EQ(pool.used(), static_cast<int64_t>(references.size()));
      for (const auto& [block, count] : references) ASSERT_EQ(pool.references(block), count);
    }
    for (const Holder& holder : holders) pool.Release(holder.table);
    ASSERT_EQ(pool.available(), total);
  }
}

}  // namespace
}  // namespace causeway
