#include "engine/device/page_toucher.h"

#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cstdint>
#include <vector>

#include <gtest/gtest.h>

namespace causeway {
namespace {

constexpr size_t kMiB = 1 << 20;

// Fresh memory of the system's.
class Mapping {
 public:
  explicit Mapping(size_t bytes, int advice = MADV_NOHUGEPAGE)
      : bytes_(bytes),
        data_(static_cast<char*>(
            mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0))) {
    madvise(data_, bytes, advice);
  }
  ~Mapping() { munmap(data_, bytes_); }
  char* data() const { return data_; }
  // Pages that are there.
  int64_t Resident() const {
    std::vector<unsigned char> there(Pages());
    EXPECT_EQ(mincore(data_, bytes_, there.data()), 0);
    return std::count_if(there.begin(), there.end(), [](unsigned char page) { return (page & 1) != 0; });
  }
  size_t Pages() const { return bytes_ / sysconf(_SC_PAGESIZE); }

 private:
  const size_t bytes_;
  char* const data_;
};

TEST(PageToucherTest, EveryPageIsThereAndHoldsWhatItHeld) {
  for (const int advice : {MADV_NOHUGEPAGE, MADV_HUGEPAGE}) {
    for (const int threads : {1, 4}) {
      const Mapping mapping(13 * kMiB, advice);
      mapping.data()[5 * kMiB + 17] = 'x';
      PageToucher pages;
      pages.Add(absl::MakeSpan(mapping.data(), 13 * kMiB));
      pages.Finish(threads);
      EXPECT_EQ(mapping.Resident(), mapping.Pages());
      EXPECT_EQ(std::count(mapping.data(), mapping.data() + 13 * kMiB, 0), 13 * kMiB - 1);
      EXPECT_EQ(mapping.data()[5 * kMiB + 17], 'x');
    }
  }
}

TEST(PageToucherTest, BlocksThatShareAPageAndPartsOfPagesAreTaken) {
  const Mapping mapping(6 * kMiB);
  PageToucher pages;
  for (size_t at = 0; at < 6 * kMiB; at += 100'032)
    pages.Add(absl::MakeSpan(mapping.data() + at, std::min<size_t>(100'000, 6 * kMiB - at)));
  pages.Start(2);
  pages.Finish(2);
  EXPECT_EQ(mapping.Resident(), mapping.Pages());
}

TEST(PageToucherTest, WhatWasNotAddedIsLeftAlone) {
  const Mapping mapping(8 * kMiB);
  const size_t page = sysconf(_SC_PAGESIZE);
  PageToucher pages;
  pages.Add(absl::MakeSpan(mapping.data() + 3 * page + 5, 10));
  pages.Add(absl::MakeSpan(mapping.data() + 7 * page - 1, 2));
  pages.Add({});
  pages.Finish(8);
  EXPECT_EQ(mapping.Resident(), 3);
  // And it can be used again.
  pages.Add(absl::MakeSpan(mapping.data() + 20 * page, 1));
  pages.Finish(1);
  EXPECT_EQ(mapping.Resident(), 4);
}

TEST(PageToucherTest, OneThatIsNotFinishedLetsTheMemoryGo) {
  for (int round = 0; round < 20; ++round) {
    const Mapping mapping(32 * kMiB);
    PageToucher pages;
    pages.Add(absl::MakeSpan(mapping.data(), 32 * kMiB));
    pages.Start(3);
  }
}

}  // namespace
}  // namespace causeway
