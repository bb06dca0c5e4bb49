#include "engine/weights/weight_stream.h"

#include <utility>

#include <ATen/ops/empty.h>
#include <c10/core/InferenceMode.h>
#include <c10/util/Exception.h>

#include "absl/strings/str_cat.h"
#include "engine/base/status.h"
#include "engine/base/trace.h"
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
      activations_(plan.activations),
      ring_(staging_bytes_) {
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
    entry.on_cpu = runtime_.in_host_memory() ? entry.weight : make(at::kCPU);
    if (entry.on_cpu != nullptr) PointAt(entry.on_cpu->Tensors(), nullptr);
  }
  const bool in_cpu_memory = entry.on_cpu != nullptr;
  {
    absl::MutexLock lock(&mutex_);
    entry_of_[entry.weight.get()] = in_order ? ring_.AddInOrder(entry.bytes(), in_cpu_memory)
                                             : ring_.AddExpert(*experts_of, entry.bytes(), in_cpu_memory);
  }
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
  int64_t in_portion = 0;
  for (Entry& entry : entries_) {
    if (store_.Filled(entry.place)) continue;
    if (portions_ == 0 || in_portion + entry.bytes() > staging_bytes_) ++portions_, in_portion = 0;
    entry.portion = portions_;
    in_portion += entry.bytes();
  }
  MemoryScope scope(runtime_, MemoryOwner::kWeights);
  buffer_ =
      at::empty({staging_bytes_ + DirectFile::kAlignment}, at::TensorOptions(at::kByte).device(runtime_.device()));
  staging_ = DirectFile::Aligned(static_cast<char*>(buffer_.mutable_data_ptr()));
  return absl::OkStatus();
}

absl::Status WeightStream::OpenTable(const std::string& name, const Checkpoint& checkpoint, const TensorInfo& tensor,
                                     at::ScalarType dtype, at::ScalarType activations, const WeightFormat& format,
                                     bool shared) {
  UncountedScope uncounted;
  const bool in_memory = *TierOf(name) == Tier::kCpu && !shared;
  CAUSEWAY_ASSIGN_OR_RETURN(StoredTable table,
                            StoredTable::Open(checkpoint, tensor, dtype, activations, format, in_memory));
  tables_.emplace(name, std::move(table));
  return absl::OkStatus();
}

void WeightStream::SetPortions(LoadTargets& targets) const {
  for (LinearTarget& target : targets.linears) {
    const auto found = entry_of_.find(target.weight);
    if (found == entry_of_.end()) continue;
    target.portion = entries_[found->second].portion;
  }
}

absl::Status WeightStream::BeginPortion(int portion) {
  c10::InferenceMode inference;
  char* to = staging_;
  for (Entry& entry : entries_) {
    if (entry.portion != portion) continue;
    PointAt(entry.tensors, to);
    for (at::Tensor& tensor : entry.tensors) tensor.zero_();  // of what no row fills, too
    to += entry.bytes();
  }
  return absl::OkStatus();
}

absl::Status WeightStream::EndPortion(int portion) {
  runtime_.Synchronize();
  char* from = staging_;
  for (Entry& entry : entries_) {
    if (entry.portion != portion) continue;
    CAUSEWAY_RETURN_IF_ERROR(store_.Put(entry.place, from));
    PointAt(entry.tensors, nullptr);
    from += entry.bytes();
  }
  return absl::OkStatus();
}

absl::Status WeightStream::Start(at::ScalarType activations, std::optional<int64_t> cpu_rows) {
  CAUSEWAY_RETURN_IF_ERROR(store_.Finish());
  for (Entry& entry : entries_) {
    if (entry.on_cpu != nullptr)
      PointAt(entry.on_cpu->Tensors(), static_cast<char*>(entry.place.host.mutable_data_ptr()));
  }
  const int64_t experts = CpuRows(activations, /*in_order=*/false, cpu_rows);
  const int64_t others = CpuRows(activations, /*in_order=*/true, cpu_rows);
  {
    absl::MutexLock lock(&mutex_);
    ring_.SetCpuRows({.experts = experts, .in_order = others});
  }
  reader_ = std::thread([this] { ReadLoop(); });
  return absl::OkStatus();
}

