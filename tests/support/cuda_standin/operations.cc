// torch's operations on CUDA tensors, in the place of libtorch_cuda.so: memory comes from the real caching allocator,
// and the CPU computes, at once.
//
// What they count as on a GPU. An operation that reaches the device starts one kernel: an elementwise operation, a
// reduction, an index, a copy that changes type or layout, a product of cuBLAS. Sorting starts three, as torch does for
// up to 4,096 elements a row (indices, a copy, the sort), and more beyond. A view starts none. Operations that are made
// of others count as these.
#include <algorithm>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include <ATen/EmptyTensor.h>
#include <ATen/core/boxing/KernelFunction.h>
#include <ATen/core/dispatch/Dispatcher.h>
#include <ATen/core/stack.h>
#include <ATen/ops/_reshape_alias_native.h>
#include <ATen/ops/as_strided_native.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/from_blob.h>
#include <ATen/ops/unfold_native.h>
#include <ATen/ops/view_native.h>
#include <c10/core/DeviceGuard.h>
#include <c10/cuda/CUDACachingAllocator.h>
#include <c10/cuda/CUDAException.h>
#include <c10/cuda/CUDAFunctions.h>
#include <c10/cuda/CUDAGuard.h>
#include <c10/cuda/CUDAStream.h>
#include <c10/cuda/PeerToPeerAccess.h>
#include <torch/library.h>

#include "tests/support/cuda_standin/machine.h"

// No header of c10 declares it.
namespace c10::cuda::_internal {
void setHasPrimaryContext(bool (*function)(DeviceIndex));
}

