#include "engine/architecture/shard.h"

#include <algorithm>
#include <string>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "engine/base/status.h"

namespace causeway {
namespace {

bool HasBias(const LinearSpec& spec) {
  return std::any_of(spec.parts.begin(), spec.parts.end(),
                     [](const LinearSpec::Part& part) { return !part.bias.empty(); });
}

absl::StatusOr<int64_t> Share(int64_t whole, ParallelGroup group, const LinearSpec& spec) {
  if (whole % group.size == 0) return whole / group.size;
  return absl::InvalidArgumentError(absl::StrCat(spec.parts.front().weight, ": ", whole,
                                                 " features cannot be cut into ", group.size, " equal shares"));
}

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
    CAUSEWAY_ASSIGN_OR_RETURN(const int64_t share, Share(outputs, group, spec));
    shard.outputs.push_back({first + share * group.rank, share});
    first += outputs;
  }
  if (first == spec.out_features()) return shard;
  return absl::InvalidArgumentError(absl::StrCat(spec.parts.front().weight, ": groups of ", first,
                                                 " outputs, but the linear has ", spec.out_features()));
}

absl::StatusOr<LinearShard> RowShard(const LinearSpec& spec, ParallelGroup group) {
  CAUSEWAY_ASSIGN_OR_RETURN(const int64_t share, Share(spec.in_features, group, spec));
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

}  // namespace causeway
