// The CUDA runtime's functions over a Machine: all that libc10_cuda.so and libcauseway_cuda.so call.
#include <sys/mman.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>

#include <cuda.h>

#include "tests/support/cuda_standin/kernels.h"
#include "tests/support/cuda_standin/machine.h"

namespace causeway::standin {
namespace {

thread_local int current = 0;
thread_local cudaStream_t launch_stream = nullptr;  // between the two calls that a launch is made of

Machine& machine() { return Machine::Get(); }
// A question that queues nothing.
cudaError_t Ask(const char* name, int device) {
  return machine().Begin({.name = name, .device = device}, /*logged=*/false);
}
cudaError_t TouchContext(const char* name, int device) {
  if (const cudaError_t error = Ask(name, device); error != cudaSuccess) return error;
  std::lock_guard<std::mutex> lock(machine().mutex());
  machine().state(device).has_context = true;
  return cudaSuccess;
}

cudaError_t Copy(const char* name, void* to, const void* from, size_t bytes, Copied copied, cudaStream_t stream) {
  const Call call = {
      .name = name,
      .device = DeviceOf(stream),
      .stream = stream,
      .bytes = static_cast<int64_t>(bytes),
      .copied = copied,
      .touches = machine().Known({{from, static_cast<int64_t>(bytes)}, {to, static_cast<int64_t>(bytes), true}})};
  if (const cudaError_t error = machine().Begin(call); error != cudaSuccess) return error;
  std::memmove(to, from, bytes);
  return cudaSuccess;
}

Copied CopiedBy(cudaMemcpyKind kind) {
  switch (kind) {
    case cudaMemcpyHostToDevice: return Copied::kToDevice;
    case cudaMemcpyDeviceToHost: return Copied::kToHost;
    case cudaMemcpyDeviceToDevice: return Copied::kWithin;
    default: std::abort();  // nothing here leaves the direction to the addresses
  }
}

// In the place of all of the driver's functions.
CUresult NotSupported() { return CUDA_ERROR_NOT_SUPPORTED; }

}  // namespace

int CurrentDevice() { return current; }

}  // namespace causeway::standin

using causeway::standin::Ask;
using causeway::standin::Call;
using causeway::standin::Copied;
using causeway::standin::CopiedBy;
using causeway::standin::Copy;
using causeway::standin::current;
using causeway::standin::DeviceOf;
using causeway::standin::DeviceState;
using causeway::standin::machine;
using causeway::standin::TouchContext;

