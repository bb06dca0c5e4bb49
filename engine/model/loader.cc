#include "engine/model/loader.h"

#include <algorithm>
#include <atomic>
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
#include "engine/architecture/registry.h"
#include "engine/base/status.h"

namespace causeway {
namespace {

using Tensors = std::map<std::string, TensorInfo>;

constexpr int64_t kRowStep = 64;  // SetRows may run at once on rows that are multiples of this apart
constexpr int64_t kElementMax = 4;  // bytes of the widest dtype of weights

// One read: rows [first, first + count) of a linear as held, or (linear null) a vector.
struct Task {
  const LinearTarget* linear = nullptr;
  const VectorTarget* vector = nullptr;
  int64_t first = 0, count = 0;
  std::pair<int, uint64_t> place;  // file and offset: read in this order
};

// Reads a rectangle of a [rows, columns] tensor into `staging` as a [row_count, column_count] matrix.
absl::Status ReadRectangle(const Checkpoint& checkpoint, const TensorInfo& tensor, int64_t columns, int64_t row, int64_t row_count,
                           int64_t column, int64_t column_count, char* staging) {
  const int64_t element = DTypeBytes(tensor.dtype);
  if (column_count == columns) {
    return checkpoint.Read(tensor, row * columns * element, absl::MakeSpan(staging, row_count * columns * element));
  }
  for (int64_t r = 0; r < row_count; ++r) {
    const uint64_t offset = ((row + r) * columns + column) * element;
    CAUSEWAY_RETURN_IF_ERROR(
        checkpoint.Read(tensor, offset, absl::MakeSpan(staging + r * column_count * element, column_count * element)));
  }
  return absl::OkStatus();
}

class Reader {
 public:
  Reader(const Checkpoint& checkpoint, const Tensors& tensors, int64_t staging_bytes)
      : checkpoint_(checkpoint), tensors_(tensors), staging_(new char[staging_bytes]), staging_bytes_(staging_bytes) {}

  // Adds the bytes read to `bytes`.
  absl::Status Run(const Task& task, int64_t& bytes) {
    return task.linear != nullptr ? ReadLinear(*task.linear, task.first, task.count, bytes) : ReadVector(*task.vector, bytes);
  }

 private:
  // The runs and the parts are two ways to cut the same concatenated outputs; what is read is where both meet `held`.
  absl::Status ReadLinear(const LinearTarget& target, int64_t held_first, int64_t held_count, int64_t& bytes) {
    int64_t held = 0;  // first row of the run, as held
    for (const LinearShard::Run& run : target.shard.outputs) {
      const int64_t begin = std::max(held, held_first), end = std::min(held + run.count, held_first + held_count);
      const int64_t shift = run.first - held;  // from rows as held to concatenated outputs
      int64_t part_first = 0;
      for (const LinearSpec::Part& part : target.spec.parts) {
        const int64_t from = std::max(begin + shift, part_first), to = std::min(end + shift, part_first + part.out_features);
        if (from < to) CAUSEWAY_RETURN_IF_ERROR(ReadPart(target, part, from - part_first, to - from, from - shift, bytes));
        part_first += part.out_features;
      }
      held += run.count;
    }
    return absl::OkStatus();
  }

