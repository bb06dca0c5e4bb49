#include "engine/architecture/shard.h"

#include <algorithm>
#include <string>

#include "absl/status/status.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "engine/base/status.h"

namespace causeway {
namespace {

bool HasBias(const LinearSpec& spec) {
  return std::any_of(spec.parts.begin(), spec.parts.end(),
                     [](const LinearSpec::Part& part) { return !part.bias.empty(); });
}

absl::StatusOr<int64_t> EqualShare(int64_t whole, ParallelGroup group, absl::string_view what) {
  if (whole % group.size == 0) return whole / group.size;
  return absl::InvalidArgumentError(
      absl::StrCat(whole, " ", what, " cannot be cut into ", group.size, " equal shares"));
}

absl::StatusOr<int64_t> EqualShare(int64_t whole, ParallelGroup group, const LinearSpec& spec) {
  absl::StatusOr<int64_t> share = EqualShare(whole, group, "features");
  if (share.ok()) return share;
  return absl::InvalidArgumentError(absl::StrCat(spec.parts.front().weight, ": ", share.status().message()));
}

// Makes a rank's specs and module tree out of the model's.
class Cutter {
 public:
  explicit Cutter(ModelSpec& rank) : modules_(rank.modules) {}

  void Cut(const LinearShard& shard, LinearSpec& linear) {
    int64_t first = 0;
    for (LinearSpec::Part& part : linear.parts) {
      const int64_t outputs = Held(shard, first, part.out_features);
      Module& module = modules_.At(ModulePath(part.weight));
      for (Parameter& parameter : module.parameters) {
        if (!parameter.tied_to.empty()) continue;
        const int64_t of_outputs = parameter.bytes() * outputs / part.out_features;
        const bool is_bias = !part.bias.empty() && absl::EndsWith(part.bias, absl::StrCat(".", parameter.name));
        parameter.held_bytes = !is_bias     ? of_outputs * shard.in_count / linear.in_features
                               : shard.bias ? of_outputs
                                            : 0;
      }
      first += part.out_features;
      part.out_features = outputs;
    }
    linear.in_features = shard.in_count;
  }

  void CutNorm(const NormSpec& norm, ParallelGroup group) {
    for (Parameter& parameter : modules_.At(ModulePath(norm.weight)).parameters)
      parameter.held_bytes = parameter.bytes() / group.size;
  }

 private:
  // Outputs first .. first + count - 1 that are in the shard.
  static int64_t Held(const LinearShard& shard, int64_t first, int64_t count) {
    int64_t held = 0;
    for (const LinearShard::Run& run : shard.outputs)
      held += std::max<int64_t>(0, std::min(first + count, run.first + run.count) - std::max(first, run.first));
    return held;
  }