namespace causeway::standin {
namespace {

constexpr c10::DispatchKeySet kCuda(c10::DispatchKey::CUDA), kCpu(c10::DispatchKey::CPU);

// "(Float, Long)": of the tensors that an operation is given, neighbours of one type named once.
std::string Types(std::vector<at::ScalarType> types) {
  types.erase(std::unique(types.begin(), types.end()), types.end());
  std::string text;
  for (const at::ScalarType type : types) text += (text.empty() ? "(" : ", ") + std::string(at::toString(type));
  return text.empty() ? text : text + ")";
}

// On the thread's current stream.
void Launch(const std::string& name, const std::vector<at::ScalarType>& types, std::vector<Touch> touches) {
  const c10::cuda::CUDAStream stream = c10::cuda::getCurrentCUDAStream();
  C10_CUDA_CHECK(Machine::Get().Begin({.name = name,
                                       .variant = Types(types),
                                       .device = stream.device_index(),
                                       .stream = stream.stream(),
                                       .launches = name == "aten::sort" ? 3 : 1,
                                       .touches = std::move(touches)}));
}
// What an operation has written anew.
void Wrote(const std::string& name, std::vector<Touch> touches) {
  const c10::cuda::CUDAStream stream = c10::cuda::getCurrentCUDAStream();
  if (touches.empty()) return;
  C10_CUDA_CHECK(Machine::Get().Begin(
      {.name = name, .device = stream.device_index(), .stream = stream.stream(), .touches = std::move(touches)}));
}

// From the first of its numbers to the last.
void AddTouch(std::vector<Touch>& touches, const at::Tensor& tensor, bool writes) {
  if (!tensor.defined() || tensor.numel() == 0) return;
  int64_t last = 0;
  for (int64_t d = 0; d < tensor.dim(); ++d) last += (tensor.size(d) - 1) * tensor.stride(d);
  touches.push_back({tensor.const_data_ptr(), (last + 1) * static_cast<int64_t>(tensor.element_size()), writes});
}

// The same memory as a CPU tensor.
at::Tensor OnHost(const at::Tensor& tensor) {
  if (!tensor.defined() || !tensor.is_cuda()) return tensor;
  return at::from_blob(tensor.data_ptr(), tensor.sizes(), tensor.strides(),
                       at::TensorOptions().dtype(tensor.scalar_type()));
}

at::Tensor Empty(at::IntArrayRef size, std::optional<at::ScalarType> type, std::optional<at::Layout>,
                 std::optional<at::Device> device, std::optional<bool>, std::optional<at::MemoryFormat> format) {
  static const bool ready = [] {
    c10::cuda::detail::init_p2p_access_cache(c10::cuda::device_count());
    return true;
  }();
  (void)ready;
  const c10::OptionalDeviceGuard guard(device);
  return at::detail::empty_generic(size, c10::cuda::CUDACachingAllocator::get(), kCuda, type.value_or(at::kFloat),
                                   format);
}
at::Tensor EmptyStrided(at::IntArrayRef size, at::IntArrayRef stride, std::optional<at::ScalarType> type,
                        std::optional<at::Layout>, std::optional<at::Device> device, std::optional<bool>) {
  const c10::OptionalDeviceGuard guard(device);
  return at::detail::empty_strided_generic(size, stride, c10::cuda::CUDACachingAllocator::get(), kCuda,
                                           type.value_or(at::kFloat));
}

at::Tensor& Zero(at::Tensor& self) {
  if (!self.is_contiguous()) {
    std::vector<Touch> touches;
    AddTouch(touches, self, true);
    Launch("aten::zero_", {self.scalar_type()}, std::move(touches));
    OnHost(self).zero_();
    return self;
  }
  const c10::cuda::CUDAGuard guard(self.device());
  C10_CUDA_CHECK(cudaMemsetAsync(self.data_ptr(), 0, self.nbytes(), c10::cuda::getCurrentCUDAStream().stream()));
  return self;
}

// Whether bytes are copied as they lie.
bool AsTheyLie(const at::Tensor& self, const at::Tensor& from) {
  const bool same = self.sizes() == from.sizes() && self.strides() == from.strides();
  return self.scalar_type() == from.scalar_type() &&
         ((self.is_contiguous() && from.is_contiguous()) || (same && self.is_non_overlapping_and_dense()));
}

// As torch orders it: a copy between devices runs on the source's stream, and the two streams wait for each other. A
// copy within a device that changes type or layout is a kernel, as it is beside a copy from or to the host.
at::Tensor& CopyTo(at::Tensor& self, const at::Tensor& from, bool non_blocking) {
  if (self.numel() == 0) return self;
  const at::Device device = from.is_cuda() ? from.device() : self.device();
  const c10::cuda::CUDAGuard guard(device);
  const cudaStream_t stream = c10::cuda::getCurrentCUDAStream().stream();
  const bool between = from.is_cuda() && self.is_cuda() && from.device() != self.device();
  const auto order = [](const at::Device& first, const at::Device& second) {
    const c10::cuda::CUDAGuard there(first);
    cudaEvent_t event = nullptr;
    C10_CUDA_CHECK(cudaEventCreateWithFlags(&event, cudaEventDisableTiming));
    C10_CUDA_CHECK(cudaEventRecord(event, c10::cuda::getCurrentCUDAStream().stream()));
    C10_CUDA_CHECK(cudaStreamWaitEvent(c10::cuda::getCurrentCUDAStream(second.index()).stream(), event, 0));
    C10_CUDA_CHECK(cudaEventDestroy(event));
  };
  if (between) order(self.device(), from.device());
  const bool within = self.is_cuda() && from.is_cuda() && !between, as_they_lie = AsTheyLie(self, from);
  std::vector<Touch> touches;
  AddTouch(touches, from, false);
  AddTouch(touches, self, true);
  touches = Machine::Get().Known(std::move(touches));
  // What comes from the host is converted there.
  if (from.is_cuda() ? !as_they_lie : !self.is_contiguous())
    Launch("aten::copy_", {from.scalar_type(), self.scalar_type()}, touches);
  if (!within || as_they_lie) {
    C10_CUDA_CHECK(Machine::Get().Begin({.name = between ? "cudaMemcpyPeerAsync" : "cudaMemcpyAsync",
                                         .device = device.index(),
                                         .stream = stream,
                                         .bytes = static_cast<int64_t>(self.nbytes()),
                                         .copied = between          ? Copied::kBetween
                                                   : within         ? Copied::kWithin
                                                   : self.is_cuda() ? Copied::kToDevice
                                                                    : Copied::kToHost,
                                         .touches = touches}));
  }
  OnHost(self).copy_(OnHost(from));
  if (between) order(from.device(), self.device());
  if (!non_blocking && !(self.is_cuda() && from.is_cuda())) C10_CUDA_CHECK(cudaStreamSynchronize(stream));
  return self;
}

// Everything else: the CPU's kernel on the same memory. What it returns anew is moved to the device.
void OnCpu(const c10::OperatorHandle& op, c10::DispatchKeySet, torch::jit::Stack* stack) {
  const c10::FunctionSchema& schema = op.schema();
  const size_t arguments = schema.arguments().size(), first = stack->size() - arguments;
  const std::vector<c10::IValue> given(stack->begin() + static_cast<int64_t>(first), stack->end());
  std::optional<at::Device> device;
  // An empty result may be resized, which memory of others cannot be.
  std::vector<std::pair<at::Tensor, at::Tensor>> resized;  // ours and the CPU's
  // Results may be references to arguments, which the call drops before it returns them.
  std::vector<at::Tensor> kept;
  std::vector<Touch> touches, written;
  std::vector<at::ScalarType> types;
  bool writes = false;  // the argument
  const auto host = [&](const at::Tensor& tensor) {
    if (tensor.defined()) types.push_back(tensor.scalar_type());
    if (tensor.defined() && tensor.is_cuda()) AddTouch(touches, tensor, writes);
    if (tensor.defined() && tensor.is_cuda() && tensor.numel() == 0) {
      resized.emplace_back(tensor, at::empty(tensor.sizes(), tensor.options().device(at::kCPU)));
      return resized.back().second;
    }
    if (tensor.defined() && tensor.is_cuda() && (!device || tensor.dim() > 0)) device = tensor.device();
    return kept.emplace_back(OnHost(tensor));
  };
  for (size_t i = first; i < stack->size(); ++i) {
    c10::IValue& value = (*stack)[i];
    const c10::AliasInfo* changed = schema.arguments()[i - first].alias_info();
    writes = changed != nullptr && changed->isWrite();
    if (value.isTensor()) {
      value = host(value.toTensor());
    } else if (value.isTensorList()) {
      c10::List<at::Tensor> list;
      for (const at::Tensor& tensor : value.toTensorVector()) list.push_back(host(tensor));
      value = std::move(list);
    } else if (value.isOptionalTensorList()) {
      c10::List<std::optional<at::Tensor>> list;
      for (const std::optional<at::Tensor>& tensor : value.toOptionalTensorVector())
        list.push_back(tensor.has_value() ? std::optional(host(*tensor)) : std::nullopt);
      value = std::move(list);
    } else if (value.isDevice()) {
      device = value.toDevice();
      value = at::Device(at::kCPU);
    }
  }
  const c10::cuda::OptionalCUDAGuard guard(device);
  Launch(schema.name(), types, std::move(touches));
  op.redispatchBoxed(kCpu, stack);
  for (const auto& [ours, theirs] : resized) {
    if (theirs.numel() == 0) continue;
    const at::Tensor moved = at::empty_like(theirs, ours.options());
    OnHost(moved).copy_(theirs);
    ours.unsafeGetTensorImpl()->set_storage_keep_dtype(moved.storage());
    ours.unsafeGetTensorImpl()->set_sizes_and_strides(moved.sizes(), moved.strides());
    AddTouch(written, moved, true);
  }
  for (size_t r = 0; r < schema.returns().size(); ++r) {
    c10::IValue& value = (*stack)[stack->size() - schema.returns().size() + r];
    if (!value.isTensor() || !value.toTensor().defined()) {
      TORCH_CHECK(!value.isTensorList(), schema.name(), " returns a list, which the stand-in does not move");
      continue;
    }
    const c10::AliasInfo* alias = schema.returns()[r].alias_info();
    if (alias == nullptr) {
      const at::Tensor result = value.toTensor();
      at::Tensor moved = at::empty_like(result, result.options().device(device.value()));
      OnHost(moved).copy_(result);
      AddTouch(written, moved, true);
      value = std::move(moved);
      continue;
    }
    TORCH_CHECK(alias->isWrite(), schema.name(), " makes a view, and has to be registered with the stand-in");
    for (size_t i = 0; i < arguments; ++i) {
      const c10::AliasInfo* argument = schema.arguments()[i].alias_info();
      if (argument != nullptr && *argument == *alias) value = given[i];
    }
  }
  Wrote(schema.name(), std::move(written));
}

// As libtorch_cuda.so does when it is loaded.
[[maybe_unused]] const bool answers = [] {
  c10::cuda::_internal::setHasPrimaryContext([](c10::DeviceIndex device) { return StateOf(device).has_context; });
  return true;
}();

TORCH_LIBRARY_IMPL(_, CUDA, library) { library.fallback(torch::CppFunction::makeFromBoxedFunction<&OnCpu>()); }
TORCH_LIBRARY_IMPL(aten, CUDA, library) {
  library.impl("empty.memory_format", TORCH_FN(Empty));
  library.impl("empty_strided", TORCH_FN(EmptyStrided));
  library.impl("copy_", TORCH_FN(CopyTo));
  library.impl("zero_", TORCH_FN(Zero));
  library.impl("as_strided", TORCH_FN(at::native::as_strided_tensorimpl));
  library.impl("view", TORCH_FN(at::native::view));
  library.impl("_reshape_alias", TORCH_FN(at::native::_reshape_alias));
  library.impl("unfold", TORCH_FN(at::native::unfold));
}

}  // namespace
}  // namespace causeway::standin
