#include "engine/architecture/shard.h"

#include <algorithm>
#include <numeric>
#include <string>
#include <utility>

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

constexpr int64_t kUnit = 32;      // columns and words are cut in units of as many, where there are enough
constexpr int64_t kUnitLeast = 8;  // or of fewer, if that makes shares equal

// A linear's `whole` outputs or inputs, cut in units. The last unit may be short.
absl::StatusOr<ShareRange> ShareInUnits(int64_t whole, int64_t unit, ParallelGroup group, const LinearSpec& spec,
                                        absl::string_view what) {
  const int64_t count = (whole + unit - 1) / unit;
  if (count >= group.size) {
    const ShareRange units = ShareOf(count, group);
    const int64_t first = units.first * unit;
    return ShareRange{first, std::min(whole, first + units.count * unit) - first};
  }
  return absl::InvalidArgumentError(absl::StrCat(spec.parts.front().weight, ": ", whole, " ", what,
                                                 unit > 1 ? absl::StrCat(" in groups of ", unit) : "",
                                                 " cannot be shared by ", group.size, " ranks"));
}

// The largest unit up to kUnit that makes equal shares, or else one for each rank.
int64_t UnitFor(int64_t whole, int size) {
  int64_t unit = kUnit;
  for (; unit >= kUnitLeast; unit /= 2) {
    if (whole % (unit * size) == 0) return unit;
  }
  unit = kUnit;
  while (unit > 1 && (whole + unit - 1) / unit < size) unit /= 2;
  return unit;
}

LinearShard ColumnShard(const LinearSpec& spec, std::vector<ShareRange> outputs) {
  return {.outputs = std::move(outputs), .in_first = 0, .in_count = spec.in_features, .bias = HasBias(spec)};
}

absl::StatusOr<LinearShard> RowShard(const LinearSpec& spec, ShareRange inputs, ParallelGroup group) {
  const auto refuse = [&spec](absl::string_view why) {
    return absl::InvalidArgumentError(absl::StrCat(spec.parts.front().weight, ": ", why));
  };
  const int64_t end = inputs.first + inputs.count, scales = spec.format.group;
  if (group.size > 1 && spec.format.reordered) return refuse("inputs ordered by activation cannot be cut into shares");
  if (group.size > 1 && scales > 0 && (inputs.first % scales != 0 || (end % scales != 0 && end != spec.in_features)))
    return refuse(absl::StrCat("shares of ", inputs.count, " inputs would cut groups of ", scales));
  return LinearShard{.outputs = {{0, spec.out_features()}},
                     .in_first = inputs.first,
                     .in_count = inputs.count,
                     .bias = HasBias(spec) && group.rank == 0,
                     .partial = group.size > 1};
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
      if (!shard.bias) part.bias.clear();
    }
    linear.in_features = shard.in_count;
  }

  void CutNorm(const NormSpec& norm, ShareRange heads, int64_t of) {
    for (Parameter& parameter : modules_.At(ModulePath(norm.weight)).parameters)
      parameter.held_bytes = parameter.bytes() * heads.count / of;
  }

  void CutTable(const std::string& weight, ShareRange words) {
    Parameter& table = modules_.At(ModulePath(weight)).parameters.front();
    table.held_bytes = table.bytes() * words.count / table.shape.at(0);
    table.shape[0] = words.count;
  }

 private:
  // Outputs first .. first + count - 1 that are in the shard.
  static int64_t Held(const LinearShard& shard, int64_t first, int64_t count) {
    int64_t held = 0;
    for (const ShareRange& run : shard.outputs)
      held += std::max<int64_t>(0, std::min(first + count, run.first + run.count) - std::max(first, run.first));
    return held;
  }

  ModuleFinder modules_;
};

}  // namespace

ShareRange ShareOf(int64_t whole, ParallelGroup group) {
  const int64_t each = whole / group.size, more = whole % group.size, rank = group.rank;
  return {rank * each + std::min(rank, more), each + (rank < more ? 1 : 0)};
}

int64_t LinearShard::out_count() const {
  int64_t count = 0;
  for (const ShareRange& run : outputs) count += run.count;
  return count;
}

LinearShard WholeShard(const LinearSpec& spec) {
  return {.outputs = {{0, spec.out_features()}}, .in_first = 0, .in_count = spec.in_features, .bias = HasBias(spec)};
}

