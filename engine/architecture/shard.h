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

// The devices that hold one layer's linears together, each a shard.
struct ParallelGroup {
  int rank = 0;
  int size = 1;
};

// [first, first + count) of what is cut.
struct ShareRange {
  int64_t first = 0, count = 0;
};
// Of `whole` the rank's share: ranks differ by one at most, and the first have more.
ShareRange ShareOf(int64_t whole, ParallelGroup group);

struct LinearShard {
  // Of the outputs of all parts, concatenated: the runs held here, in the order they are held.
  std::vector<ShareRange> outputs;
  int64_t in_first = 0, in_count = 0;
  bool bias = false;
  // Row-parallel: what is computed from it is a part, and the ranks' parts add up to the whole.
  bool partial = false;

  int64_t out_count() const;
};

// All of the linear: the shard of a group of one, and on every rank that of a router.
LinearShard WholeShard(const LinearSpec& spec);

// All that follow are InvalidArgument, with what it is about, where it cannot be cut so.

// Attention is cut by heads, those of a key/value head together, so that shares need not be equal. Where there are
// more ranks than key/value heads, several ranks have the same one, and share its queries.
struct HeadShare {
  ShareRange heads, kv_heads;
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

// An MLP, or each expert of a mixture, is cut by its width, in units of 32 or of a group of inputs that share a scale.
struct MlpShard {
  LinearShard up, down;
};
absl::StatusOr<MlpShard> ShardMlp(const MlpSpec& mlp, ParallelGroup group);

// The head, and the table of embeddings with it, is cut by words: each rank has the logits of its own.
absl::StatusOr<ShareRange> ShardWords(const ModelSpec& spec, ParallelGroup group);
absl::StatusOr<LinearShard> ShardHead(const ModelSpec& spec, ParallelGroup group);

// The model as a rank has it, for whoever counts bytes or work: sizes of linears, heads and experts are those of its
// shards (and the table of embeddings is cut by words as the head is), and the module tree counts the bytes that it
// holds, in proportion. What is not cut each rank has: routers, the other norms, position embeddings. Names, hidden and
// vocabulary sizes are the model's; what a checkpoint stores, only the whole spec says.
absl::StatusOr<ModelSpec> Shard(const ModelSpec& spec, ParallelGroup group);

// The sizes of groups, up to `most`, that the model can be cut for: 1 at least.
std::vector<int> GroupSizes(const ModelSpec& spec, int most);

}  // namespace causeway

#endif  // CAUSEWAY_ENGINE_ARCHITECTURE_SHARD_H_
