#include "engine/execution/step_batch.h"

#include <algorithm>
#include <utility>

#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/tensor.h>
#include <ATen/ops/zeros.h>

#include "absl/strings/str_cat.h"
#include "engine/base/status.h"

namespace causeway {
namespace {

absl::Status Check(const StepSequence& sequence, const BatchLimits& limits) {
  auto error = [&sequence](const auto&... what) {
    return absl::InternalError(absl::StrCat("step plan, sequence ", sequence.sequence, ": ", what...));
  };
  const int64_t rows = sequence.tokens.size(), end = sequence.context + rows;
  if (rows == 0) return error("no tokens");
  if (sequence.slot < 0 || sequence.slot >= limits.slots) return error("slot ", sequence.slot, " of ", limits.slots);
  if (sequence.context < 0 || end > limits.positions)
    return error("positions up to ", end, ", the longest is ", limits.positions);
  if (static_cast<int64_t>(sequence.block_table.size()) * kBlockTokens < end) {
    return error(sequence.block_table.size(), " blocks for ", end, " tokens");
  }
  for (int32_t block : sequence.block_table) {
    if (block < 0 || block >= limits.blocks) return error("block ", block, " of ", limits.blocks);
  }
  if (static_cast<int64_t>(sequence.targets.size()) + sequence.sample > rows)
    return error(sequence.targets.size(), " targets for ", rows, " rows");
  for (const int32_t target : sequence.targets) {
    if (target < 0 || target >= limits.vocab) return error("target ", target, " of a vocabulary of ", limits.vocab);
  }
  for (int64_t i = 0; i < rows; ++i) {
    const int32_t token = sequence.tokens[i];
    if (token == kPlaceholderToken && i == rows - 1) continue;
    if (token < 0 || token >= limits.vocab) return error("token ", token, " of a vocabulary of ", limits.vocab);
  }
  return absl::OkStatus();
}

}  // namespace

at::Tensor StepBatch::FilledIds(const std::vector<int32_t>& last_tokens) const {
  if (placeholders.empty()) return ids;
  at::Tensor filled = ids.clone();
  int64_t* values = filled.data_ptr<int64_t>();
  for (const Placeholder& placeholder : placeholders) values[placeholder.row] = last_tokens[placeholder.slot];
  return filled;
}

LocalIds IdsWithin(const at::Tensor& ids, ShareRange words) {
  LocalIds local{at::empty_like(ids), at::Tensor()};
  const int64_t* from = ids.const_data_ptr<int64_t>();
  int64_t* to = local.ids.data_ptr<int64_t>();
  std::vector<int64_t> foreign;
  for (int64_t row = 0; row < ids.numel(); ++row) {
    to[row] = from[row] - words.first;
    if (to[row] >= 0 && to[row] < words.count) continue;
    to[row] = 0;
    foreign.push_back(row);
  }
  if (!foreign.empty()) local.foreign = at::tensor(foreign, at::kLong);
  return local;
}

absl::StatusOr<StepBatch> MakeStepBatch(const StepPlan& plan, const BatchLimits& limits) {
  StepBatch batch;
  const int64_t sequences = plan.sequences.size();
  int64_t blocks_max = 0;
  for (const StepSequence& sequence : plan.sequences) {
    CAUSEWAY_RETURN_IF_ERROR(Check(sequence, limits));
    batch.tokens += sequence.tokens.size();
    const int64_t end = sequence.context + sequence.tokens.size();
    blocks_max = std::max(blocks_max, BlocksFor(end));
  }
  AttentionBatch& attention = batch.attention;
  batch.ids = at::empty({batch.tokens}, at::kLong);
  attention.positions = at::empty({batch.tokens}, at::kLong);
  attention.slots = at::empty({batch.tokens}, at::kLong);
  attention.block_tables = at::zeros({sequences, blocks_max}, at::kInt);
  attention.query_start = at::empty({sequences + 1}, at::kInt);
  attention.context_lens = at::empty({sequences}, at::kInt);
  attention.query_start_host.reserve(sequences + 1);
  attention.query_start_host.push_back(0);
  std::vector<int64_t> rows;

  int64_t* ids = batch.ids.data_ptr<int64_t>();
  int64_t* positions = attention.positions.data_ptr<int64_t>();
  int64_t* slots = attention.slots.data_ptr<int64_t>();
  int32_t* table = attention.block_tables.data_ptr<int32_t>();
  int64_t row = 0;
  for (const StepSequence& sequence : plan.sequences) {
    const int64_t count = sequence.tokens.size(), end = sequence.context + count;
    for (int64_t i = 0; i < count; ++i, ++row) {
      const int64_t position = sequence.context + i;
      if (sequence.tokens[i] == kPlaceholderToken) batch.placeholders.push_back({row, sequence.slot});
      ids[row] = std::max(sequence.tokens[i], 0);
      positions[row] = position;
      slots[row] = sequence.block_table[position / kBlockTokens] * kBlockTokens + position % kBlockTokens;
    }
    std::copy_n(sequence.block_table.begin(), BlocksFor(end), table);
    table += blocks_max;
    attention.query_start_host.push_back(row);
    attention.context_lens_host.push_back(end);
    attention.context_max = std::max(attention.context_max, end);
    const int64_t selected =
        sequence.all_logits ? count : static_cast<int64_t>(sequence.targets.size()) + sequence.sample;
    batch.selected.push_back({static_cast<int64_t>(rows.size()), selected});
    for (int64_t i = row - selected; i < row; ++i) rows.push_back(i);
  }
  std::copy(attention.query_start_host.begin(), attention.query_start_host.end(),
            attention.query_start.data_ptr<int32_t>());
  std::copy(attention.context_lens_host.begin(), attention.context_lens_host.end(),
            attention.context_lens.data_ptr<int32_t>());
  batch.selected_rows = rows.size();
  if (batch.selected_rows != batch.tokens) {
    batch.rows = at::empty({batch.selected_rows}, at::kLong);
    std::copy(rows.begin(), rows.end(), batch.rows.data_ptr<int64_t>());
  }
  return batch;
}

TokenPlaces PlaceholdersOf(const StepBatch& batch) {
  if (batch.placeholders.empty()) return {};
  std::vector<int64_t> rows, slots;
  for (const StepBatch::Placeholder& placeholder : batch.placeholders) {
    rows.push_back(placeholder.row);
    slots.push_back(placeholder.slot);
  }
  return {at::tensor(rows, at::kLong), at::tensor(slots, at::kLong)};
}

TokenPlaces SamplesOf(const StepPlan& plan, const StepBatch& batch) {
  std::vector<int64_t> rows, slots;
  for (size_t i = 0; i < plan.sequences.size(); ++i) {
    if (!plan.sequences[i].sample) continue;
    rows.push_back(batch.selected[i].first + batch.selected[i].count - 1);
    slots.push_back(plan.sequences[i].slot);
  }
  if (rows.empty()) return {};
  return {at::tensor(rows, at::kLong), at::tensor(slots, at::kLong)};
}

DeviceBatch Upload(const StepBatch& host, const LocalIds& ids, const TokenPlaces& placeholders,
                   const TokenPlaces& samples, DeviceRuntime& runtime) {
  DeviceBatch device;
  device.attention = host.attention;
  AttentionBatch& attention = device.attention;
  const std::pair<at::Tensor, at::Tensor*> tensors[] = {{ids.ids, &device.ids.ids},
                                                        {ids.foreign, &device.ids.foreign},
                                                        {host.rows, &device.rows},
                                                        {attention.positions, &attention.positions},
                                                        {attention.slots, &attention.slots},
                                                        {attention.block_tables, &attention.block_tables},
                                                        {attention.query_start, &attention.query_start},
                                                        {attention.context_lens, &attention.context_lens},
                                                        {placeholders.rows, &device.placeholders.rows},
                                                        {placeholders.slots, &device.placeholders.slots},
                                                        {samples.rows, &device.samples.rows},
                                                        {samples.slots, &device.samples.slots}};
  std::vector<at::Tensor> hosts;
  for (const auto& [from, to] : tensors) hosts.push_back(from);
  const std::vector<at::Tensor> uploaded = runtime.UploadAll(hosts);
  for (size_t i = 0; i < uploaded.size(); ++i) *tensors[i].second = uploaded[i];
  return device;
}

}  // namespace causeway