int64_t WeightStream::CpuRows(at::ScalarType activations, bool in_order, std::optional<int64_t> given) {
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
  return MeasureCpuRows(runtime_, activations, trials, staging_, activations_);
}

int64_t WeightStream::cpu_rows(bool in_order) const {
  absl::MutexLock lock(&mutex_);
  return in_order ? ring_.cpu_rows().in_order : ring_.cpu_rows().experts;
}

bool WeightStream::HasWork() const { return stop_ || ring_.Next().has_value(); }

void WeightStream::ReadLoop() {
  c10::InferenceMode inference;
  Trace::NameLane(absl::StrCat(runtime_.name(), " weights"));
  bool entered = false;
  mutex_.Lock();
  while (true) {
    mutex_.Await(absl::Condition(this, &WeightStream::HasWork));
    if (stop_) break;
    const StagingRing::Read read = ring_.StartRead();
    const Entry& entry = entries_[read.id];
    const std::vector<std::function<void()>> unfinished = std::exchange(unfinished_, {});
    mutex_.Unlock();
    absl::Status status = CatchTorch(runtime_.name(), [&] {
      if (!entered) runtime_.EnterThread(1);
      entered = true;
      TraceSpan span("fetch");
      span.With("bytes", entry.bytes()).With("from disk", entry.place.on_disk);
      for (const std::function<void()>& wait : unfinished) wait();
      return store_.Get(entry.place, staging_ + read.offset);
    });
    mutex_.Lock();
    if (status.ok()) streamed_bytes_ += entry.bytes();
    ring_.FinishRead(std::move(status));
  }
  mutex_.Unlock();
}

void WeightStream::BeginStep(int64_t rows) {
  absl::MutexLock lock(&mutex_);
  ring_.BeginStep(rows);
}

void WeightStream::Expect(const std::vector<Use>& uses) {
  std::vector<StagingRing::Use> expected;
  for (const auto& [weight, rows] : uses) expected.push_back({entry_of_.at(weight), rows});
  absl::MutexLock lock(&mutex_);
  ring_.Expect(expected);
}

const LinearWeight& WeightStream::Acquire(const LinearWeight& weight) {
  using State = StagingRing::Acquired::State;
  const int index = entry_of_.at(&weight);
  const Entry& entry = entries_[index];
  StagingRing::Acquired acquired;
  {
    absl::MutexLock lock(&mutex_);
    acquired = ring_.Acquire(index);
    if (acquired.state == State::kWait) {
      const TraceSpan span("wait for weights");
      mutex_.Await(absl::Condition(&ring_, &StagingRing::CanAcquire));
      acquired = ring_.Acquire(index);
    }
    if (acquired.state == State::kOnCpu) {
      // It may have been pointed elsewhere where it is the device's too.
      if (entry.on_cpu == entry.weight) PointAt(entry.tensors, static_cast<char*>(entry.place.host.mutable_data_ptr()));
      return *entry.on_cpu;
    }
    if (acquired.state == State::kReady) PointAt(entry.tensors, staging_ + acquired.offset);
  }
  TORCH_CHECK(acquired.state == State::kReady, entry.place.name, ": ", acquired.status.message());
  return weight;
}

void WeightStream::Release(const LinearWeight& weight) {
  const int index = entry_of_.at(&weight);
  absl::MutexLock lock(&mutex_);
  if (ring_.Release(index)) Leave(index);
}

void WeightStream::ReleaseAll() {
  absl::MutexLock lock(&mutex_);
  for (const int index : ring_.ReleaseAll()) Leave(index);
}

void WeightStream::Leave(int index) {
  PointAt(entries_[index].tensors, nullptr);
  try {
    if (std::function<void()> wait = runtime_.Mark()) unfinished_.push_back(std::move(wait));
  } catch (const c10::Error&) {
    // A device that cannot mark its work has failed: the next step on it says so. Here a destructor may be running.
  }
}

at::Tensor WeightStream::Rows(const std::string& tensor, const at::Tensor& ids) {
  absl::StatusOr<at::Tensor> rows = tables_.at(tensor).Rows(runtime_.Download(ids));
  TORCH_CHECK(rows.ok(), tensor, ": ", rows.status().message());
  return runtime_.Upload(*rows);
}

}  // namespace causeway
