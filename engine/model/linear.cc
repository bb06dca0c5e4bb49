#include "engine/model/linear.h"

#include <algorithm>
#include <utility>

#include <c10/util/Exception.h>

namespace causeway {
namespace {

bool HasBias(const LinearSpec& spec) {
  return std::any_of(spec.parts.begin(), spec.parts.end(),
                     [](const LinearSpec::Part& part) { return !part.bias.empty(); });
}

int64_t Share(int64_t whole, ParallelGroup group, const LinearSpec& spec) {
  TORCH_CHECK(whole % group.size == 0, spec.parts.front().weight, ": ", whole, " features cannot be cut into ",
              group.size, " equal shares");
  return whole / group.size;
}

}  // namespace

int64_t LinearShard::out_count() const {
  int64_t count = 0;
  for (const Run& run : outputs) count += run.count;
  return count;
}

LinearShard ColumnShard(const LinearSpec& spec, const std::vector<int64_t>& groups, ParallelGroup group) {
  LinearShard shard{.outputs = {}, .in_first = 0, .in_count = spec.in_features, .bias = HasBias(spec)};
  int64_t first = 0;
  for (int64_t outputs : groups) {
    const int64_t share = Share(outputs, group, spec);
    shard.outputs.push_back({first + share * group.rank, share});
    first += outputs;
  }
  TORCH_CHECK(first == spec.out_features(), spec.parts.front().weight, ": groups of ", first,
              " outputs, but the linear has ", spec.out_features());
  return shard;
}

LinearShard RowShard(const LinearSpec& spec, ParallelGroup group) {
  const int64_t share = Share(spec.in_features, group, spec);
  const std::string& name = spec.parts.front().weight;
  TORCH_CHECK(group.size == 1 || !spec.format.reordered, name,
              ": inputs ordered by activation cannot be cut into shares");
  TORCH_CHECK(group.size == 1 || spec.format.group == 0 || share % spec.format.group == 0, name, ": shares of ", share,
              " inputs would cut groups of ", spec.format.group);
  return {.outputs = {{0, spec.out_features()}},
          .in_first = share * group.rank,
          .in_count = share,
          .bias = HasBias(spec) && group.rank == 0};
}

Linear::Linear(const ModelContext& context, const LinearSpec& spec, LinearShard shard)
    : spec_(spec), shard_(std::move(shard)) {
  const auto make = [&](at::Device device) -> std::unique_ptr<LinearWeight> {
    // An order of inputs is set where the weight is loaded, on the device alone.
    if (device != context.device && spec.format.reordered) return nullptr;
    return context.ops.NewLinear(shard_.out_count(), shard_.in_count, shard_.bias, context.dtype, device, spec.format);
  };
  const std::string& tensor = spec.parts.front().weight;
  if (context.fetcher != nullptr && context.fetcher->Offloads(tensor)) {
    fetcher_ = context.fetcher;
    weight_ = fetcher_->Adopt(tensor, !context.on_demand, make);
  } else {
    weight_ = make(context.device);
  }
}

Linear::Linear(const LinearSpec& spec, std::shared_ptr<LinearWeight> shared)
    : spec_(spec), shard_(RowShard(spec, ParallelGroup())), weight_(std::move(shared)) {}

}  // namespace causeway
