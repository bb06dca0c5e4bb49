#include "engine/model/moe.h"

#include <ATen/ops/zeros.h>
#include <c10/util/Exception.h>

namespace causeway {

Moe::Moe(const ModelContext& context, const MoeSpec& spec)
    : rule_(spec.rule),
      activation_(spec.experts.at(0).activation),
      correction_tensor_(spec.correction_bias),
      router_(context, spec.router, WholeShard(spec.router)) {
  TORCH_CHECK(spec.router.out_features() == static_cast<int64_t>(spec.experts.size()), spec.router.parts.front().weight,
              " has ", spec.router.out_features(), " outputs for ", spec.experts.size(), " experts");
  if (!correction_tensor_.empty()) {
    correction_ = at::zeros({spec.router.out_features()}, at::TensorOptions(at::kFloat).device(context.device));
  }
  ModelContext expert_context = context;
  expert_context.expert = true;
  int64_t bytes = 0;
  experts_.reserve(spec.experts.size());
  for (const MlpSpec& expert : spec.experts) {
    TORCH_CHECK(expert.gated && expert.activation == activation_, expert.up.parts.front().weight,
                ": expected a gated expert with the first one's activation");
    experts_.emplace_back(expert_context, expert);
    weights_.push_back({experts_.back().up().weight().get(), experts_.back().down().weight().get()});
    bytes += weights_.back().up->bytes() + weights_.back().down->bytes();
    if (WeightFetcher* fetcher = experts_.back().up().fetcher(); fetcher != nullptr) fetcher_ = fetcher;
  }
  counter_ = std::make_unique<ExpertCounter>(weights_.size(), bytes / static_cast<int64_t>(weights_.size()));
}

class Moe::Fetcher final : public ExpertFetcher {
 public:
  explicit Fetcher(const Moe& moe) : moe_(moe) {}

  void Begin(const std::vector<Use>& uses) override {
    std::vector<WeightFetcher::Use> expected;
    for (const Use& use : uses) {
      if (!Offloaded(use.expert)) continue;
      expected.push_back({moe_.weights_[use.expert].up, use.rows});
      expected.push_back({moe_.weights_[use.expert].down, use.rows});
    }
    moe_.fetcher_->Expect(expected);
  }
  ExpertWeights Acquire(int expert) override {
    const ExpertWeights& weights = moe_.weights_[expert];
    if (!Offloaded(expert)) return weights;
    const LinearWeight& up = moe_.fetcher_->Acquire(*weights.up);
    return {&up, &moe_.fetcher_->Acquire(*weights.down)};
  }
  void Release(int expert) override {
    if (!Offloaded(expert)) return;
    moe_.fetcher_->Release(*moe_.weights_[expert].up);
    moe_.fetcher_->Release(*moe_.weights_[expert].down);
  }

 private:
  bool Offloaded(int expert) const { return moe_.experts_[expert].up().fetcher() != nullptr; }

  const Moe& moe_;
};

at::Tensor Moe::Forward(const ForwardContext& context, at::Tensor x) const {
  Ops& ops = context.ops;
  const Routing routing = ops.Route(router_.Forward(x), correction_, rule_);  // [tokens, experts_per_token]
  thread_local std::vector<int32_t> counts;                                   // kept for its memory
  Fetcher fetcher(*this);
  at::Tensor y = ops.Experts(x, routing, weights_, activation_, &counts, fetcher_ != nullptr ? &fetcher : nullptr);
  if (experts_.front().down().shard().partial) context.ranks->AllReduce(y);
  counter_->Add(counts);
  return y;
}

}  // namespace causeway