extern "C" {

// Errors and versions.
cudaError_t cudaGetLastError() { return machine().LastError(); }
cudaError_t cudaPeekAtLastError() { return machine().Remember(machine().LastError()); }
const char* cudaGetErrorName(cudaError_t error) {
  return error == cudaErrorMemoryAllocation ? "cudaErrorMemoryAllocation" : "cudaError";
}
const char* cudaGetErrorString(cudaError_t error) {
  switch (error) {
    case cudaSuccess: return "no error";
    case cudaErrorMemoryAllocation: return "out of memory";
    case cudaErrorNoDevice: return "no CUDA-capable device is detected";
    case cudaErrorInvalidDevice: return "invalid device ordinal";
    case cudaErrorIllegalAddress: return "an illegal memory access was encountered";
    case cudaErrorNotSupported: return "operation not supported";
    default: break;
  }
  thread_local std::string text;
  text = "stand-in error " + std::to_string(error);
  return text.c_str();
}
cudaError_t cudaDriverGetVersion(int* version) {
  *version = CUDART_VERSION;
  return cudaSuccess;
}
cudaError_t cudaRuntimeGetVersion(int* version) { return cudaDriverGetVersion(version); }
cudaError_t cudaGetDriverEntryPointByVersion(const char*, void** function, unsigned int, unsigned long long,
                                             cudaDriverEntryPointQueryResult* result) {
  *function = reinterpret_cast<void*>(&causeway::standin::NotSupported);
  if (result != nullptr) *result = cudaDriverEntryPointSuccess;
  return cudaSuccess;
}

// Devices.
cudaError_t cudaGetDeviceCount(int* count) {
  *count = machine().devices();
  return *count > 0 ? cudaSuccess : machine().Remember(cudaErrorNoDevice);
}
cudaError_t cudaGetDevice(int* device) {
  *device = current;
  return cudaSuccess;
}
cudaError_t cudaSetDevice(int device) {
  if (const cudaError_t error = TouchContext("cudaSetDevice", device); error != cudaSuccess) return error;
  current = device;
  return cudaSuccess;
}
cudaError_t cudaGetDeviceProperties(cudaDeviceProp* properties, int device) {
  if (const cudaError_t error = Ask("cudaGetDeviceProperties", device); error != cudaSuccess) return error;
  *properties = cudaDeviceProp{};
  std::snprintf(properties->name, sizeof(properties->name), "Stand-in GPU");
  properties->pciBusID = device;
  properties->uuid.bytes[15] = static_cast<char>(device);
  properties->totalGlobalMem = causeway::standin::StateOf(device).total;
  properties->major = 9;
  properties->warpSize = 32;
  properties->multiProcessorCount = 132;
  return cudaSuccess;
}
cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr attribute, int device) {
  if (const cudaError_t error = Ask("cudaDeviceGetAttribute", device); error != cudaSuccess) return error;
  *value = attribute == cudaDevAttrMultiProcessorCount ? 132 : attribute == cudaDevAttrComputeCapabilityMajor ? 9 : 0;
  return cudaSuccess;
}
cudaError_t cudaDeviceSynchronize() { return machine().Begin({.name = "cudaDeviceSynchronize", .device = current}); }
cudaError_t cudaDeviceCanAccessPeer(int* can, int device, int) {
  *can = machine().peers ? 1 : 0;
  return Ask("cudaDeviceCanAccessPeer", device);
}
cudaError_t cudaDeviceEnablePeerAccess(int, unsigned int) {
  return machine().peers ? cudaSuccess : machine().Remember(cudaErrorPeerAccessUnsupported);
}
cudaError_t cudaDeviceGetP2PAttribute(int* value, cudaDeviceP2PAttr attribute, int device, int) {
  *value = attribute == cudaDevP2PAttrAccessSupported && machine().peers ? 1 : 0;
  return Ask("cudaDeviceGetP2PAttribute", device);
}

// Memory.
cudaError_t cudaMemGetInfo(size_t* free, size_t* total) {
  if (const cudaError_t error = TouchContext("cudaMemGetInfo", current); error != cudaSuccess) return error;
  const DeviceState state = causeway::standin::StateOf(current);
  *total = state.total;
  *free = std::max<int64_t>(0, state.total - state.allocated - state.others);
  return cudaSuccess;
}
cudaError_t cudaMalloc(void** memory, size_t bytes) {
  const Call call = {.name = "cudaMalloc", .device = current, .bytes = static_cast<int64_t>(bytes)};
  if (const cudaError_t error = machine().Begin(call); error != cudaSuccess) return error;
  return machine().Allocate(memory, bytes, current);
}
cudaError_t cudaFree(void* memory) {
  if (const cudaError_t error = machine().Begin({.name = "cudaFree", .device = current}); error != cudaSuccess)
    return error;
  return memory == nullptr ? cudaSuccess : machine().Free(memory);
}
cudaError_t cudaHostAlloc(void** memory, size_t bytes, unsigned int) {
  if (const cudaError_t error = TouchContext("cudaHostAlloc", current); error != cudaSuccess) return error;
  return machine().AllocateHost(memory, bytes);
}
cudaError_t cudaFreeHost(void* memory) {
  machine().FreeHost(memory);
  return cudaSuccess;
}
cudaError_t cudaMemcpy(void* to, const void* from, size_t bytes, cudaMemcpyKind kind) {
  return Copy("cudaMemcpy", to, from, bytes, CopiedBy(kind), nullptr);
}
cudaError_t cudaMemcpyAsync(void* to, const void* from, size_t bytes, cudaMemcpyKind kind, cudaStream_t stream) {
  return Copy("cudaMemcpyAsync", to, from, bytes, CopiedBy(kind), stream);
}
cudaError_t cudaMemcpyPeerAsync(void* to, int, const void* from, int, size_t bytes, cudaStream_t stream) {
  return Copy("cudaMemcpyPeerAsync", to, from, bytes, Copied::kBetween, stream);
}
cudaError_t cudaMemsetAsync(void* to, int value, size_t bytes, cudaStream_t stream) {
  const cudaError_t error = machine().Begin({.name = "cudaMemsetAsync",
                                             .device = DeviceOf(stream),
                                             .stream = stream,
                                             .bytes = static_cast<int64_t>(bytes),
                                             .launches = 1,
                                             .touches = {{to, static_cast<int64_t>(bytes), true}}});
  if (error != cudaSuccess) return error;
  constexpr size_t kPage = 4096;
  char* const first = static_cast<char*>(to);
  char* const page = first + (kPage - reinterpret_cast<uintptr_t>(first) % kPage) % kPage;
  if (value != 0 || bytes < 2 * kPage) {
    std::memset(to, value, bytes);
    return cudaSuccess;
  }
  // Whole pages are given back, and read as zeros: a cache of gigabytes takes no memory.
  const size_t pages = (first + bytes - page) / kPage * kPage;
  std::memset(first, 0, page - first);
  madvise(page, pages, MADV_DONTNEED);
  std::memset(page + pages, 0, first + bytes - page - pages);
  return cudaSuccess;
}

