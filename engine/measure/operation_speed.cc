#include "engine/measure/operation_speed.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstring>
#include <fstream>
#include <functional>
#include <memory>
#include <new>
#include <thread>
#include <utility>

#include <ATen/ops/arange.h>
#include <ATen/ops/full.h>
#include <ATen/ops/randn.h>
#include <ATen/ops/tensor.h>
#include <c10/core/InferenceMode.h>

#include "absl/strings/str_cat.h"
#include "engine/base/status.h"
#include "engine/device/device_runtime.h"

namespace causeway {
namespace {

constexpr int64_t kMemoryBytes = int64_t{256} << 20;  // of weights that take turns, so that each comes from memory
constexpr double kPointSeconds = 0.1;
constexpr int kRoundsMin = 5, kRoundsMax = 400;
constexpr int64_t kHeads = 32, kKvHeads = 8, kHeadDim = 64;
constexpr int64_t kElementRows = 256, kElementWidth = 1024;
constexpr int64_t kCopyBytes = int64_t{64} << 20;

struct Shape {
  int64_t out, in;
};
constexpr Shape kShapes[] = {{4096, 2048}, {2048, 5632}};  // a projection, and the way down from an MLP
constexpr Shape kCachedShapes[] = {{1024, 256}, {256, 1024}};
constexpr int64_t kRows[] = {1, 2, 4, 8, 16, 32, 64, 128, 512};

struct AttentionShape {
  int64_t sequences, rows, context;
};
constexpr AttentionShape kAttention[] = {{1, 1, 512},   {1, 1, 4096},  {8, 1, 512},   {16, 1, 2048},
                                         {1, 128, 128}, {8, 128, 128}, {1, 512, 512}, {1, 512, 2048}};

// The size of the largest cache that the first processor shares with others, as the kernel says; 0 where it does not
// say.
int64_t CacheBytes() {
  for (const char* level : {"3", "2"}) {
    std::ifstream file(absl::StrCat("/sys/devices/system/cpu/cpu0/cache/index", level, "/size"));
    int64_t kibibytes = 0;
    if (file >> kibibytes && file.get() == 'K') return kibibytes << 10;
  }
  return 0;
}

class Measurer {
 public:
  Measurer(DeviceRuntime& runtime, DType dtype, const WeightFormat& format)
      : runtime_(runtime),
        ops_(runtime.MakeOps()),
        format_(format),
        dtype_(dtype == DType::kF32   ? at::kFloat
               : dtype == DType::kF16 ? at::kHalf
                                      : at::kBFloat16),
        activations_(ops_->Activations(dtype_)) {}

  OperationTimes Run() {
    OperationTimes times;
    for (const Shape& shape : kShapes) {
      const Weights weights = MakeWeights(shape, kMemoryBytes);
      for (const int64_t rows : kRows) times.linears.push_back(TimeLinear(weights, shape, rows));
    }
    const int64_t cache = runtime_.in_host_memory() ? CacheBytes() : 0;
    if (cache >= (4 << 20)) {
      times.cache_bytes = cache / 2;
      for (const Shape& shape : kCachedShapes) {
        const Weights weights = MakeWeights(shape, cache / 4);
        for (const int64_t rows : kRows) times.cached.push_back(TimeLinear(weights, shape, rows));
      }
    }
    for (const AttentionShape& shape : kAttention) times.attention.push_back(TimeAttention(shape));
    times.rows = {TimeNorm(), TimeActivation()};
    return times;
  }

 private:
  using Weights = std::vector<std::unique_ptr<LinearWeight>>;

  double MedianSeconds(const std::function<void()>& work) {
    std::vector<double> all;
    double sum = 0;
    work();  // the first run chooses kernels and makes buffers
    runtime_.Synchronize();
    for (int round = 0; round < kRoundsMax && (round < kRoundsMin || sum < kPointSeconds); ++round) {
      const auto start = std::chrono::steady_clock::now();
      work();
      runtime_.Synchronize();
      const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
      all.push_back(seconds);
      sum += seconds;
    }
    std::nth_element(all.begin(), all.begin() + static_cast<ptrdiff_t>(all.size() / 2), all.end());
    return all[all.size() / 2];
  }

