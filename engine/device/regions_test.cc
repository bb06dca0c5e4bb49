#include "engine/device/regions.h"

#include <cstring>
#include <thread>
#include <utility>
#include <vector>

#include <gmock/gmock.h>

namespace causeway {
namespace {

TEST(RegionsTest, BlocksLieSideBySideAndKeepWhatIsWrittenToThem) {
  Regions regions;
  std::vector<std::pair<Regions::Block, size_t>> blocks;
  for (size_t bytes : {size_t{1}, size_t{64}, size_t{65}, size_t{3} << 20, size_t{100}}) {
    blocks.emplace_back(regions.Allocate(bytes), bytes);
    ASSERT_NE(blocks.back().first.data, nullptr);
    EXPECT_EQ(reinterpret_cast<uintptr_t>(blocks.back().first.data) % Regions::kAlignment, 0u);
    std::memset(blocks.back().first.data, static_cast<int>(blocks.size()), bytes);
  }
  EXPECT_EQ(regions.count(), 1);
  for (size_t i = 0; i < blocks.size(); ++i) {
    const char* data = static_cast<const char*>(blocks[i].first.data);
    EXPECT_EQ(data[0], static_cast<char>(i + 1));
    EXPECT_EQ(data[blocks[i].second - 1], static_cast<char>(i + 1));
    if (i == 0) continue;
    EXPECT_LE(data - static_cast<const char*>(blocks[i - 1].first.data),
              static_cast<int64_t>(blocks[i - 1].second + Regions::kAlignment - 1));
  }
  for (const auto& [block, bytes] : blocks) regions.Free(block.region);
  EXPECT_EQ(regions.count(), 0);
}

TEST(RegionsTest, RegionsGoWithTheirLastBlock) {
  Regions regions;
  // The last finds room behind the one that got a region of its own size.
  const Regions::Block small = regions.Allocate(10), large = regions.Allocate(Regions::kRegionBytes + 1),
                       last = regions.Allocate(10);
  EXPECT_EQ(regions.count(), 2);
  regions.Free(small.region);
  EXPECT_EQ(regions.count(), 1);
  regions.Free(large.region);
  EXPECT_EQ(regions.count(), 1);
  regions.Free(last.region);
  EXPECT_EQ(regions.count(), 0);
  const Regions::Block again = regions.Allocate(10);
  EXPECT_EQ(regions.count(), 1);
  regions.Free(again.region);
}

TEST(RegionsTest, MoreThanTheSystemHasIsNull) {
  Regions regions;
  EXPECT_EQ(regions.Allocate(size_t{1} << 60).data, nullptr);
  EXPECT_EQ(regions.count(), 0);
}

TEST(RegionsTest, ThreadsShareIt) {
  Regions regions;
  std::vector<std::thread> threads;
  for (int i = 0; i < 4; ++i) {
    threads.emplace_back([&regions, i] {
      for (int round = 0; round < 200; ++round) {
        const Regions::Block a = regions.Allocate(1000), b = regions.Allocate(5000);
        std::memset(a.data, i, 1000);
        std::memset(b.data, i, 5000);
        EXPECT_EQ(static_cast<const char*>(a.data)[999], i);
        regions.Free(b.region);
        regions.Free(a.region);
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(regions.count(), 0);
}

}  // namespace
}  // namespace causeway