// Streams and events.
cudaError_t cudaDeviceGetStreamPriorityRange(int* least, int* greatest) {
  *least = 0;
  *greatest = -5;
  return Ask("cudaDeviceGetStreamPriorityRange", current);
}
cudaError_t cudaStreamCreateWithPriority(cudaStream_t* stream, unsigned int, int) {
  const cudaError_t error = machine().Begin({.name = "cudaStreamCreateWithPriority", .device = current});
  if (error != cudaSuccess) return error;
  *stream = new CUstream_st{current};
  std::lock_guard<std::mutex> lock(machine().mutex());
  ++machine().state(current).streams;
  return cudaSuccess;
}
cudaError_t cudaStreamQuery(cudaStream_t stream) { return Ask("cudaStreamQuery", DeviceOf(stream)); }
cudaError_t cudaStreamSynchronize(cudaStream_t stream) {
  return machine().Begin({.name = "cudaStreamSynchronize", .device = DeviceOf(stream), .stream = stream});
}
cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned int) {
  return machine().Begin({.name = "cudaStreamWaitEvent", .device = DeviceOf(stream), .stream = stream, .event = event});
}
cudaError_t cudaStreamIsCapturing(cudaStream_t, cudaStreamCaptureStatus* status) {
  *status = cudaStreamCaptureStatusNone;
  return cudaSuccess;
}
cudaError_t cudaStreamGetCaptureInfo(cudaStream_t, cudaStreamCaptureStatus* status, unsigned long long*, cudaGraph_t*,
                                     const cudaGraphNode_t**, const cudaGraphEdgeData**, size_t*) {
  *status = cudaStreamCaptureStatusNone;
  return cudaSuccess;
}
cudaError_t cudaThreadExchangeStreamCaptureMode(cudaStreamCaptureMode*) { return cudaSuccess; }
cudaError_t cudaEventCreateWithFlags(cudaEvent_t* event, unsigned int) {
  const cudaError_t error = machine().Begin({.name = "cudaEventCreateWithFlags", .device = current});
  if (error != cudaSuccess) return error;
  *event = new CUevent_st{current};
  std::lock_guard<std::mutex> lock(machine().mutex());
  ++machine().state(current).events;
  return cudaSuccess;
}
cudaError_t cudaEventDestroy(cudaEvent_t event) {
  std::lock_guard<std::mutex> lock(machine().mutex());
  --machine().state(event->device).events;
  delete event;
  return cudaSuccess;
}
cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream) {
  // An event belongs to the device that was current when it was made.
  if (event->device != DeviceOf(stream)) return machine().Remember(cudaErrorInvalidResourceHandle);
  return machine().Begin({.name = "cudaEventRecord", .device = DeviceOf(stream), .stream = stream, .event = event});
}
cudaError_t cudaEventRecordWithFlags(cudaEvent_t event, cudaStream_t stream, unsigned int) {
  return cudaEventRecord(event, stream);
}
cudaError_t cudaEventQuery(cudaEvent_t event) {
  if (machine().events_busy) return cudaErrorNotReady;
  return machine().Begin({.name = "cudaEventQuery", .device = event->device, .event = event});
}
cudaError_t cudaEventSynchronize(cudaEvent_t event) {
  return machine().Begin({.name = "cudaEventSynchronize", .device = event->device, .event = event});
}
cudaError_t cudaEventElapsedTime(float* milliseconds, cudaEvent_t start, cudaEvent_t) {
  *milliseconds = 1;
  return Ask("cudaEventElapsedTime", start->device);
}

