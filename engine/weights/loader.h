// Fills a model's weights from a checkpoint.
#ifndef CAUSEWAY_ENGINE_WEIGHTS_LOADER_H_
#define CAUSEWAY_ENGINE_WEIGHTS_LOADER_H_

#include <cstdint>
#include <functional>
#include <string>

#include "absl/status/status.h"
#include "absl/types/span.h"
#include "engine/checkpoint/checkpoint.h"
#include "engine/weights/targets.h"

namespace causeway {

struct LoadOptions {
  bool whole = true;  // whether the targets are all of the model's; else other processes load the rest
  int readers = 4;    // threads that read and convert, over all devices
  // Each reader's buffer at most. A conversion may hold as much again; unpacking GPTQ or AWQ, three times as much.
  int64_t staging_bytes = int64_t{16} << 20;
  std::function<void()> enter_thread;                                     // called first on each reader; may be null
  std::function<void(int64_t bytes_done, int64_t bytes_total)> progress;  // one call at a time; may be null
  // Asked by readers before each read, one call at a time: an error ends the loading, whose status it is. May be null.
  std::function<absl::Status()> proceed;
  // Called once at most, by a reader, when the files turn out not to be in memory: readers wait for the disk, and
  // processors have time for other work. May be null.
  std::function<void()> from_disk;
  // Told of tensors with values that are NaN or infinite, and of how many more of them: several times for one that
  // several readers have read. One call at a time; may be null.
  std::function<void(const std::string& tensor, int64_t values)> not_finite;
  // Around each portion but 0, by the calling thread: make room for its targets, and put away what they were filled
  // with. May be null.
  std::function<absl::Status(int portion)> begin_portion, end_portion;
};

// Reads the tensors of the checkpoint into the targets, each rank's on all of its devices: every rank has a share of
// each, or all of it. Shares of rows that become int8 are read twice: they get the scales of the whole rows, as far as
// the ranks given have them. InvalidArgument: the checkpoint is not the spec's, or a tensor, which is named, has
// contents that the spec rules out or its format cannot hold (tied tensors that differ, quantized ones that config.json
// contradicts, NaN). Unimplemented: linears computed as one whose inputs are ordered differently. Internal: a tensor is
// used by several targets, a tied embedding's copy aside, or of a whole model by none. DataLoss: a file has become
// shorter.
absl::Status LoadWeights(const ModelSpec& spec, const Checkpoint& checkpoint, absl::Span<const LoadTargets> ranks,
                         const LoadOptions& options);

}  // namespace causeway

#endif  // CAUSEWAY_ENGINE_WEIGHTS_LOADER_H_
