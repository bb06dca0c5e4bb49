// Where the weights lie that one device does not hold: in CPU memory, in a packed file, or in the checkpoint's own.
#ifndef CAUSEWAY_ENGINE_WEIGHTS_WEIGHT_STORE_H_
#define CAUSEWAY_ENGINE_WEIGHTS_WEIGHT_STORE_H_

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "engine/device/device_runtime.h"
#include "engine/weights/direct_file.h"
#include "engine/weights/offload_file.h"
#include "engine/weights/offloaded_weight.h"

namespace causeway {

// One thread at a time. The runtime and the checkpoint must outlive it.
class WeightStore {
 public:
  explicit WeightStore(DeviceRuntime& runtime) : runtime_(runtime) {}

  // One weight, `bytes` as PackedBytes has them.
  struct Place {
    std::string name;
    int64_t bytes = 0;
    bool on_disk = false;
    int64_t offset = 0;               // on disk: in the packed file, or else
    std::vector<StoredPiece> stored;  // what it is in the checkpoint's files
    at::Tensor host;                  // in CPU memory
  };
  // Makes room for them. `contents` says what else than names and sizes decides how they are packed; without `reuse` a
  // file that an earlier run wrote is of no use. Errors are OffloadFile::Open's.
  absl::Status Open(const std::vector<Place*>& places, const Checkpoint& checkpoint, const std::string& folder,
                    const std::string& contents, bool reuse);

  // Whether its bytes are there without being put.
  bool Filled(const Place& place) const { return place.on_disk && (!place.stored.empty() || !writing_); }
  // From or to the device's memory. Waits for the copy, and not for work that was started.
  absl::Status Put(const Place& place, const char* from);
  absl::Status Finish();  // behind all of Put
  absl::Status Get(const Place& place, char* to);

 private:
  DeviceRuntime& runtime_;
  std::map<int, DirectFile> checkpoint_files_;  // those that weights are read from, by index
  std::unique_ptr<OffloadFile> packed_;         // null: none is packed
  bool writing_ = false;
  at::Tensor pinned_;      // on the way between disk and the device, where that is not straight
  char* piece_ = nullptr;  // in it, aligned
};

}  // namespace causeway

#endif  // CAUSEWAY_ENGINE_WEIGHTS_WEIGHT_STORE_H_
