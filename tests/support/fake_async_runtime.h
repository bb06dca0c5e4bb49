// Devices without hardware that behave as badly as GPUs may: work is queued and done late, results are poison until
// then, copies take their time, and any piece of work can fail. Code that reads too early, overwrites too early or
// forgets to wait gets wrong tokens.
#ifndef CAUSEWAY_TESTS_SUPPORT_FAKE_ASYNC_RUNTIME_H_
#define CAUSEWAY_TESTS_SUPPORT_FAKE_ASYNC_RUNTIME_H_

#include <map>
#include <memory>
#include <string>

#include "engine/device/device_runtime.h"
#include "tests/support/late_queue.h"

namespace causeway::testing {

// The devices of one test, and what goes wrong with them. It outlives the executors that use it.
//
// Tensors lie in CPU memory, and the device says that they don't. Queued work keeps what it reads alive, so a device
// needs more memory than a plan allows. Therefore nothing is counted against a budget, and no peak is reported.
class FakeMachine {
 public:
  explicit FakeMachine(LateOptions options) : options_(options) {}

  // The function for ExecutorOptions::make_runtime.
  absl::StatusOr<std::unique_ptr<DeviceRuntime>> MakeRuntime(const DevicePlan& plan, bool reference_ops);
  LateQueue& queue(const std::string& device) { return *queues_.at(device); }
  const std::map<std::string, std::shared_ptr<LateQueue>>& queues() const { return queues_; }

 private:
  const LateOptions options_;
  std::map<std::string, std::shared_ptr<LateQueue>> queues_;  // all are made before any is used
};

}  // namespace causeway::testing

#endif  // CAUSEWAY_TESTS_SUPPORT_FAKE_ASYNC_RUNTIME_H_