  Weights MakeWeights(const Shape& shape, int64_t bytes) {
    MemoryScope scope(runtime_, MemoryOwner::kWeights);
    const at::Tensor rows =
        at::randn({shape.out, shape.in}, at::kFloat).mul_(1 / std::sqrt(static_cast<double>(shape.in)));
    Weights weights;
    for (int64_t made = 0; made < bytes; made += weights.back()->bytes()) {
      weights.push_back(ops_->NewLinear(shape.out, shape.in, false, dtype_, runtime_.device(), format_));
      Fill(*weights.back(), shape, rows);
    }
    return weights;
  }

  void Fill(LinearWeight& weight, const Shape& shape, const at::Tensor& rows) {
    if (format_.kind != WeightKind::kFp8 && !format_.zero_points) return weight.SetRows(0, rows);
    // No float weight is turned into this format while it is loaded, so the values don't matter.
    const int64_t groups = format_.groups(shape.in);
    QuantizedRows quantized;
    quantized.values = at::full({shape.out, shape.in}, 5, at::kByte);
    quantized.scales = at::full({shape.out, groups}, 0.125, at::kFloat);
    if (format_.zero_points) quantized.zeros = at::full({shape.out, groups}, 7, at::kByte);
    weight.SetQuantizedRows(0, quantized);
  }

  at::Tensor Random(at::IntArrayRef sizes, at::ScalarType dtype) {
    return at::randn(sizes, at::kFloat).to(dtype).to(runtime_.device());
  }

  WorkTime TimeLinear(const Weights& weights, const Shape& shape, int64_t rows) {
    const at::Tensor x = Random({rows, shape.in}, activations_);
    size_t next = 0;
    const double seconds = MedianSeconds([&] {
      weights[next]->Forward(x);
      next = (next + 1) % weights.size();
    });
    return {static_cast<double>(weights[0]->bytes()), 2.0 * static_cast<double>(rows * shape.out * shape.in), seconds};
  }

  // Sequences of equal length, whose blocks follow one another.
  AttentionBatch MakeBatch(const AttentionShape& shape) {
    const int64_t blocks = BlocksFor(shape.context);
    std::vector<int64_t> positions, slots;
    for (int64_t s = 0; s < shape.sequences; ++s) {
      for (int64_t position = shape.context - shape.rows; position < shape.context; ++position) {
        positions.push_back(position);
        slots.push_back(s * blocks * kBlockTokens + position);
      }
    }
    AttentionBatch batch;
    batch.positions = at::tensor(positions, at::kLong).to(runtime_.device());
    batch.slots = at::tensor(slots, at::kLong).to(runtime_.device());
    batch.block_tables =
        at::arange(shape.sequences * blocks, at::kInt).reshape({shape.sequences, blocks}).to(runtime_.device());
    for (int64_t s = 0; s <= shape.sequences; ++s)
      batch.query_start_host.push_back(static_cast<int32_t>(s * shape.rows));
    batch.context_lens_host.assign(static_cast<size_t>(shape.sequences), static_cast<int32_t>(shape.context));
    batch.context_max = shape.context;
    batch.query_start = at::tensor(batch.query_start_host, at::kInt).to(runtime_.device());
    batch.context_lens = at::tensor(batch.context_lens_host, at::kInt).to(runtime_.device());
    return batch;
  }

