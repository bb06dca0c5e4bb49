// A Hugging Face checkpoint folder: config.json and safetensors files. Opening reads headers only; a tensor's bytes are
// read on demand, straight into the caller's memory.
#ifndef CAUSEWAY_ENGINE_CHECKPOINT_CHECKPOINT_H_
#define CAUSEWAY_ENGINE_CHECKPOINT_CHECKPOINT_H_

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "engine/base/dtype.h"
#include "engine/checkpoint/file.h"
#include "engine/checkpoint/json.h"

namespace causeway {

struct TensorInfo {
  std::string name;
  DType dtype;
  std::vector<int64_t> shape;
  int file;         // index into Checkpoint::files()
  uint64_t offset;  // where the first byte is in that file
  uint64_t bytes;
};

// Immutable after Open; thread-safe. Files stay open as long as the object lives.
class Checkpoint {
 public:
  // Opens model.safetensors, or else the shards that model.safetensors.index.json names. NotFound: no folder, no
  // config.json, no safetensors (pickle files are refused by name), missing shards (all listed). InvalidArgument: a
  // file breaks the format; the message names file and tensor. What can be done without is a warning: a broken
  // generation_config.json, and tensors that are in the index or a shard alone.
  // kOptional: a folder whose weights are not there, or not all, has no files and no tensors.
  enum class Weights : uint8_t { kRequired, kOptional };
  static absl::StatusOr<std::unique_ptr<Checkpoint>> Open(const std::string& folder,
                                                          Weights weights = Weights::kRequired);
  ~Checkpoint();

  const std::string& folder() const { return folder_; }
  const Json& config() const { return *config_; }
  // The content of generation_config.json, or an empty object.
  const Json& generation_config() const { return *generation_config_; }
  const std::vector<std::string>& warnings() const { return warnings_; }
  // Paths of the safetensors files.
  const std::vector<std::string>& files() const { return files_; }
  const std::map<std::string, TensorInfo>& tensors() const { return tensors_; }

  // Reads bytes [offset, offset + destination.size()) of the tensor. OutOfRange: beyond its end. DataLoss: the file has
  // become shorter than its header said, or cannot be read. Any number of threads may read at once.
  absl::Status Read(const TensorInfo& tensor, uint64_t offset, absl::Span<char> destination) const;

  // The descriptor of a file, open as long as this object lives.
  int descriptor(int file) const { return open_files_[file].descriptor(); }

  // Advises the system that these bytes of file `file` will be read; they may reach past its end. Returns false where
  // they are in memory, as far as a look at the first byte tells. Any number of threads may call it.
  bool WillRead(int file, uint64_t offset, uint64_t bytes) const;

 private:
  Checkpoint();
  // Opens one file, checks its header and takes its tensors in.
  absl::Status AddFile(const std::string& name);
  // Warns where the index and its shards disagree: of tensors that are missing their user says so.
  void CompareIndex(const std::map<std::string, std::string>& shard_of);

  std::string folder_;
  std::unique_ptr<const Json> config_, generation_config_;  // not members: their type is only declared here
  std::vector<std::string> files_, warnings_;
  std::vector<File> open_files_;  // beside files_
  std::map<std::string, TensorInfo> tensors_;
};

}  // namespace causeway

#endif  // CAUSEWAY_ENGINE_CHECKPOINT_CHECKPOINT_H_
