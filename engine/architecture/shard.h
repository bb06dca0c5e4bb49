// How a model is cut over the ranks of a tensor-parallel group: the one home of what each rank has, and of what cannot
// be cut. Loading takes shards of linears, plans and searches take the model of a rank.
#ifndef CAUSEWAY_ENGINE_ARCHITECTURE_SHARD_H_
#define CAUSEWAY_ENGINE_ARCHITECTURE_SHARD_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "engine/architecture/spec.h"

namespace causeway {

// The devices that hold one layer's linears together, each a shard. Those that serve have a size of one today
// (MissingForGroup), but shards are cut, loaded and tested for any.
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

// All of the linear: the shard of a group of one, and on every rank that of a router.
LinearShard WholeShard(const LinearSpec& spec);

// All that follow are InvalidArgument, with what it is about, where it cannot be cut so.

// Cuts outputs: of each of `groups` (sizes that add up to the spec's outputs: q, k, v; or gate, up) rank r has the r-th
// of `size` equal shares. Outputs stay apart between ranks; no sum is needed.
absl::StatusOr<LinearShard> ColumnShard(const LinearSpec& spec, const std::vector<int64_t>& groups,
                                        ParallelGroup group);
// Cuts inputs: the ranks' outputs add up to the whole, the bias being added by rank 0 alone.
absl::StatusOr<LinearShard> RowShard(const LinearSpec& spec, ParallelGroup group);

// Attention is cut by heads, and the ranks' outputs add up to the whole.
struct HeadShare {
  int64_t heads = 0, kv_heads = 0;
};
absl::StatusOr<HeadShare> ShardHeads(const ModelSpec& spec, ParallelGroup group);
struct AttentionShard {
  HeadShare share;
  LinearShard qkv, output;
};
absl::StatusOr<AttentionShard> ShardAttention(const ModelSpec& spec, const AttentionSpec& attention,
                                              ParallelGroup group);
// Whether queries and keys are normed over all heads together: ranks then have to tell each other their sums of
// squares.
bool NormsAllHeads(const AttentionSpec& attention);

// An MLP, or each expert of a mixture, is cut by its width, and the ranks' outputs add up to the whole.
struct MlpShard {
  LinearShard up, down;
};
absl::StatusOr<MlpShard> ShardMlp(const MlpSpec& mlp, ParallelGroup group);

// The head is cut by words: each rank has the logits of its own.
absl::StatusOr<LinearShard> ShardHead(const ModelSpec& spec, ParallelGroup group);

// The model as a rank has it, for whoever counts bytes or work: sizes of linears, heads and experts are those of its
// shards (and the table of embeddings is cut by words as the head is), and the module tree counts the bytes that it
// holds, in proportion. What is not cut each rank has: routers, the other norms, position embeddings. Names, hidden and
// vocabulary sizes are the model's; what a checkpoint stores, only the whole spec says.
absl::StatusOr<ModelSpec> Shard(const ModelSpec& spec, ParallelGroup group);

// What this version lacks to serve the model over groups of this size, in words; empty: nothing. Nobody else says so.
std::string MissingForGroup(const ModelSpec& spec, int size);

}  // namespace causeway

#endif  // CAUSEWAY_ENGINE_ARCHITECTURE_SHARD_H_
