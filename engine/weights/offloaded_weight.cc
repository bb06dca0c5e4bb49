#include "engine/weights/offloaded_weight.h"

#include <algorithm>
#include <chrono>
#include <limits>

#include <ATen/ops/zeros.h>

#include "engine/weights/direct_file.h"

namespace causeway {
namespace {

constexpr int64_t kTensorAlignment = 64;
constexpr int kRounds = 3;

int64_t RoundUp(int64_t n, int64_t to) { return (n + to - 1) / to * to; }
int64_t Room(const at::Tensor& tensor) { return RoundUp(static_cast<int64_t>(tensor.nbytes()), kTensorAlignment); }

}  // namespace

int64_t PackedBytes(const std::vector<at::Tensor>& tensors) {
  int64_t bytes = 0;
  for (const at::Tensor& tensor : tensors) bytes += Room(tensor);
  return RoundUp(bytes, DirectFile::kAlignment);
}

void PointAt(const std::vector<at::Tensor>& tensors, char* memory) {
  int64_t offset = 0;
  for (const at::Tensor& tensor : tensors) {
    char* at = memory == nullptr ? nullptr : memory + offset;
    tensor.storage().unsafeGetStorageImpl()->set_data_ptr_noswap(c10::DataPtr(at, tensor.device()));
    offset += Room(tensor);
  }
}

std::vector<StoredPiece> StoredPieces(const std::vector<std::vector<FileExtent>>& extents,
                                      const std::vector<at::Tensor>& tensors) {
  std::vector<StoredPiece> pieces;
  int64_t begin = 0;
  for (size_t i = 0; i < extents.size(); ++i) {
    int64_t to = begin;
    for (const FileExtent& extent : extents[i]) {
      pieces.push_back({extent, to});
      to += extent.bytes;
    }
    begin += Room(tensors[i]);
  }
  return pieces;
}

int64_t MeasureCpuRows(DeviceRuntime& runtime, at::ScalarType dtype, const std::vector<CpuTrial>& trials, char* staging,
                       int64_t room) {
  using Clock = std::chrono::steady_clock;
  const int64_t in = trials[0].weight->in_features(),
                row_bytes = (in + trials[0].weight->out_features()) * static_cast<int64_t>(at::elementSize(dtype));
  size_t next = 0;
  int64_t faster = 0;
  for (int64_t rows = 1; faster == rows / 2 && (rows == 1 || rows * row_bytes <= room); rows *= 2) {
    const at::Tensor x = runtime.Upload(at::zeros({rows, in}, dtype));
    double brought = std::numeric_limits<double>::max(), on_cpu = brought;
    for (int round = 0; round < kRounds; ++round) {
      const CpuTrial& trial = trials[next++ % trials.size()];
      const std::vector<at::Tensor> tensors = trial.weight->Tensors();
      const int64_t bytes = PackedBytes(tensors);
      runtime.Synchronize();
      const Clock::time_point begin = Clock::now();
      trial.on_cpu->Forward(x);
      runtime.Synchronize();
      const Clock::time_point middle = Clock::now();
      runtime.CopyFromHost(staging, trial.host, bytes);
      PointAt(tensors, staging);
      trial.weight->Forward(x);
      runtime.Synchronize();
      on_cpu = std::min(on_cpu, std::chrono::duration<double>(middle - begin).count());
      brought = std::min(brought, std::chrono::duration<double>(Clock::now() - middle).count());
      PointAt(tensors, trial.on_cpu == trial.weight ? trial.host : nullptr);
    }
    if (on_cpu >= brought) break;
    faster = rows;
    // A device that computes from CPU memory itself saves the same copy at any number of rows.
    if (runtime.in_host_memory()) return std::numeric_limits<int64_t>::max();
  }
  return faster;
}

}  // namespace causeway
