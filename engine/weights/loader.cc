#include "engine/weights/loader.h"

#include <algorithm>
#include <map>
#include <memory>
#include <thread>
#include <utility>

#include <ATen/ops/from_blob.h>
#include <c10/core/InferenceMode.h>
#include <c10/util/Exception.h>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/synchronization/mutex.h"
#include "absl/types/span.h"
#include "engine/architecture/registry.h"
#include "engine/base/status.h"
#include "engine/ops/quantize.h"
#include "engine/weights/load_runs.h"
#include "engine/weights/not_finite.h"
#include "engine/weights/row_maxima.h"
#include "engine/weights/scalar_type.h"
#include "engine/weights/stored_rows.h"

namespace causeway {
namespace {

using InputOrders = std::map<const LinearTarget*, at::Tensor>;  // of those that have one

constexpr int64_t kRowStep = 64;    // SetRows may run at once on rows that are multiples of this apart
constexpr int64_t kElementMax = 4;  // bytes of the widest dtype of weights
constexpr int64_t kTaskBytes = int64_t{512} << 10;
// Read and packed at once: from one part of the processor's cache into another, which the kernel has just cleared. More
// would drive that out.
constexpr int64_t kPieceBytes = int64_t{128} << 10;
constexpr int64_t kPieceRows = 16;  // what kernels pack fast is a multiple of it

// Bytes of a step that a linear is read by. Where outputs are columns, few of them are short pieces that lie apart:
// slow to read.
int64_t StepBytes(const LinearTarget& linear, int64_t staging_bytes) {
  const WeightEncoding::Kind kind = linear.spec.encoding.kind;
  const bool by_columns =
      linear.spec.transposed || kind == WeightEncoding::Kind::kGptq || kind == WeightEncoding::Kind::kAwq;
  const int64_t wished = by_columns ? staging_bytes : std::min(staging_bytes, kTaskBytes);
  return std::max(wished, kRowStep * linear.shard.in_count * kElementMax);
}

// Bytes that the first `outputs` outputs of a part take in the checkpoint, of the inputs that the shard holds; biases
// aside.
int64_t WeightBytesUpTo(const Tensors& tensors, const LinearTarget& target, const LinearSpec::Part& part,
                        int64_t outputs) {
  double bytes = 0;
  for (const std::string& name : StoredTensors(target.spec, part)) bytes += static_cast<double>(tensors.at(name).bytes);
  const double share = static_cast<double>(outputs) * target.shard.in_count /
                       (static_cast<double>(part.out_features) * target.spec.in_features);
  return static_cast<int64_t>(bytes * share);
}

// What readers do with the rows that they read.
enum class Reading {
  kMaxima,  // count them in RowMaxima
  kFill,    // set them
};

class Reader {
 public:
  Reader(Reading reading, const Checkpoint& checkpoint, const Tensors& tensors, const InputOrders& orders,
         RowMaxima& maxima, int64_t staging_bytes)
      : reading_(reading),
        checkpoint_(checkpoint),
        tensors_(tensors),
        orders_(orders),
        maxima_(maxima),
        staging_(new char[staging_bytes]),
        staging_bytes_(staging_bytes) {}

  // Adds the bytes read to `bytes`.
  absl::Status Run(const LoadTask& task, int64_t& bytes) {
    return task.linear != nullptr ? ReadLinear(*task.linear, task.first, task.count, bytes)
                                  : ReadVector(*task.vector, bytes);
  }
  // How many values of what was read are NaN or infinite, by tensor.
  const std::map<std::string, int64_t>& not_finite() const { return not_finite_; }

