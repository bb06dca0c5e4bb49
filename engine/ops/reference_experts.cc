// Routing and experts over ATen.
#include <optional>

#include <ATen/TensorOperators.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/searchsorted.h>
#include <ATen/ops/sigmoid.h>
#include <ATen/ops/softmax.h>
#include <ATen/ops/sort.h>
#include <c10/util/Exception.h>

#include "engine/ops/reference.h"

namespace causeway {

Routing ReferenceOps::Route(const at::Tensor& logits, const at::Tensor& correction, const RoutingRule& rule) {
  const int64_t experts = logits.size(1), count = rule.experts_per_token;
  TORCH_CHECK(count >= 1 && count <= experts, "Route: ", count, " of ", experts, " experts were asked for");
  TORCH_CHECK(!correction.defined() || correction.numel() == experts, "Route: ", correction.numel(),
              " corrections for ", experts, " experts");
  const at::Tensor in = logits.to(at::kFloat);
  const at::Tensor scores =
      rule.score == RouterScore::kSigmoid ? at::sigmoid(in) : at::softmax(in, -1);  // [tokens, experts]
  // The sort is stable, so that the lower of equal experts goes first; at::topk promises no order.
  const at::Tensor order = std::get<1>(
      at::sort(correction.defined() ? scores + correction : scores, /*stable=*/true, /*dim=*/-1, /*descending=*/true));
  const at::Tensor chosen = order.narrow(1, 0, count);
  at::Tensor weights = scores.gather(1, chosen);
  if (rule.normalize) weights = weights / weights.sum(-1, /*keepdim=*/true);
  return {chosen.to(at::kInt).contiguous(), weights};
}

at::Tensor ReferenceOps::Experts(const at::Tensor& x, const Routing& routing, const std::vector<ExpertWeights>& experts,
                                 Activation activation, std::vector<int32_t>* counts, ExpertFetcher* fetcher) {
  const int64_t tokens = x.size(0), width = x.size(1), terms = routing.experts.size(1),
                count = static_cast<int64_t>(experts.size());
  const auto [sorted, order] =
      at::sort(routing.experts.flatten(), /*stable=*/true, /*dim=*/0, /*descending=*/false);  // [tokens * terms]
  // Today each layer waits once for the device, to learn how many rows each expert has. Grouped products that read it
  // on the device need the experts' weights stacked in one tensor; then experts could no longer be placed one by one.
  const at::Tensor firsts =
      at::searchsorted(sorted, at::arange(count + 1, sorted.options()), /*out_int32=*/true).to(at::kCPU);
  const int32_t* first = firsts.const_data_ptr<int32_t>();
  TORCH_CHECK_INDEX(first[0] == 0 && first[count] == tokens * terms, "Experts: an expert outside [0, ", count,
                    ") was chosen");
  std::vector<ExpertFetcher::Use> chosen;
  if (counts != nullptr) counts->resize(count);
  for (int64_t e = 0; e < count; ++e) {
    if (counts != nullptr) (*counts)[e] = first[e + 1] - first[e];
    if (first[e + 1] > first[e]) chosen.push_back({static_cast<int>(e), first[e + 1] - first[e]});
  }
  if (fetcher != nullptr) fetcher->Begin(chosen);
  at::Tensor in = x.index_select(0, order.div(terms, "floor"));  // [tokens * terms, hidden], by expert
  at::Tensor down = at::empty_like(in);                          // in the order of tokens again
  for (const auto& [e, rows] : chosen) {
    std::optional<FetchedExpert> fetched;
    if (fetcher != nullptr) fetched.emplace(*fetcher, e);
    const ExpertWeights& expert = fetched.has_value() ? fetched->weights : experts[e];
    at::Tensor up =
        expert.up->Forward(in.narrow(0, first[e], rows).to(expert.up->device()));  // [rows, 2 * intermediate]
    const at::Tensor activated = Activate(up, activation, /*gated=*/true);
    up.reset();
    down.index_copy_(0, order.narrow(0, first[e], rows), expert.down->Forward(activated).to(x.device()));
  }
  in.reset();
  at::Tensor weighted = down.view({tokens, terms, width}).to(at::kFloat);  // in fp32: `down` itself
  return weighted.mul_(routing.weights.unsqueeze(-1)).sum(1).to(x.scalar_type());
}

}  // namespace causeway
