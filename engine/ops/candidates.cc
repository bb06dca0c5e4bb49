#include "engine/ops/candidates.h"

#include <algorithm>
#include <limits>

#include <ATen/TensorOperators.h>
#include <ATen/core/IListRef.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/full.h>
#include <ATen/ops/nan_to_num.h>
#include <ATen/ops/sort.h>
#include <c10/util/Exception.h>

#include "absl/base/casts.h"
#include "engine/ops/reference.h"
#include "engine/threads/for_each.h"

namespace causeway {
namespace {

constexpr float kNever = -std::numeric_limits<float>::infinity();
constexpr int32_t kNone = -1;

}  // namespace

at::Tensor CandidatesOnHost(const at::Tensor& logits, int64_t count, int64_t first) {
  const at::Tensor dense = logits.contiguous();
  const int64_t share = dense.size(1), columns = CandidateColumns(count);
  at::Tensor found = at::empty({dense.size(0), columns}, at::kFloat);
  float* const results = found.data_ptr<float>();
  ForEach(dense.size(0), [&](int64_t i) {
    thread_local std::vector<float> row;
    thread_local SampleScratch scratch;
    row.resize(share);
    float* const result = results + i * columns;
    result[0] = WidenRow(dense, i, row.data());
    FindCandidates(row, count, scratch);
    float *ids = result + 1, *values = ids + count;
    std::fill_n(ids, count, absl::bit_cast<float>(kNone));
    std::fill_n(values, count, kNever);
    for (const SampleScratch::Candidate& candidate : scratch.kept) {
      *ids++ = absl::bit_cast<float>(static_cast<int32_t>(candidate.token + first));
      *values++ = candidate.logit;
    }
  });
  return found;
}

at::Tensor CandidatesOnDevice(const at::Tensor& logits, int64_t count, int64_t first) {
  const int64_t rows = logits.size(0), found = std::min(count, logits.size(1));
  const at::Tensor raw = at::nan_to_num(logits.to(at::kFloat), kNever, -kNever, kNever);
  const auto [sorted, order] =
      at::sort(raw, /*stable=*/true, /*dim=*/1, /*descending=*/true);  // lower ids first on ties
  const at::Tensor values = sorted.narrow(1, 0, found);
  const at::Tensor ids = (order.narrow(1, 0, found) + first).to(at::kInt).masked_fill_(values == kNever, kNone);
  const at::Tensor no_ids = at::full({rows, count - found}, kNone, ids.options()),
                   no_values = at::full({rows, count - found}, kNever, values.options());
  return at::cat({logits.isfinite().all(1, /*keepdim=*/true).to(at::kFloat), at::cat({ids, no_ids}, 1).view(at::kFloat),
                  values, no_values},
                 1);
}

std::vector<SampleOutput> SampleAmong(const at::Tensor& shares, int64_t count, const std::vector<SampleRow>& rows) {
  const int64_t columns = CandidateColumns(count);
  TORCH_CHECK(shares.size(0) == static_cast<int64_t>(rows.size()) && shares.size(1) % columns == 0,
              "SampleAmong: ", rows.size(), " rows of ", count, " candidates asked for, but those found have shape ",
              shares.sizes());
  const at::Tensor dense = shares.contiguous();
  const float* const values = dense.const_data_ptr<float>();
  std::vector<SampleOutput> outputs(rows.size());
  ForEach(static_cast<int64_t>(rows.size()), [&](int64_t i) {
    thread_local SampleScratch scratch;
    scratch.kept.clear();
    for (int64_t begin = i * dense.size(1); begin < (i + 1) * dense.size(1); begin += columns) {
      const float* const share = values + begin;
      outputs[i].finite = outputs[i].finite && share[0] != 0;
      for (int64_t c = 1; c <= count; ++c) {
        const int32_t token = absl::bit_cast<int32_t>(share[c]);
        if (token != kNone) scratch.kept.push_back({share[c + count], token});
      }
    }
    std::sort(scratch.kept.begin(), scratch.kept.end(), [](const auto& a, const auto& b) { return a.token < b.token; });
    outputs[i].token = ChooseCandidate(rows[i], scratch);
  });
  return outputs;
}

}  // namespace causeway
