// A machine with GPUs that are not there. Libraries with the names of NVIDIA's take their place: the CUDA runtime
// (libcudart.so.13), the driver (libcuda.so.1), NVML (libnvidia-ml.so.1) and torch's CUDA operations
// (libtorch_cuda.so). The real libc10_cuda.so, with its caching allocator, and the real libcauseway_cuda.so run on
// them.
//
// A device's memory is address space of this process, so that a device of 80 GiB takes only what is written to. Work is
// done when it is queued, by the CPU; kernels of our own do nothing. What the calls say of streams and events is
// logged.
#ifndef CAUSEWAY_TESTS_SUPPORT_CUDA_STANDIN_STANDIN_H_
#define CAUSEWAY_TESTS_SUPPORT_CUDA_STANDIN_STANDIN_H_

#include <cstdint>
#include <string>
#include <vector>

namespace causeway::standin {

// The machine is described by the environment variable CAUSEWAY_STANDIN when it is first asked about, "8x80GiB": so
// many devices of that memory each. Without it there are none. SetDevices takes its place in a test's own process.
// CAUSEWAY_STANDIN_FAULT names a file: once it is there, every device has failed (FailDevice).
//
// CAUSEWAY_STANDIN_NVML names a file with what NVML tells, lines "DEVICE NAME NUMBER": utilization (percent), power and
// power_limit (mW), temperature, reasons (bits), ecc_corrected, ecc_uncorrected; others and reserved (bytes more than
// SetOthersBytes says); pid (by which NVML knows this process); xid (0 first, then each error as it happens). What is
// not there is not supported.
void SetDevices(int count, int64_t bytes);

enum class Copied { kNothing, kToDevice, kToHost, kWithin, kBetween /* devices */ };

// Memory that work reads or writes.
struct Touch {
  const void* begin = nullptr;
  int64_t bytes = 0;
  bool writes = false;
};

// A call of the runtime that queues or orders work.
struct Call {
  std::string name;  // "cudaMemcpyAsync", ...; "Norm" of a kernel, "aten::mm" of one of torch's operations
  // What tells kernels of that name apart: "<float, 1, true>" of a kernel, the types of their tensors of torch's
  // operations, "(Float, Long)".
  std::string variant = {};
  int device = 0;                // the stream's, or the calling thread's current one
  const void* stream = nullptr;  // null: the device's legacy default stream
  const void* event = nullptr;
  int64_t bytes = 0;  // copied or set
  Copied copied = Copied::kNothing;
  // Kernels that it starts. One of torch's operations starts as many as torch has for it on a GPU (operations.cc), and
  // a call of cuBLAS counts as one. Setting memory counts as a kernel.
  int launches = 0;
  // What the work reads and writes. Of our own kernels their arguments say it (kernels.cc), of torch's operations their
  // tensors. Memory of the host counts where it is page-locked: other memory is read before the call returns.
  std::vector<Touch> touches = {};
};
// The calls since the last StartLog, in order. Any thread.
void StartLog();
std::vector<Call> TakeLog();

// What calls come to.
struct Counts {
  int launches = 0, to_device = 0, to_host = 0, within = 0, between = 0;
  int waits = 0;  // of the host, for a stream, an event or a device
};
Counts Count(const std::vector<Call>& calls);

struct DeviceState {
  int64_t total = 0, allocated = 0, others = 0;  // bytes; `others`: held by other processes
  int64_t allocated_peak = 0;
  bool has_context = false;
  int streams = 0, events = 0;  // alive
};
DeviceState StateOf(int device);
void ResetPeak(int device);
void SetOthersBytes(int device, int64_t bytes);

// Every call on the device gives cudaErrorIllegalAddress from now on, as after a kernel that read where it must not.
// -1: on each device.
void FailDevice(int device);
void MendDevices();  // what a new process would find
// The call of this name gives `error` once, after `more` others of that name.
void FailCall(const std::string& name, int error, int more = 0);
// Whether cudaEventQuery never finds an event done, as if all work took long.
void KeepEventsBusy(bool busy);
// Whether one device may reach another's memory itself; at first none may.
void AllowPeerAccess(bool allow);

}  // namespace causeway::standin

#endif  // CAUSEWAY_TESTS_SUPPORT_CUDA_STANDIN_STANDIN_H_
