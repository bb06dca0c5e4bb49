// The one way in which kernels are launched, so that tests can compile the same .cu files as C++ and run them on the
// CPU (tests/support/cuda_emulator). Only .cu files include this.
#ifndef CAUSEWAY_ENGINE_CUDA_LAUNCH_H_
#define CAUSEWAY_ENGINE_CUDA_LAUNCH_H_

#ifdef __CUDACC__

// CAUSEWAY_LAUNCH(grid, block, shared_bytes, stream, Kernel<T, 4>)(arguments...);
#define CAUSEWAY_LAUNCH(grid, block, shared_bytes, stream, ...) __VA_ARGS__<<<grid, block, shared_bytes, stream>>>

// Declares `name`, a pointer to the block's dynamic shared memory: the launch's shared_bytes, aligned to 16 bytes.
#define CAUSEWAY_DYNAMIC_SHARED(type, name)                                \
  extern __shared__ __align__(16) unsigned char causeway_dynamic_shared[]; \
  type* const name = reinterpret_cast<type*>(causeway_dynamic_shared)

#elif !defined(CAUSEWAY_LAUNCH)
#error "A .cu file is compiled by nvcc, or as C++ with tests/support/cuda_emulator/device_code.h in front of it"
#endif

#endif  // CAUSEWAY_ENGINE_CUDA_LAUNCH_H_