 private:
  // The runs and the parts are two ways to cut the same concatenated outputs; what is read is where both meet `held`.
  absl::Status ReadLinear(const LinearTarget& target, int64_t held_first, int64_t held_count, int64_t& bytes) {
    int64_t held = 0;  // first row of the run, as held
    for (const ShareRange& run : target.shard.outputs) {
      const int64_t begin = std::max(held, held_first), end = std::min(held + run.count, held_first + held_count);
      const int64_t shift = run.first - held;  // from rows as held to concatenated outputs
      int64_t part_first = 0;
      for (const LinearSpec::Part& part : target.spec.parts) {
        const int64_t from = std::max(begin + shift, part_first),
                      to = std::min(end + shift, part_first + part.out_features);
        if (from < to)
          CAUSEWAY_RETURN_IF_ERROR(ReadPart(target, part, from - part_first, to - from, from - shift, bytes));
        part_first += part.out_features;
      }
      held += run.count;
    }
    return absl::OkStatus();
  }

  // Outputs [first, first + count) of a part become rows from `held`.
  absl::Status ReadPart(const LinearTarget& target, const LinearSpec::Part& part, int64_t first, int64_t count,
                        int64_t held, int64_t& bytes) {
    const LinearShard& shard = target.shard;
    if (reading_ == Reading::kMaxima) return ReadPlain(target, part, first, count, held);
    if (target.spec.encoding.kind == WeightEncoding::Kind::kFloat) {
      CAUSEWAY_RETURN_IF_ERROR(ReadPlain(target, part, first, count, held));
    } else {
      const auto order = orders_.find(&target);
      CAUSEWAY_ASSIGN_OR_RETURN(
          const QuantizedRows rows,
          ReadQuantizedRows(checkpoint_, tensors_, target.spec, part, {first, count, shard.in_first, shard.in_count},
                            order == orders_.end() ? at::Tensor() : order->second));
      target.weight->SetQuantizedRows(held, rows);
    }
    bytes += WeightBytesUpTo(tensors_, target, part, first + count) - WeightBytesUpTo(tensors_, target, part, first);
    if (part.bias.empty() || !shard.bias) return absl::OkStatus();
    CAUSEWAY_ASSIGN_OR_RETURN(const at::Tensor bias, Read(part.bias, first, count, bytes));
    target.weight->SetBias(held, bias);
    return absl::OkStatus();
  }

  absl::Status ReadPlain(const LinearTarget& target, const LinearSpec::Part& part, int64_t first, int64_t count,
                         int64_t held) {
    const TensorInfo& tensor = tensors_.at(part.weight);
    CAUSEWAY_ASSIGN_OR_RETURN(const at::ScalarType dtype, ScalarTypeOf(tensor.dtype));
    const LinearShard& shard = target.shard;
    const int64_t row_bytes = shard.in_count * DTypeBytes(tensor.dtype);
    const int64_t piece =
        target.spec.transposed ? count : std::max(kPieceRows, kPieceBytes / row_bytes / kPieceRows * kPieceRows);
    for (int64_t done = 0; done < count; done += piece) {
      const int64_t rows = std::min(piece, count - done);
      Rectangle rectangle{first + done, rows, shard.in_first, shard.in_count};
      if (target.spec.transposed) rectangle = {shard.in_first, shard.in_count, first, count};
      CAUSEWAY_RETURN_IF_ERROR(ReadRectangle(checkpoint_, tensor, rectangle, staging_.get()));
      const at::Tensor read = at::from_blob(staging_.get(), {rectangle.rows, rectangle.columns}, dtype);
      const at::Tensor outputs = target.spec.transposed ? read.t().contiguous() : read;
      if (reading_ == Reading::kMaxima) {
        maxima_.Add(part.weight, first + done, outputs);
        continue;
      }
      Look(part.weight, read);
      try {
        if (RowMaxima::Concern(target)) {
          const at::Tensor largest = maxima_.Of(part.weight, first + done, rows);
          target.weight->SetQuantizedRows(held + done, QuantizeShares(outputs, largest));
        } else {
          target.weight->SetRows(held + done, outputs);
        }
      } catch (const c10::ValueError& error) {  // weights that cannot be quantized
        return absl::InvalidArgumentError(absl::StrCat(part.weight, ": ", error.what_without_backtrace()));
      }
    }
    return absl::OkStatus();
  }

