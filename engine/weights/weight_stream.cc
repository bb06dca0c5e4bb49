#include "engine/weights/weight_stream.h"

#include <algorithm>
#include <limits>
#include <utility>

#include <ATen/ops/empty.h>
#include <c10/core/InferenceMode.h>
#include <c10/util/Exception.h>

#include "absl/strings/str_cat.h"
#include "engine/base/status.h"
#include "engine/device/device_memory.h"
#include "engine/plan/module_sizes.h"

namespace causeway {
namespace {

constexpr size_t kTrialsMax = 8;  // weights that a measurement goes through

}  // namespace

WeightStream::WeightStream(DeviceRuntime& runtime, const DevicePlan& plan)
    : runtime_(runtime),
      store_(runtime),
      staging_bytes_(plan.staging - DirectFile::kAlignment),
      activations_(plan.activations) {
  for (const OffloadedModule& module : plan.offloaded) tier_of_[module.name] = module.tier;
}

WeightStream::~WeightStream() {
  {
    absl::MutexLock lock(&mutex_);
    stop_ = true;
  }
  if (reader_.joinable()) reader_.join();
}

const Tier* WeightStream::TierOf(const std::string& tensor) const { return LookUp(tier_of_, tensor); }

std::shared_ptr<LinearWeight> WeightStream::Adopt(const std::string& tensor, std::optional<int> experts_of,
                                                  const MakeWeight& make) {
  Entry entry;
  entry.place.name = tensor;
  entry.place.on_disk = *TierOf(tensor) == Tier::kDisk;
  const bool in_order = !experts_of.has_value();
  entry.in_order = in_order;
  MemoryScope scope(runtime_, MemoryOwner::kWorkspace);  // up to where it is freed
  entry.weight = make(runtime_.device());
  entry.tensors = entry.weight->Tensors();
  entry.place.bytes = PackedBytes(entry.tensors);
  PointAt(entry.tensors, nullptr);
  if (!entry.place.on_disk) {
    entry.on_cpu = runtime_.device().is_cpu() ? entry.weight : make(at::kCPU);
    if (entry.on_cpu != nullptr) PointAt(entry.on_cpu->Tensors(), nullptr);
  }
  const int index = static_cast<int>(entries_.size());
  // One barrier for each layer with experts.
  const bool same_barrier = !order_.empty() && order_.back() == kBarrier && experts_of == last_experts_of_;
  if (in_order || !same_barrier) order_.push_back(in_order ? index : kBarrier);
  if (!in_order) last_experts_of_ = experts_of;
  entry.position = order_.size() - 1;
  entry_of_[entry.weight.get()] = index;
  entries_.push_back(std::move(entry));
  return entries_.back().weight;
}

absl::Status WeightStream::Allocate(const LoadTargets& targets, const Tensors& tensors, const Checkpoint& checkpoint,
                                    const std::string& folder, const std::string& contents, bool reuse) {
  for (const LinearTarget& target : targets.linears) {
    const auto found = entry_of_.find(target.weight);
    if (found == entry_of_.end() || !entries_[found->second].place.on_disk) continue;
    Entry& entry = entries_[found->second];
    entry.place.stored = StoredPieces(StoredAsHeld(tensors, target), entry.tensors);
  }
  std::vector<WeightStore::Place*> places;
  for (Entry& entry : entries_) {
    places.push_back(&entry.place);
    if (entry.bytes() <= staging_bytes_) continue;
    return absl::InternalError(absl::StrCat(runtime_.name(), ": the plan's staging buffer of ", staging_bytes_,
                                            " bytes is too small for ", entry.place.name, ", ", entry.bytes()));
  }
  CAUSEWAY_RETURN_IF_ERROR(store_.Open(places, checkpoint, folder, contents, reuse));
  if (entries_.empty()) return absl::OkStatus();
  int64_t in_batch = 0;
  for (Entry& entry : entries_) {
    if (store_.Filled(entry.place)) continue;
    if (batches_ == 0 || in_batch + entry.bytes() > staging_bytes_) ++batches_, in_batch = 0;
    entry.batch = batches_;
    in_batch += entry.bytes();
  }
  MemoryScope scope(runtime_, MemoryOwner::kWeights);
  buffer_ =
      at::empty({staging_bytes_ + DirectFile::kAlignment}, at::TensorOptions(at::kByte).device(runtime_.device()));
  staging_ = DirectFile::Aligned(static_cast<char*>(buffer_.mutable_data_ptr()));
  return absl::OkStatus();
}

absl::Status WeightStream::OpenTable(const std::string& name, const Checkpoint& checkpoint, const TensorInfo& tensor,
                                     at::ScalarType dtype, const WeightFormat& format, bool shared) {
  UncountedScope uncounted;
  const bool in_memory = *TierOf(name) == Tier::kCpu && !shared;
  CAUSEWAY_ASSIGN_OR_RETURN(StoredTable table, StoredTable::Open(checkpoint, tensor, dtype, format, in_memory));
  tables_.emplace(name, std::move(table));
  return absl::OkStatus();
}

void WeightStream::SetBatches(LoadTargets& targets) const {
  for (LinearTarget& target : targets.linears) {
    const auto found = entry_of_.find(target.weight);
    if (found == entry_of_.end()) continue;
    target.batch = entries_[found->second].batch;
  }
}

absl::Status WeightStream::BeginBatch(int batch) {
  c10::InferenceMode inference;
  char* to = staging_;
  for (Entry& entry : entries_) {
    if (entry.batch != batch) continue;
    PointAt(entry.tensors, to);
    for (at::Tensor& tensor : entry.tensors) tensor.zero_();  // of what no row fills, too
    to += entry.bytes();
  }
  return absl::OkStatus();
}

absl::Status WeightStream::EndBatch(int batch) {
  runtime_.Synchronize();
  char* from = staging_;
  for (Entry& entry : entries_) {
    if (entry.batch != batch) continue;
    CAUSEWAY_RETURN_IF_ERROR(store_.Put(entry.place, from));
    PointAt(entry.tensors, nullptr);
    from += entry.bytes();
  }
  return absl::OkStatus();
}

absl::Status WeightStream::Start(at::ScalarType dtype, std::optional<int64_t> cpu_rows) {
  CAUSEWAY_RETURN_IF_ERROR(store_.Finish());
  for (Entry& entry : entries_) {
    if (entry.on_cpu != nullptr)
      PointAt(entry.on_cpu->Tensors(), static_cast<char*>(entry.place.host.mutable_data_ptr()));
  }
  const int64_t experts = CpuRows(dtype, /*in_order=*/false, cpu_rows);
  const int64_t others = CpuRows(dtype, /*in_order=*/true, cpu_rows);
  {
    absl::MutexLock lock(&mutex_);
    cpu_rows_[0] = experts;
    cpu_rows_[1] = others;
    SkipOnCpu();
  }
  reader_ = std::thread([this] { ReadLoop(); });
  return absl::OkStatus();
}

int64_t WeightStream::CpuRows(at::ScalarType dtype, bool in_order, std::optional<int64_t> given) {
  const Entry* largest = nullptr;
  for (const Entry& entry : entries_) {
    if (entry.on_cpu != nullptr && entry.in_order == in_order &&
        (largest == nullptr || entry.bytes() > largest->bytes()))
      largest = &entry;
  }
  if (largest == nullptr) return 0;
  if (given.has_value()) return *given;
  std::vector<CpuTrial> trials;
  for (const Entry& entry : entries_) {
    const bool alike = entry.weight->in_features() == largest->weight->in_features() &&
                       entry.weight->out_features() == largest->weight->out_features();
    if (entry.on_cpu == nullptr || entry.in_order != in_order || !alike || trials.size() == kTrialsMax) continue;
    trials.push_back({entry.weight.get(), entry.on_cpu.get(), static_cast<char*>(entry.place.host.data_ptr())});
  }
  return MeasureCpuRows(runtime_, dtype, trials, staging_, activations_);
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
  return next >= 0 && Room(entries_[next].bytes()).has_value();
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
    slots_.push_back({.entry = index, .offset = *Room(entry.bytes()), .bytes = entry.bytes()});
    Slot& slot = slots_.back();  // stays where it is: only what is read is popped
    const std::vector<std::function<void()>> unfinished = std::exchange(unfinished_, {});
    mutex_.Unlock();
    absl::Status status = CatchTorch(runtime_.name(), [&] {
      for (const std::function<void()>& wait : unfinished) wait();
      return store_.Get(entry.place, staging_ + slot.offset);
    });
    mutex_.Lock();
    if (status.ok()) streamed_bytes_ += entry.bytes();
    slot.status = std::move(status);
    slot.read = true;
    PopReleased();
  }
  mutex_.Unlock();
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
      if (entry.on_cpu == entry.weight) PointAt(entry.tensors, static_cast<char*>(entry.place.host.mutable_data_ptr()));
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
      PointAt(entry.tensors, staging_ + slot.offset);
      slot.acquired = true;
    } else {
      slot.released = true;
      PopReleased();
    }
  }
  TORCH_CHECK(status.ok(), entry.place.name, ": ", status.message());
  return weight;
}

void WeightStream::Release(const LinearWeight& weight) {
  const int index = entry_of_.at(&weight);
  absl::MutexLock lock(&mutex_);
  for (Slot& slot : slots_) {
    if (slot.entry != index || !slot.acquired || slot.released) continue;
    slot.released = true;
    PointAt(entries_[index].tensors, nullptr);
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
    if (slot.acquired && !slot.released) PointAt(entries_[slot.entry].tensors, nullptr);
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
