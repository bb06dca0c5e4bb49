// What one rank of a tensor-parallel group holds of a linear.
#ifndef CAUSEWAY_ENGINE_ARCHITECTURE_SHARD_H_
#define CAUSEWAY_ENGINE_ARCHITECTURE_SHARD_H_

#include <cstdint>
#include <vector>

#include "absl/status/statusor.h"
#include "engine/architecture/spec.h"

namespace causeway {

// The devices that hold one layer's linears together, each a shard. Of size one today: nothing sums the partial outputs
// of larger groups yet, but shards are cut, loaded and tested as if it did.
struct ParallelGroup {
  int rank = 0;
  int size = 1;
};

struct LinearShard {
  // Of the outputs of all parts, concatenated: the runs held here, in the order they are held.
  struct Run {
    int64_t first = 0, count = 0;
  };
  std::vector<Run> outputs;
  int64_t in_first = 0, in_count = 0;
  bool bias = false;

  int64_t out_count() const;
};

// All of the linear: the shard of a group of one.
LinearShard WholeShard(const LinearSpec& spec);

// Both are InvalidArgument, with the linear's name, where it cannot be cut so.

// Cuts outputs: of each of `groups` (sizes that add up to the spec's outputs: q, k, v; or gate, up) rank r has the r-th
// of `size` equal shares. Outputs stay apart between ranks; no sum is needed.
absl::StatusOr<LinearShard> ColumnShard(const LinearSpec& spec, const std::vector<int64_t>& groups,
                                        ParallelGroup group);
// Cuts inputs: the ranks' outputs add up to the whole, the bias being added by rank 0 alone.
absl::StatusOr<LinearShard> RowShard(const LinearSpec& spec, ParallelGroup group);

}  // namespace causeway

#endif  // CAUSEWAY_ENGINE_ARCHITECTURE_SHARD_H_
