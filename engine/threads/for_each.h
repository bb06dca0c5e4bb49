// RunRegion for a function of the task's number.
#ifndef CAUSEWAY_ENGINE_THREADS_FOR_EACH_H_
#define CAUSEWAY_ENGINE_THREADS_FOR_EACH_H_

#include <cstdint>

#include "absl/functional/function_ref.h"

namespace causeway {

// Calls work(i) once for each i in [0, count), on the calling thread's team, and returns when all have returned. It
// must not throw.
void ForEach(int64_t count, absl::FunctionRef<void(int64_t)> work);

}  // namespace causeway

#endif  // CAUSEWAY_ENGINE_THREADS_FOR_EACH_H_
