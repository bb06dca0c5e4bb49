#include "tests/support/cuda_emulator/emulator.h"

#include <signal.h>
#include <stdlib.h>

#include <algorithm>
#include <iterator>
#include <map>
#include <memory>
#include <numeric>
#include <optional>
#include <random>
#include <utility>
#include <vector>

#include <cuda_runtime_api.h>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "engine/base/check.h"
#include "tests/support/cuda_emulator/device_code.h"
#include "tests/support/cuda_emulator/guarded_memory.h"

// Where `__shared__` variables lie (device_code.h). The linker makes these names where there are any.
extern "C" {
extern volatile unsigned char __start_causeway_shared[] __attribute__((weak));
extern volatile unsigned char __stop_causeway_shared[] __attribute__((weak));
}

namespace causeway::cuda_emulator {
namespace {

constexpr size_t kDynamicSharedMax = 48 * 1024;  // more needs cudaFuncSetAttribute
constexpr unsigned kGridMax = 65535;             // in y and z

struct Counts {
  int64_t launches = 0, blocks = 0, threads = 0, barriers = 0, exchanges = 0, atomics = 0;
};

// What is the same for the whole process.
struct Machine {
  Machine() {
    const char* wished = getenv("CAUSEWAY_EMULATOR_SEED");
    seed = wished != nullptr ? strtoul(wished, nullptr, 10) : std::random_device()();
    random.seed(seed);
  }
  uint32_t seed;
  std::minstd_rand random;
  Fibers fibers{kBlockThreadsMax};
  std::map<std::string, Counts> counts;
  std::string fault;
  cudaError_t error = cudaSuccess;  // of a launch that was refused
  Block* block = nullptr;
  GuardedMemory* dynamic_shared = nullptr;
  int64_t atomics = 0;
};
Machine& TheMachine() {
  static Machine* machine = new Machine;
  return *machine;
}

// The section has the sanitizer's red zones in it, which a plain memset would be told off for.
__attribute__((no_sanitize("address,alignment"))) void PoisonStaticShared() {
  volatile unsigned char* at = __start_causeway_shared;  // which the linker aligns as its widest variable
  for (; __stop_causeway_shared - at >= 8; at += 8) *reinterpret_cast<volatile uint64_t*>(at) = ~uint64_t{0};
  for (; at < __stop_causeway_shared; ++at) *at = 0xff;
}

std::string BadAddress(const void* address) {
  const std::string where = GuardedMemory::Describe(address);
  return where.empty() ? absl::StrFormat("touched %p, which is no argument's memory", address)
                       : absl::StrCat("touched ", where);
}

void OnBadAddress(int, siginfo_t* info, void*) {
  Block* block = TheMachine().block;
  if (block == nullptr) {  // it was no kernel: the access is done again, and ends the process
    signal(SIGSEGV, SIG_DFL);
    return;
  }
  block->Fail(BadAddress(info->si_addr));
}

// Turns access to pages without access into faults while it lives.
class CatchBadAddresses {
 public:
  CatchBadAddresses() {
    struct sigaction action = {};
    action.sa_sigaction = OnBadAddress;
    action.sa_flags = SA_SIGINFO | SA_NODEFER;
    sigaction(SIGSEGV, &action, &before_);
  }
  ~CatchBadAddresses() { sigaction(SIGSEGV, &before_, nullptr); }

