// What the stand-in runtime keeps of its machine.
#ifndef CAUSEWAY_TESTS_SUPPORT_CUDA_STANDIN_MACHINE_H_
#define CAUSEWAY_TESTS_SUPPORT_CUDA_STANDIN_MACHINE_H_

#include <map>
#include <mutex>
#include <string>
#include <vector>

#include <cuda_runtime_api.h>

#include "tests/support/cuda_standin/standin.h"

// What handles point at. Handles of other processes' would crash, as they do on a GPU.
struct CUstream_st {
  int device;
};
struct CUevent_st {
  int device;
};

namespace causeway::standin {

class Machine {
 public:
  static Machine& Get();

  // The answer of a call that touches `device`: an injected error, or success, logged. A call that fails is remembered
  // for cudaGetLastError. `logged` false: the call queues and orders nothing.
  cudaError_t Begin(const Call& call, bool logged = true);
  cudaError_t Remember(cudaError_t error);
  cudaError_t LastError();  // and forgets it

  int devices();
  cudaError_t Allocate(void** memory, size_t bytes, int device);
  cudaError_t Free(void* memory);
  cudaError_t AllocateHost(void** memory, size_t bytes);
  void FreeHost(void* memory);
  // Without memory of the host that is not page-locked.
  std::vector<Touch> Known(std::vector<Touch> touches);
  DeviceState& state(int device) { return states_[device]; }  // under mutex()
  std::mutex& mutex() { return mutex_; }
  bool peers = false, events_busy = false;

  void SetDevices(int count, int64_t bytes);
  void StartLog();
  std::vector<Call> TakeLog();
  bool logging();
  void FailDevice(int device);
  void Mend();
  void FailCall(const std::string& name, int error, int more);

 private:
  struct Fault {
    std::string call;
    int error, more;
  };
  void Describe();  // from the environment, once

  std::mutex mutex_;
  bool described_ = false, logging_ = false;
  std::string fault_file_;
  std::vector<DeviceState> states_;
  std::vector<bool> failed_;
  std::vector<Fault> faults_;
  std::vector<Call> log_;
  std::map<void*, std::pair<int, size_t>> memory_;  // address -> device and bytes
  std::map<const void*, size_t> locked_;            // page-locked memory of the host
};

int CurrentDevice();
inline int DeviceOf(cudaStream_t stream) { return stream == nullptr ? CurrentDevice() : stream->device; }

}  // namespace causeway::standin

#endif  // CAUSEWAY_TESTS_SUPPORT_CUDA_STANDIN_MACHINE_H_