  // Outputs [first, first + count) of a part become rows from `held`.
  absl::Status ReadPart(const LinearTarget& target, const LinearSpec::Part& part, int64_t first, int64_t count, int64_t held, int64_t& bytes) {
    const TensorInfo& tensor = tensors_.at(part.weight);
    CAUSEWAY_ASSIGN_OR_RETURN(const at::ScalarType dtype, ScalarTypeOf(tensor.dtype));
    const LinearShard& shard = target.shard;
    if (target.spec.transposed) {
      CAUSEWAY_RETURN_IF_ERROR(
          ReadRectangle(checkpoint_, tensor, part.out_features, shard.in_first, shard.in_count, first, count, staging_.get()));
      target.ops->SetRows(*target.weight, held, at::from_blob(staging_.get(), {shard.in_count, count}, dtype).t().contiguous());
    } else {
      CAUSEWAY_RETURN_IF_ERROR(
          ReadRectangle(checkpoint_, tensor, target.spec.in_features, first, count, shard.in_first, shard.in_count, staging_.get()));
      target.ops->SetRows(*target.weight, held, at::from_blob(staging_.get(), {count, shard.in_count}, dtype));
    }
    bytes += count * shard.in_count * DTypeBytes(tensor.dtype);
    if (part.bias.empty() || !shard.bias) return absl::OkStatus();
    CAUSEWAY_ASSIGN_OR_RETURN(const at::Tensor bias, Read(part.bias, first, count, bytes));
    target.ops->SetBias(*target.weight, held, bias);
    return absl::OkStatus();
  }

  absl::Status ReadVector(const VectorTarget& target, int64_t& bytes) {
    CAUSEWAY_ASSIGN_OR_RETURN(const at::Tensor values, Read(target.tensor, 0, target.values.numel(), bytes));
    target.values.copy_(values);
    return absl::OkStatus();
  }

  // Elements of a one-dimensional tensor; in staging until the next read.
  absl::StatusOr<at::Tensor> Read(const std::string& name, int64_t first, int64_t count, int64_t& bytes) {
    const TensorInfo& tensor = tensors_.at(name);
    CAUSEWAY_ASSIGN_OR_RETURN(const at::ScalarType dtype, ScalarTypeOf(tensor.dtype));
    const int64_t element = DTypeBytes(tensor.dtype);
    if (count * element > staging_bytes_) {
      return absl::InternalError(absl::StrCat("tensor ", name, " of ", count * element, " bytes exceeds the staging buffer of ", staging_bytes_));
    }
    CAUSEWAY_RETURN_IF_ERROR(checkpoint_.Read(tensor, first * element, absl::MakeSpan(staging_.get(), count * element)));
    bytes += count * element;
    return at::from_blob(staging_.get(), {count}, dtype);
  }