  absl::Status ReadVector(const VectorTarget& target, int64_t& bytes) {
    CAUSEWAY_ASSIGN_OR_RETURN(const at::Tensor values, Read(target.tensor, target.first, target.values.numel(), bytes));
    target.values.copy_(values);
    return absl::OkStatus();
  }

  // Elements of a one-dimensional tensor; in staging until the next read.
  absl::StatusOr<at::Tensor> Read(const std::string& name, int64_t first, int64_t count, int64_t& bytes) {
    const TensorInfo& tensor = tensors_.at(name);
    CAUSEWAY_ASSIGN_OR_RETURN(const at::ScalarType dtype, ScalarTypeOf(tensor.dtype));
    const int64_t element = DTypeBytes(tensor.dtype);
    if (count * element > staging_bytes_) {
      return absl::InternalError(absl::StrCat("tensor ", name, " of ", count * element,
                                              " bytes exceeds the staging buffer of ", staging_bytes_));
    }
    CAUSEWAY_RETURN_IF_ERROR(
        checkpoint_.Read(tensor, first * element, absl::MakeSpan(staging_.get(), count * element)));
    bytes += count * element;
    const at::Tensor read = at::from_blob(staging_.get(), {count}, dtype);
    Look(name, read);
    return read;
  }

  void Look(const std::string& tensor, const at::Tensor& read) {
    if (const int64_t count = CountNotFinite(read); count > 0) not_finite_[tensor] += count;
  }

