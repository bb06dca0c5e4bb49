#include "engine/execution/weight_stream.h"

#include <algorithm>
#include <chrono>
#include <limits>
#include <utility>

#include <ATen/ops/empty.h>
#include <ATen/ops/zeros.h>
#include <c10/core/InferenceMode.h>
#include <c10/util/Exception.h>

#include "absl/strings/str_cat.h"
#include "engine/base/status.h"
#include "engine/execution/device_memory.h"
#include "engine/plan/module_sizes.h"

namespace causeway {
namespace {

constexpr int64_t kTensorAlignment = 64;
constexpr int64_t kPinnedBytes = int64_t{8} << 20;
constexpr int64_t kCpuRowsTried = 512;  // where the CPU is still faster for so many, it is taken to be for all

int64_t RoundUp(int64_t n, int64_t to) { return (n + to - 1) / to * to; }

// What they pointed at before is freed where it was their own.
void Point(const std::vector<at::Tensor>& tensors, char* memory) {
  int64_t offset = 0;
  for (const at::Tensor& tensor : tensors) {
    char* at = memory == nullptr ? nullptr : memory + offset;
    tensor.storage().unsafeGetStorageImpl()->set_data_ptr_noswap(c10::DataPtr(at, tensor.device()));
    offset += RoundUp(static_cast<int64_t>(tensor.nbytes()), kTensorAlignment);
  }
}

}  // namespace

WeightStream::WeightStream(DeviceRuntime& runtime, const DevicePlan& plan)
    : runtime_(runtime), device_(plan.device.name), staging_bytes_(plan.staging - OffloadFile::kAlignment) {
  for (const OffloadedModule& module : plan.offloaded) tier_of_[module.name] = module.tier;
}

WeightStream::~WeightStream() {
  {
    absl::MutexLock lock(&mutex_);
    stop_ = true;
  }
  if (reader_.joinable()) reader_.join();
}

const std::string* WeightStream::TierOf(const std::string& tensor) const { return LookUp(tier_of_, tensor); }

std::shared_ptr<LinearWeight> WeightStream::Adopt(const std::string& tensor, bool in_order,
                                                  const MakeWeight& make) {
  Entry entry;
  entry.name = tensor;
  entry.on_disk = *TierOf(tensor) == "disk";
  entry.in_order = in_order;
  MemoryScope scope(runtime_, MemoryOwner::kWorkspace);  // up to where it is freed
  entry.weight = make(runtime_.device());
  entry.tensors = entry.weight->Tensors();
  for (const at::Tensor& held : entry.tensors) entry.bytes += RoundUp(static_cast<int64_t>(held.nbytes()), kTensorAlignment);
  entry.bytes = RoundUp(entry.bytes, OffloadFile::kAlignment);
  Point(entry.tensors, nullptr);
  if (!entry.on_disk) {
    entry.on_cpu = runtime_.device().is_cpu() ? entry.weight : make(at::kCPU);
    if (entry.on_cpu != nullptr) Point(entry.on_cpu->Tensors(), nullptr);
  }
  const int index = static_cast<int>(entries_.size());
  // One barrier for each layer with experts: their names begin alike.
  const std::string layer = tensor.substr(0, tensor.find(".experts."));
  if (in_order || order_.empty() || order_.back() != kBarrier || layer != last_experts_) order_.push_back(in_order ? index : kBarrier);
  if (!in_order) last_experts_ = layer;
  entry.position = order_.size() - 1;
  entry_of_[entry.weight.get()] = index;
  entries_.push_back(std::move(entry));
  return entries_.back().weight;
}

absl::Status WeightStream::Allocate(const std::string& folder, const std::string& contents, bool reuse) {
  int64_t file_bytes = 0, in_batch = 0;
  std::string all = absl::StrCat(contents, "\ndevice ", device_, "\n");
  for (Entry& entry : entries_) {
    if (entry.bytes > staging_bytes_) {
      return absl::InternalError(absl::StrCat(device_, ": the plan's staging buffer of ", staging_bytes_, " bytes is too small for ", entry.name, ", ",
                                              entry.bytes));
    }
    if (batches_ == 0 || in_batch + entry.bytes > staging_bytes_) ++batches_, in_batch = 0;
    entry.batch = batches_;
    in_batch += entry.bytes;
    if (entry.on_disk) {
      entry.offset = file_bytes;
      file_bytes += entry.bytes;
      absl::StrAppend(&all, entry.name, " ", entry.bytes, "\n");
    } else {
      entry.host = runtime_.AllocateHost(entry.bytes);
    }
  }
  if (file_bytes > 0) {
    CAUSEWAY_ASSIGN_OR_RETURN(file_, OffloadFile::Open(folder, all, file_bytes, reuse));
    write_file_ = !file_->complete();
    if (!runtime_.device().is_cpu()) pinned_ = runtime_.AllocateHost(kPinnedBytes);
  }
  if (entries_.empty()) return absl::OkStatus();
  MemoryScope scope(runtime_, MemoryOwner::kWeights);
  buffer_ = at::empty({staging_bytes_ + OffloadFile::kAlignment}, at::TensorOptions(at::kByte).device(runtime_.device()));
  staging_ = reinterpret_cast<char*>(RoundUp(reinterpret_cast<intptr_t>(buffer_.mutable_data_ptr()), OffloadFile::kAlignment));
  return absl::OkStatus();
}

absl::Status WeightStream::OpenTable(const std::string& name, const Checkpoint& checkpoint, const TensorInfo& tensor, at::ScalarType dtype,
                                     const WeightFormat& format, bool shared) {
  UncountedScope uncounted;
  const bool in_memory = *TierOf(name) == "cpu" && !shared;
  CAUSEWAY_ASSIGN_OR_RETURN(StoredTable table, StoredTable::Open(checkpoint, tensor, dtype, format, in_memory));
  tables_.emplace(name, std::move(table));
  return absl::OkStatus();
}

void WeightStream::SetBatches(LoadTargets& targets) const {
  for (LinearTarget& target : targets.linears) {
    const auto found = entry_of_.find(target.weight);
    if (found == entry_of_.end()) continue;
    const Entry& entry = entries_[found->second];
    target.batch = entry.on_disk && !write_file_ ? LinearTarget::kFilled : entry.batch;
  }
}

absl::Status WeightStream::BeginBatch(int batch) {
  c10::InferenceMode inference;
  char* to = staging_;
  for (Entry& entry : entries_) {
    if (entry.batch != batch) continue;
    Point(entry.tensors, to);
    for (at::Tensor& tensor : entry.tensors) tensor.zero_();  // of what no row fills, too
    to += entry.bytes;
  }
  return absl::OkStatus();
}

absl::Status WeightStream::EndBatch(int batch) {
  runtime_.Synchronize();
  char* from = staging_;
  for (Entry& entry : entries_) {
    if (entry.batch != batch) continue;
    if (!entry.on_disk) {
      runtime_.CopyToHost(entry.host.mutable_data_ptr(), from, entry.bytes);
    } else if (write_file_ && !pinned_.defined()) {
      CAUSEWAY_RETURN_IF_ERROR(file_->Write(entry.offset, absl::MakeConstSpan(from, entry.bytes)));
    } else if (write_file_) {
      char* piece = static_cast<char*>(pinned_.mutable_data_ptr());
      for (int64_t done = 0; done < entry.bytes; done += kPinnedBytes) {
        const int64_t bytes = std::min(kPinnedBytes, entry.bytes - done);
        runtime_.CopyToHost(piece, from + done, bytes);
        CAUSEWAY_RETURN_IF_ERROR(file_->Write(entry.offset + done, absl::MakeConstSpan(piece, bytes)));
      }
    }
    Point(entry.tensors, nullptr);
    from += entry.bytes;
  }
  return absl::OkStatus();
}

absl::Status WeightStream::Start(Ops& ops, at::ScalarType dtype, std::optional<int64_t> cpu_rows) {
  if (write_file_) CAUSEWAY_RETURN_IF_ERROR(file_->Finish());
  write_file_ = false;
  for (Entry& entry : entries_) {
    if (entry.on_cpu != nullptr) Point(entry.on_cpu->Tensors(), static_cast<char*>(entry.host.mutable_data_ptr()));
  }
  const int64_t experts = cpu_rows.value_or(MeasureCpuRows(ops, dtype, /*in_order=*/false));
  const int64_t others = cpu_rows.value_or(MeasureCpuRows(ops, dtype, /*in_order=*/true));
  {
    absl::MutexLock lock(&mutex_);
    cpu_rows_[0] = experts;
    cpu_rows_[1] = others;
    SkipOnCpu();
  }
  reader_ = std::thread([this] { ReadLoop(); });
  return absl::OkStatus();
}

// Tried with the largest weight of its kind: brought over and computed on the device, and computed on the CPU.
int64_t WeightStream::MeasureCpuRows(Ops& ops, at::ScalarType dtype, bool in_order) {
  using Clock = std::chrono::steady_clock;
  const Entry* largest = nullptr;
  for (const Entry& entry : entries_) {
    if (entry.on_cpu != nullptr && entry.in_order == in_order && (largest == nullptr || entry.bytes > largest->bytes)) largest = &entry;
  }
  if (largest == nullptr) return 0;
  char* host = static_cast<char*>(largest->host.mutable_data_ptr());
  int64_t faster = 0;
  for (int64_t rows = 1; faster == rows / 2; rows *= 2) {
    const at::Tensor x = at::zeros({rows, largest->weight->in_features()}, at::TensorOptions(dtype).device(runtime_.device()));
    double streamed = std::numeric_limits<double>::max(), on_cpu = streamed;
    for (int round = 0; round < 3; ++round) {
      runtime_.Synchronize();
      const Clock::time_point begin = Clock::now();
      runtime_.CopyFromHost(staging_, host, largest->bytes);
      Point(largest->tensors, staging_);
      ops.Linear(x, *largest->weight);
      runtime_.Synchronize();
      const Clock::time_point middle = Clock::now();
      Point(largest->tensors, nullptr);
      Point(largest->on_cpu->Tensors(), host);
      ops.Linear(x, *largest->on_cpu);
      runtime_.Synchronize();
      streamed = std::min(streamed, std::chrono::duration<double>(middle - begin).count());
      on_cpu = std::min(on_cpu, std::chrono::duration<double>(Clock::now() - middle).count());
    }
    if (on_cpu >= streamed) break;
    faster = rows;
    // A device that computes from CPU memory itself saves the same copy at any number of rows.
    if (rows >= kCpuRowsTried || runtime_.device().is_cpu()) return std::numeric_limits<int64_t>::max();
  }
  return faster;
}

bool WeightStream::OnCpu(const Entry& entry) const {
  return entry.on_cpu != nullptr && (entry.in_order ? step_rows_ : entry.rows) <= cpu_rows_[entry.in_order];
}

int WeightStream::Next() const {
  if (!expected_.empty()) return expected_.front();
  if (order_.empty()) return -1;
  const int index = order_[cursor_];
  return index == kBarrier || OnCpu(entries_[index]) ? -1 : index;
}

void WeightStream::SkipOnCpu() {
  for (size_t n = 0; n < order_.size() && order_[cursor_] != kBarrier && OnCpu(entries_[order_[cursor_]]); ++n) {
    cursor_ = (cursor_ + 1) % order_.size();
  }
}

void WeightStream::GoTo(size_t position) {
  cursor_ = position % order_.size();
  SkipOnCpu();
}

// Where so many bytes fit beside what is still needed.
std::optional<int64_t> WeightStream::Room(int64_t bytes) const {
  if (slots_.empty()) return 0;
  const int64_t first = slots_.front().offset, end = slots_.back().offset + slots_.back().bytes;
  const bool wrapped = slots_.back().offset < first;
  if (wrapped) return end + bytes <= first ? std::optional(end) : std::nullopt;
  if (end + bytes <= staging_bytes_) return end;
  return bytes <= first ? std::optional<int64_t>(0) : std::nullopt;
}

bool WeightStream::HasWork() const {
  if (stop_) return true;
  const int next = Next();
  return next >= 0 && Room(entries_[next].bytes).has_value();
}

void WeightStream::ReadLoop() {
  c10::InferenceMode inference;
  runtime_.EnterThread(1);
  mutex_.Lock();
  while (true) {
    mutex_.Await(absl::Condition(this, &WeightStream::HasWork));
    if (stop_) break;
    const int index = Next();
    const Entry& entry = entries_[index];
    if (!expected_.empty()) {
      expected_.pop_front();
    } else {
      GoTo(cursor_ + 1);
    }
    slots_.push_back({.entry = index, .offset = *Room(entry.bytes), .bytes = entry.bytes});
    Slot& slot = slots_.back();  // stays where it is: only what is read is popped
    const std::vector<std::function<void()>> unfinished = std::exchange(unfinished_, {});
    mutex_.Unlock();
    absl::Status status = CatchTorch(device_, [&] {
      for (const std::function<void()>& wait : unfinished) wait();
      return Read(entry, staging_ + slot.offset);
    });
    mutex_.Lock();
    slot.status = std::move(status);
    slot.read = true;
    PopReleased();
  }
  mutex_.Unlock();
}

absl::Status WeightStream::Read(const Entry& entry, char* to) {
  if (!entry.on_disk) {
    runtime_.CopyFromHost(to, entry.host.const_data_ptr(), entry.bytes);
  } else if (!pinned_.defined()) {
    CAUSEWAY_RETURN_IF_ERROR(file_->Read(entry.offset, absl::MakeSpan(to, entry.bytes)));
  } else {
    char* piece = static_cast<char*>(pinned_.mutable_data_ptr());
    for (int64_t done = 0; done < entry.bytes; done += kPinnedBytes) {
      const int64_t bytes = std::min(kPinnedBytes, entry.bytes - done);
      CAUSEWAY_RETURN_IF_ERROR(file_->Read(entry.offset + done, absl::MakeSpan(piece, bytes)));
      runtime_.CopyFromHost(to + done, piece, bytes);
    }
  }
  streamed_bytes_ += entry.bytes;
  return absl::OkStatus();
}

WeightStream::Slot* WeightStream::FirstUnacquired() {
  for (Slot& slot : slots_) {
    if (!slot.acquired && !slot.released) return &slot;
  }
  return nullptr;
}

void WeightStream::DropUnacquired() {
  for (Slot& slot : slots_) slot.released |= !slot.acquired;
  PopReleased();
}

void WeightStream::PopReleased() {
  while (!slots_.empty() && slots_.front().read && slots_.front().released) slots_.pop_front();
}

void WeightStream::BeginStep(int64_t rows) {
  absl::MutexLock lock(&mutex_);
  const bool was_on_cpu = std::exchange(step_rows_, rows) <= cpu_rows_[1];
  if (order_.empty() || was_on_cpu == (rows <= cpu_rows_[1])) return;
  // What is brought over is not what it was in the last step, and was read ahead for this one.
  DropUnacquired();
  expected_.clear();
  GoTo(used_);
}

void WeightStream::Expect(const std::vector<Use>& uses) {
  absl::MutexLock lock(&mutex_);
  std::deque<int> expected;
  for (const auto& [weight, rows] : uses) {
    const int index = entry_of_.at(weight);
    entries_[index].rows = rows;
    if (!OnCpu(entries_[index])) expected.push_back(index);
  }
  if (!expected.empty()) {
    DropUnacquired();
    GoTo(entries_[expected.front()].position + 1);
  } else if (!order_.empty() && expected_.empty() && order_[cursor_] == kBarrier) {
    GoTo(cursor_ + 1);
  }
  expected_ = std::move(expected);
}

const LinearWeight& WeightStream::Acquire(const LinearWeight& weight) {
  const int index = entry_of_.at(&weight);
  const Entry& entry = entries_[index];
  absl::Status status;
  {
    absl::MutexLock lock(&mutex_);
    used_ = (entry.position + 1) % order_.size();
    if (OnCpu(entry)) {
      // It may have been pointed elsewhere where it is the device's too.
      if (entry.on_cpu == entry.weight) Point(entry.tensors, static_cast<char*>(entry.host.mutable_data_ptr()));
      return *entry.on_cpu;
    }
    if (const Slot* ahead = FirstUnacquired(); (ahead != nullptr ? ahead->entry : Next()) != index) {
      // Something else was read ahead.
      DropUnacquired();
      expected_.clear();
      GoTo(entry.in_order ? entry.position : entry.position + 1);
      if (!entry.in_order) expected_.push_back(index);
    }
    const auto is_read = [this]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
      const Slot* slot = FirstUnacquired();
      return slot != nullptr && slot->read;
    };
    mutex_.Await(absl::Condition(&is_read));
    Slot& slot = *FirstUnacquired();
    status = slot.status;
    if (status.ok()) {
      Point(entry.tensors, staging_ + slot.offset);
      slot.acquired = true;
    } else {
      slot.released = true;
      PopReleased();
    }
  }
  TORCH_CHECK(status.ok(), entry.name, ": ", status.message());
  return weight;
}

