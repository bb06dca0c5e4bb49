// Brings the weights that a device does not hold to it, ahead of need.
#ifndef CAUSEWAY_ENGINE_WEIGHTS_WEIGHT_STREAM_H_
#define CAUSEWAY_ENGINE_WEIGHTS_WEIGHT_STREAM_H_

#include <atomic>
#include <cstdint>
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
#include "engine/staging/staging_ring.h"
#include "engine/weights/fetcher.h"
#include "engine/weights/stored_table.h"
#include "engine/weights/targets.h"
#include "engine/weights/weight_store.h"

namespace causeway {

// One device's. Weights lie in a WeightStore, as they are computed from. A thread of its own reads them into the
// staging buffer; a StagingRing says which one is read next, and to where.
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
                         at::ScalarType dtype, at::ScalarType activations, const WeightFormat& format, bool shared);
  // For the loader: sets the targets' portions, 1, 2, ... One call at a time, any thread.
  void SetPortions(LoadTargets& targets) const;
  absl::Status BeginPortion(int portion);
  absl::Status EndPortion(int portion);
  // Then it can be used. What lies in CPU memory is computed there for up to cpu_rows rows, of a step or, for an
  // expert, of its own, and brought to the device for more. Without a number it finds out up to how many that is
  // faster.
  absl::Status Start(at::ScalarType activations, std::optional<int64_t> cpu_rows);

  // Ahead of a step's linears: how many rows it has.
  void BeginStep(int64_t rows);
  void Expect(const std::vector<Use>& uses) override;
  const LinearWeight& Acquire(const LinearWeight& weight) override;
  void Release(const LinearWeight& weight) override;
  at::Tensor Rows(const std::string& tensor, const at::Tensor& ids) override;
  // After a step that failed: nothing is acquired any more.
  void ReleaseAll();

  int64_t streamed_bytes() const { return streamed_bytes_; }  // any thread
  int64_t cpu_rows(bool in_order) const;                      // any thread; 0 before Start, and where none can be

 private:
  struct Entry {
    WeightStore::Place place;
    std::shared_ptr<LinearWeight> weight;
    std::vector<at::Tensor> tensors;  // of the weight
    std::shared_ptr<LinearWeight>
        on_cpu;  // computes from CPU memory: the weight itself where the device does too; null: nothing can
    bool in_order = true;
    int portion = LinearTarget::kFilled;

    int64_t bytes() const { return place.bytes; }
  };

  const Tier* TierOf(const std::string& tensor) const;  // null: the device holds it
  int64_t CpuRows(at::ScalarType activations, bool in_order, std::optional<int64_t> given);
  // The weight's room may be read into again, once the work started so far is done.
  void Leave(int index) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void ReadLoop();
  bool HasWork() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  DeviceRuntime& runtime_;
  WeightStore store_;
  const int64_t staging_bytes_, activations_;
  std::map<std::string, Tier> tier_of_;  // by module prefix
  std::vector<Entry> entries_;           // by the ring's ids
  std::unordered_map<const LinearWeight*, int> entry_of_;
  std::map<std::string, StoredTable> tables_;
  int portions_ = 0;
  at::Tensor buffer_;
  char* staging_ = nullptr;  // in it, aligned

  mutable absl::Mutex mutex_;
  StagingRing ring_ ABSL_GUARDED_BY(mutex_);
  std::vector<std::function<void()>> unfinished_
      ABSL_GUARDED_BY(mutex_);  // waits for work that reads what is about to be overwritten
  bool stop_ ABSL_GUARDED_BY(mutex_) = false;
  std::atomic<int64_t> streamed_bytes_ = 0;
  std::thread reader_;
};

}  // namespace causeway

#endif  // CAUSEWAY_ENGINE_WEIGHTS_WEIGHT_STREAM_H_
