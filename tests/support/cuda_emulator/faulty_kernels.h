// Small kernels, right and wrong, that show what the emulator catches.
#ifndef CAUSEWAY_TESTS_SUPPORT_CUDA_EMULATOR_FAULTY_KERNELS_H_
#define CAUSEWAY_TESTS_SUPPORT_CUDA_EMULATOR_FAULTY_KERNELS_H_

#include <cuda_runtime_api.h>

namespace causeway::cuda_emulator {

enum class Planted {
  kNone,
  kMissingBarrier,       // between writes to shared memory and reads of it
  kLateBarrier,          // none between reads of shared memory and the next writes
  kBarrierOfSome,        // half of the threads come to a barrier
  kTwoBarriers,          // the halves of the block come to different barriers
  kEndedEarly,           // a thread ends, and the others wait for it
  kSharedOverrun,        // an index beyond an array in shared memory
  kDynamicOverrun,       // one beyond the dynamic shared memory
  kGlobalOverrun,        // one beyond the output
  kGlobalUnderrun,       // one in front of the output
  kWriteToInput,         // the input is only read
  kMisaligned,           // a load of 16 bytes from an address that is not a multiple of it
  kMaskWithoutSelf,      // a shuffle whose mask does not name the caller
  kMaskOfMissing,        // a full mask where a branch leaves out half of the lanes
  kMaskOfEnded,          // a full mask after a lane has ended
  kDifferentMasks,       // two halves of a warp, one with a full mask
  kReadsLaneOutside,     // a lane reads one that takes no part
  kUninitializedShared,  // shared memory that nobody has written
  kNotAtomic,            // a read, a wait and a write where an atomic is needed
};

// output[i] = the sum of the 128 inputs of i's block of 128 threads. Needs 128 * blocks floats, and 512 bytes of shared
// memory. Both pointers are aligned to 16 bytes.
cudaError_t LaunchSums(Planted planted, const float* input, float* output, int blocks);

// A launch of nothing with this shape.
cudaError_t LaunchNothing(dim3 grid, dim3 block, size_t shared_bytes);

struct LaneResults {
  int from[5][32];  // __shfl_sync of lane 3 in runs of 8, up by 2 in runs of 16, down by 5, xor 4, and a half by xor 1
};
cudaError_t LaunchLanes(LaneResults* results);

// Counts threads into *sum and the largest thread into *largest, and takes and gives back a lock around *guarded.
cudaError_t LaunchAtomics(int* sum, int* largest, int* lock, int* guarded, int blocks);

}  // namespace causeway::cuda_emulator

#endif  // CAUSEWAY_TESTS_SUPPORT_CUDA_EMULATOR_FAULTY_KERNELS_H_
