// Measures regions that read memory, as linears do when they decode: large ones (6 MB in 64 tasks, out of 1 GB) and
// small ones (96 KB in 8 tasks, out of 8 MB), alone and by a team of CAUSEWAY_CPU_THREADS (default 2), with and without
// taking over. Run it beside a process that takes one of the processors, and without.
#include "engine/threads/team.h"

#include <sys/mman.h>

#include <cstdlib>
#include <cstring>
#include <memory>
#include <string>
#include <utility>

#include "benchmark/benchmark.h"

namespace causeway {
namespace {

constexpr size_t kMemoryBytes = size_t{1} << 30;

const char* Memory() {
  static const char* const memory = [] {
    void* mapped = mmap(nullptr, kMemoryBytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (mapped == MAP_FAILED) std::abort();
    madvise(mapped, kMemoryBytes, MADV_HUGEPAGE);
    std::memset(mapped, 1, kMemoryBytes);
    return static_cast<const char*>(mapped);
  }();
  return memory;
}

struct Reading {
  const char* from;
  size_t bytes;    // in each task
  uint64_t* sums;  // one for each task
};

void Read(const void* context, int64_t, RegionTasks& tasks) {
  const Reading reading = *static_cast<const Reading*>(context);
  while (tasks.Next()) {
    const auto* words = reinterpret_cast<const uint64_t*>(reading.from + tasks.task * reading.bytes);
    uint64_t lanes[16] = {}, sum = 0;
    for (size_t i = 0; i + 16 <= reading.bytes / 8; i += 16) {
      for (int lane = 0; lane < 16; ++lane) lanes[lane] += words[i + lane];
    }
    for (const uint64_t lane : lanes) sum += lane;
    if (tasks.Own()) reading.sums[tasks.task] = sum;
  }
}

enum Threads { kAlone, kTeam, kTakeOver };

void Regions(benchmark::State& state, size_t region_bytes, int64_t tasks, size_t rotation_bytes, Threads threads) {
  const char* wished = std::getenv("CAUSEWAY_CPU_THREADS");
  SetTeam(threads == kAlone   ? 1
          : wished == nullptr ? 2
                              : std::atoi(wished),
          threads == kTakeOver ? TakeOver::kAllowed : TakeOver::kNever);
  const auto sums = std::make_unique<uint64_t[]>(tasks);
  size_t at = 0;
  for (auto _ : state) {
    if (at + region_bytes > rotation_bytes) at = 0;
    const Reading reading{Memory() + at, region_bytes / tasks / 128 * 128, sums.get()};
    RunRegion(Read, &reading, sizeof(reading), tasks);
    at += region_bytes;
  }
  benchmark::DoNotOptimize(sums[0]);
  state.SetBytesProcessed(static_cast<int64_t>(region_bytes) * state.iterations());
  SetTeam(1);
}

void RegisterAll() {
  for (const auto& [name, threads] :
       {std::pair("alone", kAlone), std::pair("team", kTeam), std::pair("team that takes over", kTakeOver)}) {
    for (const bool large : {true, false}) {
      const std::string full = std::string(large ? "6 MB, " : "96 KB, ") + name;
      benchmark::RegisterBenchmark(full.c_str(),
                                   [large, threads = threads](benchmark::State& state) {
                                     large ? Regions(state, 6'000'000, 64, kMemoryBytes, threads)
                                           : Regions(state, 96'000, 8, size_t{8} << 20, threads);
                                   })
          ->UseRealTime()
          ->MinTime(2);
    }
  }
}
const bool registered = (RegisterAll(), true);

}  // namespace
}  // namespace causeway
