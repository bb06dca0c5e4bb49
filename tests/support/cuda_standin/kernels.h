// Our own kernels as the stand-in runtime meets them: by name, and by the memory that their arguments declare.
#ifndef CAUSEWAY_TESTS_SUPPORT_CUDA_STANDIN_KERNELS_H_
#define CAUSEWAY_TESTS_SUPPORT_CUDA_STANDIN_KERNELS_H_

#include <string>
#include <vector>

#include "tests/support/cuda_standin/standin.h"

namespace causeway::standin {

// As a library does when it is loaded. `function` stands for the kernel from then on.
void RegisterKernel(const void* function, const char* mangled_name);

// "Attend"; "a kernel" where it is not registered.
std::string KernelName(const void* function);
// "<float, float, 2>": its template arguments.
std::string KernelVariant(const void* function);

// What a launch with these arguments reads and writes. Aborts where kernels.cc knows nothing of the kernel.
std::vector<Touch> TouchesOf(const void* function, void** arguments);

}  // namespace causeway::standin

#endif  // CAUSEWAY_TESTS_SUPPORT_CUDA_STANDIN_KERNELS_H_