  WorkTime TimeAttention(const AttentionShape& shape) {
    MemoryScope scope(runtime_, MemoryOwner::kKvCache);
    const AttentionBatch batch = MakeBatch(shape);
    const int64_t blocks = shape.sequences * batch.block_tables.size(1);
    const double layer_bytes =
        static_cast<double>(2 * blocks * kBlockTokens * kKvHeads * kHeadDim * c10::elementSize(dtype_));
    std::vector<KvLayer> layers(static_cast<size_t>(std::clamp(64e6 / layer_bytes, 1.0, 64.0)));
    for (KvLayer& layer : layers) {
      layer.keys = Random({blocks, kKvHeads, kBlockTokens, kHeadDim}, dtype_);
      layer.values = Random({blocks, kKvHeads, kBlockTokens, kHeadDim}, dtype_);
    }
    const at::Tensor qkv = Random({shape.sequences * shape.rows, (kHeads + 2 * kKvHeads) * kHeadDim}, activations_);
    size_t next = 0;
    const double seconds = MedianSeconds([&] {
      ops_->PagedAttention(qkv, kHeads, kKvHeads, kHeadDim, 1 / std::sqrt(static_cast<double>(kHeadDim)), 0, batch,
                           layers[next]);
      next = (next + 1) % layers.size();
    });
    // Counts the pairs of a query and a key that the causal mask leaves.
    const double rows = static_cast<double>(shape.rows), context = static_cast<double>(shape.context);
    const double pairs = static_cast<double>(shape.sequences) * rows * (context - (rows - 1) / 2);
    return {layer_bytes, 4 * pairs * static_cast<double>(kHeads * kHeadDim), seconds};
  }

  // It reads a row and its residual, and writes both.
  WorkTime TimeNorm() {
    const at::Tensor x = Random({kElementRows, kElementWidth}, activations_),
                     residual = Random({kElementRows, kElementWidth}, activations_),
                     weight = Random({kElementWidth}, dtype_);
    const double seconds = MedianSeconds([&] { ops_->RmsNorm(x, residual, weight, 1e-5); });
    return {4.0 * static_cast<double>(x.nbytes()), 0, seconds};
  }
  // It reads the outputs of a gate and of up, and writes as many as one of them has.
  WorkTime TimeActivation() {
    const at::Tensor x = Random({kElementRows, 2 * kElementWidth}, activations_);
    const double seconds = MedianSeconds([&] { ops_->Activate(x, Activation::kSilu, /*gated=*/true); });
    return {1.5 * static_cast<double>(x.nbytes()), 0, seconds};
  }

  DeviceRuntime& runtime_;
  const std::unique_ptr<Ops> ops_;
  const WeightFormat format_;
  const at::ScalarType dtype_, activations_;
};

}  // namespace

absl::StatusOr<OperationTimes> MeasureOperations(const Device& device, DType dtype, const WeightFormat& format,
                                                 int threads, bool reference_ops) {
  CAUSEWAY_ASSIGN_OR_RETURN(const std::unique_ptr<DeviceRuntime> runtime,
                            MakeDeviceRuntime({.device = device, .budget = device.available_bytes}, reference_ops));
  OperationTimes times;
  absl::Status status;
  std::thread([&] {  // a thread of its own, since EnterThread cannot be undone
    status = CatchTorch(device.name, [&] {
      c10::InferenceMode guard;
      runtime->EnterThread(threads);
      MemoryScope scope(*runtime, MemoryOwner::kActivations);
      times = Measurer(*runtime, dtype, format).Run();
      return absl::OkStatus();
    });
  })
      .join();
  CAUSEWAY_RETURN_IF_ERROR(status);
  return times;
}

double MeasureCopyBandwidth() {
  std::unique_ptr<char[]> from(new (std::nothrow) char[kCopyBytes]), to(new (std::nothrow) char[kCopyBytes]);
  if (from == nullptr || to == nullptr) return 0;
  std::memset(from.get(), 1, kCopyBytes);
  std::memset(to.get(), 2, kCopyBytes);
  double best = 0;
  volatile char sink = 0;
  for (int round = 0; round < 5; ++round) {
    const auto start = std::chrono::steady_clock::now();
    std::memcpy(to.get(), from.get(), kCopyBytes);
    best = std::max(best, static_cast<double>(kCopyBytes) /
                              std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count());
    sink = sink + to[static_cast<size_t>(round)];
  }
  return best;
}

}  // namespace causeway
