#include "engine/measure/bandwidth.h"

#include <sys/mman.h>

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <cstring>
#include <thread>
#include <vector>

namespace causeway {
namespace {

constexpr size_t kBufferBytes = size_t{512} << 20;
constexpr int kPasses = 6;
constexpr int kLanes = 32;  // independent sums, so that the loop waits for loads and not for additions

// Sums every word: the result makes the reads necessary.
uint64_t ReadAll(const uint64_t* words, size_t count) {
  uint64_t sums[kLanes] = {};
  for (size_t i = 0; i + kLanes <= count; i += kLanes) {
    for (int lane = 0; lane < kLanes; ++lane) sums[lane] += words[i + lane];
  }
  uint64_t sum = 0;
  for (uint64_t lane : sums) sum += lane;
  return sum;
}

template <typename Work>
void OnThreads(int threads, const Work& work) {
  std::vector<std::thread> running;
  for (int t = 0; t < threads; ++t) running.emplace_back([&work, t] { work(t); });
  for (std::thread& thread : running) thread.join();
}

}  // namespace

double MeasureReadBandwidth(int threads) {
  threads = std::max(threads, 1);
  void* buffer = mmap(nullptr, kBufferBytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (buffer == MAP_FAILED) return 0;
  madvise(buffer, kBufferBytes, MADV_HUGEPAGE);
  const size_t share = kBufferBytes / threads / 4096 * 4096;
  OnThreads(threads, [&](int t) { std::memset(static_cast<char*>(buffer) + share * t, 1, share); });
  double best = 0;
  std::vector<uint64_t> sums(threads);
  volatile uint64_t sink = 0;
  for (int pass = 0; pass < kPasses; ++pass) {
    const auto start = std::chrono::steady_clock::now();
    OnThreads(threads, [&](int t) {
      sums[t] =
          ReadAll(reinterpret_cast<const uint64_t*>(static_cast<char*>(buffer) + share * t), share / sizeof(uint64_t));
    });
    const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    best = std::max(best, static_cast<double>(share) * threads / seconds);
    for (uint64_t sum : sums) sink = sink + sum;
  }
  munmap(buffer, kBufferBytes);
  return best;
}

}  // namespace causeway
