// Brings the weights that a device does not hold to it, ahead of need.
#ifndef CAUSEWAY_ENGINE_WEIGHTS_WEIGHT_STREAM_H_
#define CAUSEWAY_ENGINE_WEIGHTS_WEIGHT_STREAM_H_

#include <atomic>
#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <unordered_map>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/synchronization/mutex.h"
#include "engine/device/device_runtime.h"
#include "engine/weights/fetcher.h"
#include "engine/weights/stored_table.h"
#include "engine/weights/targets.h"
#include "engine/weights/weight_store.h"

namespace causeway {

// One device's. Weights lie in a WeightStore, as they are computed from. A thread of its own
// reads them into the staging buffer, in the order of use and as far ahead as there is room. What is not the same in
// each step (experts) is read once it is known; what follows in order waits until then.
//
// The device's thread makes all calls, except where marked. The runtime must outlive it.
class WeightStream final : public WeightFetcher {
 public:
  WeightStream(DeviceRuntime& runtime, const DevicePlan& plan);
  ~WeightStream() override;

  bool Offloads(const std::string& tensor) const override { return TierOf(tensor) != nullptr; }
  std::shared_ptr<LinearWeight> Adopt(const std::string& tensor, std::optional<int> experts_of,
                                      const MakeWeight& make) override;

  // Once the model is built, in this order. What the checkpoint has on disk as it is computed from is read from its
  // files, which must stay as they are; the rest as WeightStore::Open has it.
  absl::Status Allocate(const LoadTargets& targets, const Tensors& tensors, const Checkpoint& checkpoint,
                        const std::string& folder, const std::string& contents, bool reuse);
  // For each table that Offloads. Rows of one that a tied head shares are read from the checkpoint: its weight is there
  // once already. The checkpoint must outlive this.
  absl::Status OpenTable(const std::string& name, const Checkpoint& checkpoint, const TensorInfo& tensor,
                         at::ScalarType dtype, const WeightFormat& format, bool shared);
  // For the loader: sets the targets' batches, 1, 2, ... One call at a time, any thread.
  void SetBatches(LoadTargets& targets) const;
  absl::Status BeginBatch(int batch);
  absl::Status EndBatch(int batch);
  // Then it can be used. What lies in CPU memory is computed there for up to cpu_rows rows, of a step or, for an
  // expert, of its own, and brought to the device for more. Without a number it finds out up to how many that is
  // faster.
  absl::Status Start(at::ScalarType dtype, std::optional<int64_t> cpu_rows);

  // Ahead of a step's linears: how many rows it has.
  void BeginStep(int64_t rows);
  void Expect(const std::vector<Use>& uses) override;
  const LinearWeight& Acquire(const LinearWeight& weight) override;
  void Release(const LinearWeight& weight) override;
  at::Tensor Rows(const std::string& tensor, const at::Tensor& ids) override;
  // After a step that failed: nothing is acquired any more.
  void ReleaseAll();

  int64_t streamed_bytes() const { return streamed_bytes_; }  // any thread
  int64_t cpu_rows(bool in_order) const {
    return cpu_rows_[in_order];
  }  // any thread; 0 before Start, and where none can be

 private:
  static constexpr int kBarrier = -1;  // in order_: what follows waits for Expect

  struct Entry {
    WeightStore::Place place;
    std::shared_ptr<LinearWeight> weight;
    std::vector<at::Tensor> tensors;  // of the weight
    std::shared_ptr<LinearWeight>
        on_cpu;           // computes from CPU memory: the weight itself where the device does too; null: nothing can
    int64_t rows = 1;     // of what is not in order: for how many it is expected
    size_t position = 0;  // in order_; of what is not in order, the place of the barrier before it
    bool in_order = true;
    int batch = LinearTarget::kFilled;

    int64_t bytes() const { return place.bytes; }
  };
  // A stretch of the staging buffer. Oldest first; those acquired are before those that are not.
  struct Slot {
    int entry = 0;
    int64_t offset = 0, bytes = 0;
    bool read = false, acquired = false, released = false;
    absl::Status status;
  };

  const Tier* TierOf(const std::string& tensor) const;  // null: the device holds it
  int64_t CpuRows(at::ScalarType dtype, bool in_order, std::optional<int64_t> given);
  void ReadLoop();

  int Next() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);            // to be read; -1: nothing
  void GoTo(size_t position) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);  // in order_, or what comes behind it
  void SkipOnCpu() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  bool OnCpu(const Entry& entry) const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);  // computed there in this step
  std::optional<int64_t> Room(int64_t bytes) const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  bool HasWork() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  Slot* FirstUnacquired() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void DropUnacquired() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void PopReleased() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  DeviceRuntime& runtime_;
  WeightStore store_;
  const int64_t staging_bytes_, activations_;
  std::map<std::string, Tier> tier_of_;  // by module prefix
  std::vector<Entry> entries_;
  std::unordered_map<const LinearWeight*, int> entry_of_;
  std::vector<int> order_;              // entries as steps use them, and barriers
  std::optional<int> last_experts_of_;  // the layer of the last barrier
  std::map<std::string, StoredTable> tables_;
  int batches_ = 0;
  at::Tensor buffer_;
  char* staging_ = nullptr;  // in it, aligned

  absl::Mutex mutex_;
  std::deque<Slot> slots_ ABSL_GUARDED_BY(mutex_);
  std::deque<int> expected_ ABSL_GUARDED_BY(mutex_);  // read before what follows in order_
  size_t cursor_ ABSL_GUARDED_BY(mutex_) = 0;         // in order_, of reading
  size_t used_ ABSL_GUARDED_BY(mutex_) = 0;           // in order_, of computing
  int64_t step_rows_ ABSL_GUARDED_BY(mutex_) = 1;
  std::vector<std::function<void()>> unfinished_
      ABSL_GUARDED_BY(mutex_);  // waits for work that reads what is about to be overwritten
  bool stop_ ABSL_GUARDED_BY(mutex_) = false;
  std::atomic<int64_t> cpu_rows_[2] = {0, 0};  // computed on the CPU up to so many: experts; what is in order
  std::atomic<int64_t> streamed_bytes_ = 0;
  std::thread reader_;
};

}  // namespace causeway

#endif  // CAUSEWAY_ENGINE_WEIGHTS_WEIGHT_STREAM_H_