absl::StatusOr<HeadShare> ShardHeads(const ModelSpec& spec, ParallelGroup group) {
  const int64_t queries = spec.heads / spec.kv_heads;  // of a key/value head
  // Key/value heads that stay together, so that outputs of attention are cut where a group with one scale ends.
  int64_t together = 1;
  for (const LayerSpec& layer : spec.layers) {
    const int64_t scales = layer.attention.output.format.group;
    if (scales > 0) together = std::lcm(together, scales / std::gcd(scales, queries * spec.head_dim));
  }
  const int64_t sets = (spec.kv_heads + together - 1) / together;
  if (group.size <= sets) {
    const ShareRange set = ShareOf(sets, group);
    const int64_t first = set.first * together, end = std::min(spec.kv_heads, (set.first + set.count) * together);
    return HeadShare{{first * queries, (end - first) * queries}, {first, end - first}};
  }
  const int64_t ranks = group.size / spec.kv_heads;  // that have the same key/value head
  if (group.size % spec.kv_heads != 0 || ranks > queries) {
    return absl::InvalidArgumentError(
        absl::StrCat(spec.heads, " heads, ", queries, " for each of ", spec.kv_heads, " key/value heads",
                     together > 1 ? absl::StrCat(" that stay ", together, " together for their outputs' scales") : "",
                     ", cannot be shared by ", group.size, " ranks"));
  }
  const int64_t kv = group.rank / ranks;
  const ShareRange part = ShareOf(queries, {static_cast<int>(group.rank % ranks), static_cast<int>(ranks)});
  return HeadShare{{kv * queries + part.first, part.count}, {kv, 1}};
}

absl::StatusOr<AttentionShard> ShardAttention(const ModelSpec& spec, const AttentionSpec& attention,
                                              ParallelGroup group) {
  AttentionShard shard;
  CAUSEWAY_ASSIGN_OR_RETURN(shard.share, ShardHeads(spec, group));
  const auto columns = [&spec](ShareRange heads, int64_t from) {
    return ShareRange{from + heads.first * spec.head_dim, heads.count * spec.head_dim};
  };
  const int64_t keys = spec.heads * spec.head_dim, values = keys + spec.kv_heads * spec.head_dim;
  const ShareRange queries = columns(shard.share.heads, 0);
  shard.qkv =
      ColumnShard(attention.qkv, {queries, columns(shard.share.kv_heads, keys), columns(shard.share.kv_heads, values)});
  CAUSEWAY_ASSIGN_OR_RETURN(shard.output, RowShard(attention.output, queries, group));
  return shard;
}

bool NormsAllHeads(const AttentionSpec& attention) { return attention.norms.has_value() && !attention.norms->per_head; }

absl::StatusOr<MlpShard> ShardMlp(const MlpSpec& mlp, ParallelGroup group) {
  const int64_t width = mlp.down.in_features, scales = mlp.down.format.group;
  CAUSEWAY_ASSIGN_OR_RETURN(
      const ShareRange columns,
      ShareInUnits(width, scales > 0 ? scales : UnitFor(width, group.size), group, mlp.down, "inputs"));
  MlpShard shard;
  // A rank holds the same share of the gate as of what it gates.
  std::vector<ShareRange> outputs = {columns};
  if (mlp.gated) outputs.push_back({width + columns.first, columns.count});
  shard.up = ColumnShard(mlp.up, std::move(outputs));
  CAUSEWAY_ASSIGN_OR_RETURN(shard.down, RowShard(mlp.down, columns, group));
  return shard;
}

absl::StatusOr<ShareRange> ShardWords(const ModelSpec& spec, ParallelGroup group) {
  return ShareInUnits(spec.vocab_size, UnitFor(spec.vocab_size, group.size), group, spec.head, "words");
}

absl::StatusOr<LinearShard> ShardHead(const ModelSpec& spec, ParallelGroup group) {
  CAUSEWAY_ASSIGN_OR_RETURN(const ShareRange words, ShardWords(spec, group));
  return ColumnShard(spec.head, {words});
}

absl::StatusOr<ModelSpec> Shard(const ModelSpec& spec, ParallelGroup group) {
  if (group.size == 1) return spec;
  ModelSpec rank = spec;
  Cutter cutter(rank);
  CAUSEWAY_ASSIGN_OR_RETURN(const HeadShare share, ShardHeads(spec, group));
  rank.heads = share.heads.count;
  rank.kv_heads = share.kv_heads.count;
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
      cutter.CutNorm(attention.norms->query, share.heads, spec.heads);
      cutter.CutNorm(attention.norms->key, share.kv_heads, spec.kv_heads);
    }
    if (!layer.moe.has_value()) {
      CAUSEWAY_RETURN_IF_ERROR(cut_mlp(layer.mlp));
      continue;
    }
    for (MlpSpec& expert : layer.moe->experts) CAUSEWAY_RETURN_IF_ERROR(cut_mlp(expert));
  }
  CAUSEWAY_ASSIGN_OR_RETURN(const LinearShard head, ShardHead(spec, group));
  if (!spec.tied_head) cutter.Cut(head, rank.head);
  cutter.CutTable(spec.embedding_weight, head.outputs.front());
  if (spec.tied_head) rank.head.parts.front().out_features = head.out_count();  // the table is the head's weight
  return rank;
}

std::vector<int> GroupSizes(const ModelSpec& spec, int most) {
  std::vector<int> sizes;
  for (int size = 1; size <= most; ++size) {
    bool every = true;
    for (int rank = 0; every && rank < size; ++rank) every = Shard(spec, {.rank = rank, .size = size}).ok();
    if (every) sizes.push_back(size);
  }
  return sizes;
}

}  // namespace causeway