 private:
  struct sigaction before_;
};

std::string Point(const uint3& p) { return absl::StrCat("(", p.x, ", ", p.y, ", ", p.z, ")"); }

uint3 PointOf(int64_t index, const dim3& of) {
  return {static_cast<unsigned>(index % of.x), static_cast<unsigned>(index / of.x % of.y),
          static_cast<unsigned>(index / of.x / of.y)};
}

// `points`: threadIdx of each thread.
std::string RunBlock(Machine& machine, const std::vector<uint3>& points, const std::function<void()>& kernel,
                     Counts& counts) {
  PoisonStaticShared();
  if (machine.dynamic_shared != nullptr) machine.dynamic_shared->Fill(0xff);
  Block running(machine.fibers, machine.random, static_cast<int>(points.size()));
  machine.block = &running;
  std::string error = running.Run([&](int thread) { threadIdx = points[thread]; }, kernel);
  machine.block = nullptr;
  counts.blocks += 1;
  counts.threads += static_cast<int64_t>(points.size());
  counts.barriers += running.barriers();
  counts.exchanges += running.exchanges();
  if (!error.empty()) error = absl::StrCat("thread ", Point(threadIdx), ": ", error);
  return error;
}

}  // namespace

void Restart() { TheMachine().random.seed(TheMachine().seed); }

std::string TakeFault() { return std::exchange(TheMachine().fault, ""); }

std::string TakeCounts() {
  std::string text;
  for (const auto& [name, c] : std::exchange(TheMachine().counts, {})) {
    absl::StrAppendFormat(&text,
                          "[emulated] %s: %d launches, %d blocks, %d threads, %d barriers, %d warp calls, %d atomics\n",
                          name, c.launches, c.blocks, c.threads, c.barriers, c.exchanges, c.atomics);
  }
  return absl::StrCat(text, "[emulated] CAUSEWAY_EMULATOR_SEED=", TheMachine().seed, "\n");
}

int KernelsSeen() { return static_cast<int>(TheMachine().counts.size()); }

Block* RunningBlock() { return TheMachine().block; }
void* DynamicShared() { return TheMachine().dynamic_shared->data(); }
void CountAtomic() { ++TheMachine().atomics; }

void RunGrid(const char* name, dim3 grid, dim3 block, size_t shared_bytes, const std::function<void()>& kernel) {
  Machine& machine = TheMachine();
  CAUSEWAY_CHECK(machine.block == nullptr, "a kernel launched ", name);
  if (!machine.fault.empty()) return;
  const int64_t threads = int64_t{block.x} * block.y * block.z, blocks = int64_t{grid.x} * grid.y * grid.z;
  if (threads < 1 || threads > kBlockThreadsMax || blocks < 1 || grid.y > kGridMax || grid.z > kGridMax) {
    machine.error = cudaErrorInvalidConfiguration;
    return;
  }
  if (shared_bytes > kDynamicSharedMax) {
    machine.error = cudaErrorInvalidValue;
    return;
  }
  gridDim = grid;
  blockDim = block;
  std::optional<GuardedMemory> shared;
  if (shared_bytes > 0) shared.emplace("the dynamic shared memory", shared_bytes);
  machine.dynamic_shared = shared ? &*shared : nullptr;
  Counts& counts = machine.counts[name];
  counts.launches += 1;
  std::vector<uint3> points(threads);
  for (int64_t t = 0; t < threads; ++t) points[t] = PointOf(t, block);
  std::vector<int64_t> order(blocks);
  std::iota(order.begin(), order.end(), 0);
  std::shuffle(order.begin(), order.end(), machine.random);
  std::string error;
  {
    const CatchBadAddresses catching;
    for (auto at = order.begin(); at != order.end() && error.empty(); ++at) {
      blockIdx = PointOf(*at, grid);
      error = RunBlock(machine, points, kernel, counts);
    }
  }
  if (error.empty()) error = GuardedMemory::Damage();
  if (!error.empty()) {
    machine.fault =
        absl::StrCat(name, ", block ", Point(blockIdx), ", ", error, " (CAUSEWAY_EMULATOR_SEED=", machine.seed, ")");
  }
  counts.atomics += std::exchange(machine.atomics, 0);
  machine.dynamic_shared = nullptr;
}

}  // namespace causeway::cuda_emulator

cudaError_t cudaGetLastError() {
  causeway::cuda_emulator::Machine& machine = causeway::cuda_emulator::TheMachine();
  if (!machine.fault.empty()) return cudaErrorLaunchFailure;
  return std::exchange(machine.error, cudaSuccess);
}