void WeightStream::Release(const LinearWeight& weight) {
  const int index = entry_of_.at(&weight);
  absl::MutexLock lock(&mutex_);
  for (Slot& slot : slots_) {
    if (slot.entry != index || !slot.acquired || slot.released) continue;
    slot.released = true;
    Point(entries_[index].tensors, nullptr);
    try {
      if (std::function<void()> wait = runtime_.Mark()) unfinished_.push_back(std::move(wait));
    } catch (const c10::Error&) {
      // A device that cannot mark its work has failed: the next step on it says so. Here a destructor may be running.
    }
    PopReleased();
    return;
  }
}

void WeightStream::ReleaseAll() {
  absl::MutexLock lock(&mutex_);
  for (Slot& slot : slots_) {
    if (slot.acquired && !slot.released) Point(entries_[slot.entry].tensors, nullptr);
    slot.released = true;
  }
  expected_.clear();
  PopReleased();
}

at::Tensor WeightStream::Rows(const std::string& tensor, const at::Tensor& ids) {
  absl::StatusOr<at::Tensor> rows;
  {
    UncountedScope uncounted;
    rows = tables_.at(tensor).Rows(ids.cpu());
  }
  TORCH_CHECK(rows.ok(), tensor, ": ", rows.status().message());
  const at::Tensor result = at::empty(rows->sizes(), rows->options().device(runtime_.device()));
  result.copy_(*rows);
  return result;
}

}  // namespace causeway
