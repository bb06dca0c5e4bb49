// Runs CUDA kernels on the CPU, so that tests can hold them against a reference without a GPU. A .cu file is compiled
// as C++ with device_code.h in front of it (CMake: causeway_emulated); its launches then come here, and are done when
// they return.
//
// Blocks run one after the other, in random order. The threads of a block run one at a time, and another one is drawn
// wherever a thread waits, so that a block cannot wait for another one. What is wrong ends the launch and is kept as a
// fault:
// - a barrier or a warp's call that not all take part in (block.h), or a lane that is read but takes no part;
// - an index beyond an array, shared or not, and a vector load from an address that is not aligned for it;
// - access beyond GuardedMemory or the dynamic shared memory.
// Shared memory is filled with 0xff (a NaN) before each block, so that what is read before it is written spoils
// results.
//
// What it does not see: races of two accesses between the same two waits where the order makes no difference here,
// memory ordering, inline PTX and tensor cores, the precision of fast intrinsics, registers and occupancy.
//
// One thread at a time may use it.
#ifndef CAUSEWAY_TESTS_SUPPORT_CUDA_EMULATOR_EMULATOR_H_
#define CAUSEWAY_TESTS_SUPPORT_CUDA_EMULATOR_EMULATOR_H_

#include <cstddef>
#include <cstdint>
#include <functional>
#include <string>

#include <vector_types.h>

#include "tests/support/cuda_emulator/block.h"

namespace causeway::cuda_emulator {

// Starts the random schedules anew, so that a test's schedules do not depend on the tests before it. The seed is
// CAUSEWAY_EMULATOR_SEED or, without that, one of the system's random numbers for the whole process.
void Restart();

// The first fault since the last call, or nothing: the kernel, the block, the thread, what was wrong and the seed.
// While there is one, launches do nothing and cudaGetLastError() gives cudaErrorLaunchFailure.
std::string TakeFault();

// What has run since the last call, with the seed: a line for each kernel, as its launches name it.
std::string TakeCounts();
// How many kernels TakeCounts will list.
int KernelsSeen();

// What launches come to. `kernel` runs once for each thread.
void RunGrid(const char* name, dim3 grid, dim3 block, size_t shared_bytes, const std::function<void()>& kernel);

// The block that runs now, for what device_code.h defines; null outside of kernels.
Block* RunningBlock();
void* DynamicShared();
void CountAtomic();

}  // namespace causeway::cuda_emulator

#endif  // CAUSEWAY_TESTS_SUPPORT_CUDA_EMULATOR_EMULATOR_H_