  const Reading reading_;
  const Checkpoint& checkpoint_;
  const Tensors& tensors_;
  const InputOrders& orders_;
  RowMaxima& maxima_;
  const std::unique_ptr<char[]> staging_;
  const int64_t staging_bytes_;
  std::map<std::string, int64_t> not_finite_;
};

// Every tensor has one target of each rank; a tied embedding may have a second, where the head is on another device.
absl::Status CheckUses(const ModelSpec& spec, const Tensors& tensors, const LoadTargets& targets, bool whole) {
  std::map<std::string, int> uses;
  for (const LinearTarget& linear : targets.linears) {
    for (const LinearSpec::Part& part : linear.spec.parts) {
      for (const std::string& name : StoredTensors(linear.spec, part)) ++uses[name];
      if (!part.bias.empty()) ++uses[part.bias];
    }
  }
  for (const VectorTarget& vector : targets.vectors) ++uses[vector.tensor];
  for (const std::string& name : targets.elsewhere) ++uses[name];
  std::vector<std::string> wrong;
  for (const auto& [name, tensor] : tensors) {
    const int count = uses[name];
    const int most = spec.tied_head && name == spec.embedding_weight ? 2 : 1;
    if (count < (whole ? 1 : 0) || count > most) wrong.push_back(absl::StrCat(name, " is used ", count, " times"));
  }
  for (const auto& [name, count] : uses) {
    if (tensors.count(name) == 0) wrong.push_back(absl::StrCat(name, " is not in the checkpoint"));
  }
  if (wrong.empty()) return absl::OkStatus();
  return absl::InternalError(
      absl::StrCat("the model's parts and the checkpoint's tensors don't match: ", absl::StrJoin(wrong, "; ")));
}

std::vector<LoadTask> MakeTasks(const Tensors& tensors, const LoadTargets& targets, int64_t staging_bytes) {  // wished
  std::vector<LoadTask> tasks;
  auto place = [&tensors](const std::string& name, uint64_t skip) {
    const TensorInfo& tensor = tensors.at(name);
    return std::pair(tensor.file, tensor.offset + skip);
  };
  for (const LinearTarget& linear : targets.linears) {
    if (linear.portion == LinearTarget::kFilled) continue;
    const int64_t rows = linear.shard.out_count();
    // Stored quantized, rows are unpacked to a byte a weight.
    const int64_t element = linear.spec.encoding.kind == WeightEncoding::Kind::kFloat ? kElementMax : 1;
    const int64_t step =
        std::max(kRowStep, StepBytes(linear, staging_bytes) / (linear.shard.in_count * element) / kRowStep * kRowStep);
    // Its parts lie in order, one after the other or apart: good enough for the order of reading.
    const LinearSpec::Part& part = linear.spec.parts.front();
    const std::string tensor = StoredTensors(linear.spec, part).front();
    for (int64_t first = 0; first < rows; first += step) {
      const int64_t count = std::min(step, rows - first);
      tasks.push_back({&linear, nullptr, linear.portion, first, count,
                       place(tensor, WeightBytesUpTo(tensors, linear, part, first)),
                       linear.weight->bytes() * count / rows});
    }
  }
  for (const VectorTarget& vector : targets.vectors)
    tasks.push_back({nullptr, &vector, 0, 0, 0, place(vector.tensor, 0), static_cast<int64_t>(vector.values.nbytes())});
  std::sort(tasks.begin(), tasks.end());
  return tasks;
}

int64_t StagingBytes(const LoadTargets& targets, int64_t wished) {
  int64_t bytes = 1;
  for (const LinearTarget& linear : targets.linears) bytes = std::max(bytes, StepBytes(linear, wished));
  for (const VectorTarget& vector : targets.vectors) bytes = std::max(bytes, vector.values.numel() * kElementMax);
  return bytes;
}

int64_t BytesToRead(const Tensors& tensors, const LoadTargets& targets) {
  int64_t total = 0;
  for (const LinearTarget& linear : targets.linears) {
    if (linear.portion == LinearTarget::kFilled) continue;
    const LinearSpec& spec = linear.spec;
    for (const LinearSpec::Part& part : spec.parts) {
      // A shard's share, exact where parts are cut evenly.
      const double share = static_cast<double>(linear.shard.out_count()) / spec.out_features();
      total += static_cast<int64_t>(WeightBytesUpTo(tensors, linear, part, part.out_features) * share);
      if (!part.bias.empty() && linear.shard.bias)
        total += tensors.at(part.bias).bytes * linear.shard.out_count() / spec.out_features();
    }
  }
  for (const VectorTarget& vector : targets.vectors)
    total += vector.values.numel() * DTypeBytes(tensors.at(vector.tensor).dtype);
  return total;
}

absl::Status WithoutExceptions(const std::function<absl::Status()>& load) {
  try {
    return load();
  } catch (const c10::Error& error) {
    return absl::InternalError(absl::StrCat("loading weights: ", error.what_without_backtrace()));
  } catch (const std::exception& error) {
    return absl::InternalError(absl::StrCat("loading weights: ", error.what()));
  }
}

// Reads the orders of inputs, and tells the weights of a portion: before their rows, which are put in that order.
absl::Status ReadInputOrders(const Checkpoint& checkpoint, const Tensors& tensors, const LoadTargets& targets,
                             int portion, InputOrders& orders) {
  for (const LinearTarget& linear : targets.linears) {
    if (linear.portion != portion) continue;
    CAUSEWAY_ASSIGN_OR_RETURN(const at::Tensor order, ReadInputOrder(checkpoint, tensors, linear.spec));
    if (!order.defined()) continue;
    linear.weight->SetInputOrder(order);
    orders[&linear] = order;
  }
  return absl::OkStatus();
}

}  // namespace

absl::Status LoadWeights(const ModelSpec& spec, const Checkpoint& checkpoint, absl::Span<const LoadTargets> ranks,
                         const LoadOptions& options) {
  CAUSEWAY_ASSIGN_OR_RETURN(const Tensors tensors, MatchTensors(spec, checkpoint));
  LoadTargets targets;
  for (const LoadTargets& rank : ranks) {
    CAUSEWAY_RETURN_IF_ERROR(CheckUses(spec, tensors, rank, options.whole));
    targets.linears.insert(targets.linears.end(), rank.linears.begin(), rank.linears.end());
    targets.vectors.insert(targets.vectors.end(), rank.vectors.begin(), rank.vectors.end());
  }
  CAUSEWAY_RETURN_IF_ERROR(CheckContents(spec, checkpoint));
  const int64_t staging_bytes = StagingBytes(targets, options.staging_bytes);
  const std::vector<LoadTask> tasks = MakeTasks(tensors, targets, options.staging_bytes);
  const int64_t bytes_total = BytesToRead(tensors, targets);
  InputOrders orders;  // of the portion
  RowMaxima maxima;

  absl::Mutex mutex;
  absl::Status status;  // the first error; guarded by mutex, as is bytes_done
  int64_t bytes_done = 0;
  ReadAhead ahead(checkpoint);  // guarded by mutex, as is the next
  bool waits_for_disk = false;
  auto read = [&](LoadRuns& runs, Reading reading) {
    c10::InferenceMode inference;
    const absl::Status entered = WithoutExceptions([&options] {
      if (options.enter_thread) options.enter_thread();
      return absl::OkStatus();
    });
    {
      absl::MutexLock lock(&mutex);
      status.Update(entered);
      if (!status.ok()) return runs.Drop();
    }
    Reader reader(reading, checkpoint, tensors, orders, maxima, staging_bytes);
    for (absl::Span<const LoadTask> run = runs.Next(); !run.empty(); run = runs.Next()) {
      for (const LoadTask& task : run) {
        {
          absl::MutexLock lock(&mutex);
          if (options.proceed) status.Update(options.proceed());
          if (!status.ok()) return runs.Drop();
          if (ahead.Reached(task.place) && std::exchange(waits_for_disk, true) == false && options.from_disk)
            options.from_disk();
        }
        int64_t bytes = 0;
        const absl::Status result = WithoutExceptions([&] { return reader.Run(task, bytes); });
        absl::MutexLock lock(&mutex);
        status.Update(result);
        if (!status.ok()) return runs.Drop();
        bytes_done += bytes;
        if (options.progress) options.progress(bytes_done, bytes_total);
      }
    }
    if (!options.not_finite) return;
    absl::MutexLock lock(&mutex);
    for (const auto& [tensor, count] : reader.not_finite()) options.not_finite(tensor, count);
  };
  const auto read_all = [&](absl::Span<const LoadTask> of, Reading reading) {
    const int count = std::clamp<int>(options.readers, 1, static_cast<int>(of.size()));
    LoadRuns runs(of, count);
    std::vector<std::thread> readers;
    for (int i = 0; i < count; ++i) readers.emplace_back([&] { read(runs, reading); });
    for (std::thread& reader : readers) reader.join();
    return status;
  };
  const LoadTargets shares = RowMaxima::Shares(targets);
  if (!shares.linears.empty()) {
    CAUSEWAY_RETURN_IF_ERROR(read_all(MakeTasks(tensors, shares, options.staging_bytes), Reading::kMaxima));
  }
  for (size_t first = 0; first < tasks.size();) {
    const int portion = tasks[first].portion;
    size_t end = first;
    while (end < tasks.size() && tasks[end].portion == portion) ++end;
    if (portion != 0 && options.begin_portion) CAUSEWAY_RETURN_IF_ERROR(options.begin_portion(portion));
    orders.clear();
    CAUSEWAY_RETURN_IF_ERROR(
        WithoutExceptions([&] { return ReadInputOrders(checkpoint, tensors, targets, portion, orders); }));
    CAUSEWAY_RETURN_IF_ERROR(read_all(absl::MakeConstSpan(tasks).subspan(first, end - first), Reading::kFill));
    if (portion != 0 && options.end_portion) CAUSEWAY_RETURN_IF_ERROR(options.end_portion(portion));
    first = end;
  }
  return absl::OkStatus();
}

}  // namespace causeway