// Kernels.
void** __cudaRegisterFatBinary(void*) {
  static void* handle = nullptr;
  return &handle;
}
void __cudaRegisterFatBinaryEnd(void**) {}
void __cudaUnregisterFatBinary(void**) {}
void __cudaRegisterFunction(void**, const char* function, char*, const char* name, int, uint3*, uint3*, dim3*, dim3*,
                            int*) {
  causeway::standin::RegisterKernel(function, name);
}
unsigned __cudaPushCallConfiguration(dim3, dim3, size_t, CUstream_st* stream) {
  causeway::standin::launch_stream = stream;
  return 0;
}
cudaError_t __cudaPopCallConfiguration(dim3* grid, dim3* block, size_t* shared_bytes, void* stream) {
  *grid = *block = dim3();
  *shared_bytes = 0;
  *static_cast<cudaStream_t*>(stream) = causeway::standin::launch_stream;
  return cudaSuccess;
}
cudaError_t __cudaGetKernel(cudaKernel_t* kernel, const void* function) {
  *kernel = static_cast<cudaKernel_t>(const_cast<void*>(function));
  return cudaSuccess;
}
cudaError_t __cudaLaunchKernel(cudaKernel_t kernel, dim3, dim3, void** arguments, size_t, cudaStream_t stream) {
  Call call = {
      .name = causeway::standin::KernelName(kernel), .device = DeviceOf(stream), .stream = stream, .launches = 1};
  if (machine().logging()) {
    call.variant = causeway::standin::KernelVariant(kernel);
    call.touches = causeway::standin::TouchesOf(kernel, arguments);
  }
  return machine().Begin(call);
}

// What the real libraries name and nothing here uses.
#define CAUSEWAY_NOT_SUPPORTED(name, ...) \
  cudaError_t name(__VA_ARGS__) { return machine().Remember(cudaErrorNotSupported); }
CAUSEWAY_NOT_SUPPORTED(cudaDeviceGetDefaultMemPool, cudaMemPool_t*, int)
CAUSEWAY_NOT_SUPPORTED(cudaFreeAsync, void*, cudaStream_t)
CAUSEWAY_NOT_SUPPORTED(cudaMallocAsync, void**, size_t, cudaStream_t)
CAUSEWAY_NOT_SUPPORTED(cudaGraphNodeGetDependencies, cudaGraphNode_t, cudaGraphNode_t*, cudaGraphEdgeData*, size_t*)
CAUSEWAY_NOT_SUPPORTED(cudaIpcCloseMemHandle, void*)
CAUSEWAY_NOT_SUPPORTED(cudaIpcGetMemHandle, cudaIpcMemHandle_t*, void*)
CAUSEWAY_NOT_SUPPORTED(cudaIpcOpenMemHandle, void**, cudaIpcMemHandle_t, unsigned int)
CAUSEWAY_NOT_SUPPORTED(cudaMemPoolGetAttribute, cudaMemPool_t, cudaMemPoolAttr, void*)
CAUSEWAY_NOT_SUPPORTED(cudaMemPoolSetAccess, cudaMemPool_t, const cudaMemAccessDesc*, size_t)
CAUSEWAY_NOT_SUPPORTED(cudaMemPoolSetAttribute, cudaMemPool_t, cudaMemPoolAttr, void*)
CAUSEWAY_NOT_SUPPORTED(cudaMemPoolTrimTo, cudaMemPool_t, size_t)
#undef CAUSEWAY_NOT_SUPPORTED

}  // extern "C"
