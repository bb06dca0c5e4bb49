// The operations of a device that does its work late.
#ifndef CAUSEWAY_TESTS_SUPPORT_FAKE_ASYNC_OPS_H_
#define CAUSEWAY_TESTS_SUPPORT_FAKE_ASYNC_OPS_H_

#include <memory>

#include "engine/device/device_runtime.h"
#include "engine/ops/ops.h"
#include "tests/support/late_queue.h"

namespace causeway::testing {

// A tensor of these sizes with values that nobody can take for results.
at::Tensor Poisoned(at::IntArrayRef sizes, const at::TensorOptions& options);

// Computes what `inner` computes, in `queue`. The runtime owns the queue and outlives the result.
std::unique_ptr<Ops> MakeFakeAsyncOps(std::shared_ptr<Ops> inner, DeviceRuntime& runtime,
                                      std::shared_ptr<LateQueue> queue);

}  // namespace causeway::testing

#endif  // CAUSEWAY_TESTS_SUPPORT_FAKE_ASYNC_OPS_H_