  const Checkpoint& checkpoint_;
  const Tensors& tensors_;
  const std::unique_ptr<char[]> staging_;
  const int64_t staging_bytes_;
};

// Every tensor has one target; a tied embedding may have a second, where the head is on another device.
absl::Status CheckUses(const ModelSpec& spec, const Tensors& tensors, const LoadTargets& targets) {
  std::map<std::string, int> uses;
  for (const LinearTarget& linear : targets.linears) {
    for (const LinearSpec::Part& part : linear.spec.parts) {
      ++uses[part.weight];
      if (!part.bias.empty()) ++uses[part.bias];
    }
  }
  for (const VectorTarget& vector : targets.vectors) ++uses[vector.tensor];
  std::vector<std::string> wrong;
  for (const auto& [name, tensor] : tensors) {
    const int count = uses[name];
    const int most = spec.tied_head && name == spec.embedding_weight ? 2 : 1;
    if (count < 1 || count > most) wrong.push_back(absl::StrCat(name, " is used ", count, " times"));
  }
  for (const auto& [name, count] : uses) {
    if (tensors.count(name) == 0) wrong.push_back(absl::StrCat(name, " is not in the checkpoint"));
  }
  if (wrong.empty()) return absl::OkStatus();
  return absl::InternalError(absl::StrCat("the model's parts and the checkpoint's tensors don't match: ", absl::StrJoin(wrong, "; ")));
}

std::vector<Task> MakeTasks(const Tensors& tensors, const LoadTargets& targets, int64_t staging_bytes) {
  std::vector<Task> tasks;
  auto place = [&tensors](const std::string& name, uint64_t skip) {
    const TensorInfo& tensor = tensors.at(name);
    return std::pair(tensor.file, tensor.offset + skip);
  };
  for (const LinearTarget& linear : targets.linears) {
    const int64_t rows = linear.shard.out_count();
    const int64_t step = std::max(kRowStep, staging_bytes / (linear.shard.in_count * kElementMax) / kRowStep * kRowStep);
    for (int64_t first = 0; first < rows; first += step) {
      tasks.push_back({&linear, nullptr, first, std::min(step, rows - first), place(linear.spec.parts.front().weight, first)});
    }
  }
  for (const VectorTarget& vector : targets.vectors) tasks.push_back({nullptr, &vector, 0, 0, place(vector.tensor, 0)});
  std::sort(tasks.begin(), tasks.end(), [](const Task& a, const Task& b) { return a.place < b.place; });
  return tasks;
}

int64_t StagingBytes(const LoadTargets& targets, int64_t wished) {
  int64_t bytes = wished;  // room for the least step of the widest linear
  for (const LinearTarget& linear : targets.linears) {
    bytes = std::max({bytes, kRowStep * linear.shard.in_count * kElementMax});
  }
  for (const VectorTarget& vector : targets.vectors) bytes = std::max(bytes, vector.values.numel() * kElementMax);
  return bytes;
}

int64_t BytesToRead(const Tensors& tensors, const LoadTargets& targets) {
  int64_t total = 0;
  for (const LinearTarget& linear : targets.linears) {
    const LinearSpec& spec = linear.spec;
    for (const LinearSpec::Part& part : spec.parts) {
      // A shard's share, exact where parts are cut evenly.
      const double share = static_cast<double>(linear.shard.out_count() * linear.shard.in_count) / (spec.out_features() * spec.in_features);
      total += static_cast<int64_t>(tensors.at(part.weight).bytes * share);
      if (!part.bias.empty() && linear.shard.bias) total += tensors.at(part.bias).bytes * linear.shard.out_count() / spec.out_features();
    }
  }
  for (const VectorTarget& vector : targets.vectors) total += tensors.at(vector.tensor).bytes;
  return total;
}

}  // namespace

absl::Status LoadWeights(const ModelSpec& spec, const Checkpoint& checkpoint, const LoadTargets& targets, const LoadOptions& options) {
  CAUSEWAY_ASSIGN_OR_RETURN(const Tensors tensors, MatchTensors(spec, checkpoint));
  CAUSEWAY_RETURN_IF_ERROR(CheckUses(spec, tensors, targets));
  if (spec.tied_head) CAUSEWAY_RETURN_IF_ERROR(CheckTiedTensors(spec, checkpoint));
  const int64_t staging_bytes = StagingBytes(targets, options.staging_bytes);
  const std::vector<Task> tasks = MakeTasks(tensors, targets, staging_bytes);
  const int64_t bytes_total = BytesToRead(tensors, targets);

  absl::Mutex mutex;
  absl::Status status;  // the first error; guarded by mutex, as is bytes_done
  int64_t bytes_done = 0;
  std::atomic<size_t> next = 0;
  auto read = [&] {
    c10::InferenceMode inference;
    if (options.enter_thread) options.enter_thread();
    Reader reader(checkpoint, tensors, staging_bytes);
    for (size_t i = next++; i < tasks.size(); i = next++) {
      int64_t bytes = 0;
      absl::Status result;
      try {
        result = reader.Run(tasks[i], bytes);
      } catch (const c10::Error& error) {
        result = absl::InternalError(absl::StrCat("loading weights: ", error.what_without_backtrace()));
      } catch (const std::exception& error) {
        result = absl::InternalError(absl::StrCat("loading weights: ", error.what()));
      }
      absl::MutexLock lock(&mutex);
      if (!result.ok()) {
        if (status.ok()) status = result;
        next = tasks.size();
        return;
      }
      bytes_done += bytes;
      if (options.progress) options.progress(bytes_done, bytes_total);
    }
  };
  std::vector<std::thread> readers;
  const int count = std::clamp<int>(options.readers, 1, std::max<size_t>(tasks.size(), 1));
  for (int i = 0; i < count; ++i) readers.emplace_back(read);
  for (std::thread& reader : readers) reader.join();
  return status;
}

}  // namespace causeway