  ModuleFinder modules_;
};

}  // namespace

int64_t LinearShard::out_count() const {
  int64_t count = 0;
  for (const Run& run : outputs) count += run.count;
  return count;
}

LinearShard WholeShard(const LinearSpec& spec) {
  return {.outputs = {{0, spec.out_features()}}, .in_first = 0, .in_count = spec.in_features, .bias = HasBias(spec)};
}

absl::StatusOr<LinearShard> ColumnShard(const LinearSpec& spec, const std::vector<int64_t>& groups,
                                        ParallelGroup group) {
  LinearShard shard{.outputs = {}, .in_first = 0, .in_count = spec.in_features, .bias = HasBias(spec)};
  int64_t first = 0;
  for (int64_t outputs : groups) {
    CAUSEWAY_ASSIGN_OR_RETURN(const int64_t share, EqualShare(outputs, group, spec));
    shard.outputs.push_back({first + share * group.rank, share});
    first += outputs;
  }
  if (first == spec.out_features()) return shard;
  return absl::InvalidArgumentError(absl::StrCat(spec.parts.front().weight, ": groups of ", first,
                                                 " outputs, but the linear has ", spec.out_features()));
}

absl::StatusOr<LinearShard> RowShard(const LinearSpec& spec, ParallelGroup group) {
  CAUSEWAY_ASSIGN_OR_RETURN(const int64_t share, EqualShare(spec.in_features, group, spec));
  const std::string& name = spec.parts.front().weight;
  if (group.size > 1 && spec.format.reordered) {
    return absl::InvalidArgumentError(absl::StrCat(name, ": inputs ordered by activation cannot be cut into shares"));
  }
  if (group.size > 1 && spec.format.group > 0 && share % spec.format.group != 0) {
    return absl::InvalidArgumentError(
        absl::StrCat(name, ": shares of ", share, " inputs would cut groups of ", spec.format.group));
  }
  return LinearShard{.outputs = {{0, spec.out_features()}},
                     .in_first = share * group.rank,
                     .in_count = share,
                     .bias = HasBias(spec) && group.rank == 0};
}

absl::StatusOr<HeadShare> ShardHeads(const ModelSpec& spec, ParallelGroup group) {
  HeadShare share;
  CAUSEWAY_ASSIGN_OR_RETURN(share.heads, EqualShare(spec.heads, group, "heads"));
  CAUSEWAY_ASSIGN_OR_RETURN(share.kv_heads, EqualShare(spec.kv_heads, group, "key/value heads"));
  return share;
}

absl::StatusOr<AttentionShard> ShardAttention(const ModelSpec& spec, const AttentionSpec& attention,
                                              ParallelGroup group) {
  AttentionShard shard;
  CAUSEWAY_ASSIGN_OR_RETURN(shard.share, ShardHeads(spec, group));
  const int64_t queries = spec.heads * spec.head_dim, keys = spec.kv_heads * spec.head_dim;
  CAUSEWAY_ASSIGN_OR_RETURN(shard.qkv, ColumnShard(attention.qkv, {queries, keys, keys}, group));
  CAUSEWAY_ASSIGN_OR_RETURN(shard.output, RowShard(attention.output, group));
  return shard;
}

bool NormsAllHeads(const AttentionSpec& attention) { return attention.norms.has_value() && !attention.norms->per_head; }

absl::StatusOr<MlpShard> ShardMlp(const MlpSpec& mlp, ParallelGroup group) {
  MlpShard shard;
  // A rank holds the same share of the gate as of what it gates.
  const int64_t outputs = mlp.up.out_features();
  const std::vector<int64_t> groups =
      mlp.gated ? std::vector<int64_t>{outputs / 2, outputs / 2} : std::vector<int64_t>{outputs};
  CAUSEWAY_ASSIGN_OR_RETURN(shard.up, ColumnShard(mlp.up, groups, group));
  CAUSEWAY_ASSIGN_OR_RETURN(shard.down, RowShard(mlp.down, group));
  return shard;
}

absl::StatusOr<LinearShard> ShardHead(const ModelSpec& spec, ParallelGroup group) {
  return ColumnShard(spec.head, {spec.head.out_features()}, group);
}

absl::StatusOr<ModelSpec> Shard(const ModelSpec& spec, ParallelGroup group) {
  if (group.size == 1) return spec;
  ModelSpec rank = spec;
  Cutter cutter(rank);
  CAUSEWAY_ASSIGN_OR_RETURN(const HeadShare share, ShardHeads(spec, group));
  rank.heads = share.heads;
  rank.kv_heads = share.kv_heads;
  const auto cut_mlp = [&](MlpSpec& mlp) {
    CAUSEWAY_ASSIGN_OR_RETURN(const MlpShard shard, ShardMlp(mlp, group));
    cutter.Cut(shard.up, mlp.up);
    cutter.Cut(shard.down, mlp.down);
    return absl::OkStatus();
  };
  for (LayerSpec& layer : rank.layers) {
    AttentionSpec& attention = layer.attention;
    CAUSEWAY_ASSIGN_OR_RETURN(const AttentionShard shard, ShardAttention(spec, attention, group));
    cutter.Cut(shard.qkv, attention.qkv);
    cutter.Cut(shard.output, attention.output);
    if (NormsAllHeads(attention)) {
      cutter.CutNorm(attention.norms->query, group);
      cutter.CutNorm(attention.norms->key, group);
    }
    if (!layer.moe.has_value()) {
      CAUSEWAY_RETURN_IF_ERROR(cut_mlp(layer.mlp));
      continue;
    }
    for (MlpSpec& expert : layer.moe->experts) CAUSEWAY_RETURN_IF_ERROR(cut_mlp(expert));
  }
  CAUSEWAY_ASSIGN_OR_RETURN(const LinearShard head, ShardHead(spec, group));
  cutter.Cut(head, rank.head);
  if (spec.tied_head) return rank;  // the table is the head's weight
  LinearSpec table{.parts = {{.weight = spec.embedding_weight, .bias = "", .out_features = spec.vocab_size}},
                   .in_features = spec.hidden_size};
  cutter.Cut(head, table);
  return rank;
}

std::string MissingForGroup(const ModelSpec& spec, int size) {
  if (size == 1) return "";
  const bool norms = std::any_of(spec.layers.begin(), spec.layers.end(),
                                 [](const LayerSpec& layer) { return NormsAllHeads(layer.attention); });
  return norms ? "tensor parallelism, norms over the heads of all ranks" : "tensor parallelism";
}

}  // namespace causeway
