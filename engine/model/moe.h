// A mixture of experts in the place of a layer's feed-forward part.
#ifndef CAUSEWAY_ENGINE_MODEL_MOE_H_
#define CAUSEWAY_ENGINE_MODEL_MOE_H_

#include <memory>
#include <string>
#include <vector>

#include "engine/base/expert_load.h"
#include "engine/model/mlp.h"

namespace causeway {

// Over a parallel group every expert is cut as an MLP is, and each rank routes every token: ranks do equal work
// whatever the router chooses, and their outputs add up as an MLP's do. Whole experts for each rank would make a step
// as slow as the rank with the most popular ones.
class Moe {
 public:
  Moe(const ModelContext& context, const MoeSpec& spec);

  // x [tokens, hidden] -> [tokens, hidden]. Counts which experts the tokens went to.
  at::Tensor Forward(const ForwardContext& context, at::Tensor x) const;

  const Linear& router() const { return router_; }
  const std::string& correction_tensor() const { return correction_tensor_; }
  const at::Tensor& correction() const { return correction_; }  // fp32 [experts]; undefined: none
  const std::vector<Mlp>& experts() const { return experts_; }
  ExpertCounter& counter() const { return *counter_; }

 private:
  class Fetcher;

  const RoutingRule rule_;
  const Activation activation_;
  const std::string correction_tensor_;
  Linear router_;
  at::Tensor correction_;
  std::vector<Mlp> experts_;
  std::vector<ExpertWeights> weights_;  // of experts_
  WeightFetcher* fetcher_ = nullptr;    // of those that are offloaded; null: none is
  std::unique_ptr<ExpertCounter> counter_;
};

}  // namespace causeway

#endif  // CAUSEWAY_ENGINE_MODEL_MOE_H_
