#include "tests/support/fake_async_ops.h"

#include <cstring>
#include <functional>
#include <map>
#include <utility>
#include <vector>

#include <ATen/TensorOperators.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/tensor.h>
#include <c10/core/InferenceMode.h>

#include "engine/device/device_memory.h"
#include "engine/ops/candidates.h"
#include "engine/ops/reference.h"
#include "engine/weights/offloaded_weight.h"

namespace causeway::testing {

at::Tensor Poisoned(at::IntArrayRef sizes, const at::TensorOptions& options) {
  at::Tensor tensor = at::empty(sizes, options);
  // This is NaN in every floating type, and -1 in integers, which no kernel takes for an index.
  if (tensor.nbytes() > 0) std::memset(tensor.mutable_data_ptr(), 0xff, tensor.nbytes());
  return tensor;
}

namespace {

// A weight of the device. Work is computed from the memory that the weight had when the work was queued, wherever the
// weight points by then: a twin of the weight points there.
class LateWeight final : public LinearWeight {
 public:
  using Make = std::function<std::unique_ptr<LinearWeight>()>;
  LateWeight(Make make, at::ScalarType dtype, DeviceRuntime& runtime, std::shared_ptr<LateQueue> queue)
      : make_(std::move(make)), dtype_(dtype), runtime_(runtime), queue_(std::move(queue)), held_(make_()) {
    own_ = Memory();
  }
  int64_t out_features() const override { return held_->out_features(); }
  int64_t in_features() const override { return held_->in_features(); }
  int64_t bytes() const override { return held_->bytes(); }
  at::Device device() const override { return runtime_.device(); }
  bool as_stored() const override { return held_->as_stored(); }
  std::vector<at::Tensor> Tensors() const override { return held_->Tensors(); }
  void SetRows(int64_t first, const at::Tensor& rows) override { held_->SetRows(first, rows); }
  void SetQuantizedRows(int64_t first, const QuantizedRows& rows) override { held_->SetQuantizedRows(first, rows); }
  void SetInputOrder(const at::Tensor& order) override {
    held_->SetInputOrder(order);
    order_ = order;
  }
  void SetBias(int64_t first, const at::Tensor& bias) override { held_->SetBias(first, bias); }

  at::Tensor Forward(const at::Tensor& x) const override {
    const at::Tensor y = Poisoned({x.size(0), out_features()}, x.options());
    queue_->Push([x, y, weight = Now()] { y.copy_(weight->Forward(x)); });
    return y;
  }
  at::Tensor Lookup(const at::Tensor& ids) const override {
    const at::Tensor y = Poisoned({ids.size(0), in_features()}, at::TensorOptions(dtype_));
    queue_->Push([ids, y, weight = Now()] { y.copy_(weight->Lookup(ids)); });
    return y;
  }

 private:
  char* Memory() const { return static_cast<char*>(held_->Tensors().front().data_ptr()); }
  std::shared_ptr<LinearWeight> Now() const {
    char* const memory = Memory();
    TORCH_CHECK(memory != nullptr, "a weight that is computed from has no memory: it was not acquired");
    if (memory == own_) return held_;
    std::shared_ptr<LinearWeight>& twin = twins_[memory];
    if (twin == nullptr) {
      UncountedScope uncounted;
      twin = make_();
      if (order_.defined()) twin->SetInputOrder(order_);
      PointAt(twin->Tensors(), memory);
    }
    return twin;
  }

  const Make make_;
  const at::ScalarType dtype_;
  DeviceRuntime& runtime_;
  const std::shared_ptr<LateQueue> queue_;
  const std::shared_ptr<LinearWeight> held_;
  char* own_;  // the memory that it was made with
  at::Tensor order_;
  mutable std::map<char*, std::shared_ptr<LinearWeight>> twins_;  // by the memory that they point to
};

// A weight in CPU memory beside the device: the rows are sent there, and the results come back.
class HostWeight final : public LinearWeight {
 public:
  HostWeight(std::unique_ptr<LinearWeight> held, DeviceRuntime& runtime, std::shared_ptr<LateQueue> queue)
      : held_(std::move(held)), runtime_(runtime), queue_(std::move(queue)) {}
  int64_t out_features() const override { return held_->out_features(); }
  int64_t in_features() const override { return held_->in_features(); }
  int64_t bytes() const override { return held_->bytes(); }
  std::vector<at::Tensor> Tensors() const override { return held_->Tensors(); }
  void SetRows(int64_t first, const at::Tensor& rows) override { held_->SetRows(first, rows); }
  void SetBias(int64_t first, const at::Tensor& bias) override { held_->SetBias(first, bias); }
  at::Tensor Forward(const at::Tensor& x) const override {
    const at::Tensor rows = runtime_.Download(x);
    queue_->Delay(LatePlace::kOnHost);
    return runtime_.Upload(held_->Forward(rows));
  }
  at::Tensor Lookup(const at::Tensor& ids) const override {
    return runtime_.Upload(held_->Lookup(runtime_.Download(ids)));
  }

 private:
  const std::unique_ptr<LinearWeight> held_;
  DeviceRuntime& runtime_;
  const std::shared_ptr<LateQueue> queue_;
};

class FakeAsyncOps final : public Ops {
 public:
  FakeAsyncOps(std::shared_ptr<Ops> inner, DeviceRuntime& runtime, std::shared_ptr<LateQueue> queue)
      : inner_(std::move(inner)), runtime_(runtime), queue_(std::move(queue)) {}

  std::unique_ptr<LinearWeight> NewLinear(int64_t out, int64_t in, bool bias, at::ScalarType dtype, at::Device device,
                                          const WeightFormat& format) override {
    const auto make = [=, inner = inner_] { return inner->NewLinear(out, in, bias, dtype, at::kCPU, format); };
    if (device != runtime_.device()) return std::make_unique<HostWeight>(make(), runtime_, queue_);
    return std::make_unique<LateWeight>(make, dtype, runtime_, queue_);
  }
  at::Tensor RmsNorm(const at::Tensor& x, const at::Tensor& residual, const at::Tensor& weight, double eps) override {
    return Late(x.sizes(), x.options(), [=](Ops& ops) { return ops.RmsNorm(x, residual, weight, eps); });
  }
  at::Tensor LayerNorm(const at::Tensor& x, const at::Tensor& residual, const at::Tensor& weight,
                       const at::Tensor& bias, double eps) override {
    return Late(x.sizes(), x.options(), [=](Ops& ops) { return ops.LayerNorm(x, residual, weight, bias, eps); });
  }
  void NormColumns(at::Tensor& x, int64_t first, int64_t groups, int64_t width, const at::Tensor& weight,
                   double eps) override {
    queue_->Push([=, inner = inner_]() mutable { inner->NormColumns(x, first, groups, width, weight, eps); });
  }
  at::Tensor SquareSums(const at::Tensor& x, const std::vector<int64_t>& widths) override {
    return Late({x.size(0), static_cast<int64_t>(widths.size())}, x.options().dtype(at::kFloat),
                [=](Ops& ops) { return ops.SquareSums(x, widths); });
  }
  void ScaleColumns(at::Tensor& x, int64_t first, const at::Tensor& weight, const at::Tensor& squares, int64_t run,
                    int64_t all, double eps) override {
    queue_->Push([=, inner = inner_]() mutable { inner->ScaleColumns(x, first, weight, squares, run, all, eps); });
  }
  void RotaryAndCache(at::Tensor& qkv, const at::Tensor& cos, const at::Tensor& sin, int64_t heads, int64_t kv_heads,
                      int64_t head_dim, const AttentionBatch& batch, KvLayer& cache) override {
    queue_->Push([=, inner = inner_]() mutable {
      inner->RotaryAndCache(qkv, cos, sin, heads, kv_heads, head_dim, batch, cache);
    });
  }
  at::Tensor PagedAttention(const at::Tensor& qkv, int64_t heads, int64_t kv_heads, int64_t head_dim, double scale,
                            int64_t window, const AttentionBatch& batch, const KvLayer& cache) override {
    return Late({qkv.size(0), heads * head_dim}, qkv.options(), [=](Ops& ops) {
      return ops.PagedAttention(qkv, heads, kv_heads, head_dim, scale, window, batch, cache);
    });
  }
  Routing Route(const at::Tensor& logits, const at::Tensor& correction, const RoutingRule& rule) override {
    const std::vector<int64_t> sizes = {logits.size(0), rule.experts_per_token};
    Routing routing{Poisoned(sizes, at::kInt), Poisoned(sizes, at::kFloat)};
    queue_->Push([=, inner = inner_] {
      const Routing computed = inner->Route(logits, correction, rule);
      routing.experts.copy_(computed.experts);
      routing.weights.copy_(computed.weights);
    });
    return routing;
  }
  at::Tensor Experts(const at::Tensor& x, const Routing& routing, const std::vector<ExpertWeights>& experts,
                     Activation activation, std::vector<int32_t>* counts, ExpertFetcher* fetcher) override;
  void Add(at::Tensor& x, const at::Tensor& y) override {
    queue_->Push([=, inner = inner_]() mutable { inner->Add(x, y); });
  }
  void ZeroRows(at::Tensor& x, const at::Tensor& rows) override {
    queue_->Push([=, inner = inner_]() mutable { inner->ZeroRows(x, rows); });
  }
  at::Tensor SelectRows(const at::Tensor& x, const at::Tensor& rows) override {
    return Late({rows.size(0), x.size(1)}, x.options(), [=](Ops& ops) { return ops.SelectRows(x, rows); });
  }
  at::Tensor Activate(const at::Tensor& x, Activation kind, bool gated) override {
    return Late({x.size(0), x.size(1) / (gated ? 2 : 1)}, x.options(),
                [=](Ops& ops) { return ops.Activate(x, kind, gated); });
  }
  std::vector<SampleOutput> Sample(const at::Tensor& logits, const std::vector<SampleRow>& rows) override {
    return inner_->Sample(runtime_.Download(logits), rows);
  }
  StartedSample StartSample(const at::Tensor& logits, const std::vector<SampleRow>& rows) override {
    // What the rows point to may be gone by the time the queue gets there.
    struct Kept {
      SampleRow row;
      SamplingParams params;
      std::vector<int32_t> masked, prompt_counts, output_counts;
      std::vector<uint32_t> allowed;
    };
    auto kept = std::make_shared<std::vector<Kept>>();
    StartedSample sample;
    int32_t most = -1;
    for (const SampleRow& row : rows) {
      Kept& own = kept->emplace_back(Kept{row, *row.params});
      if (row.masked != nullptr) own.masked = *row.masked;
      if (row.prompt_counts != nullptr) own.prompt_counts = *row.prompt_counts, own.output_counts = *row.output_counts;
      own.allowed.assign(row.allowed.begin(), row.allowed.end());
      sample.top_logprobs.push_back(row.params->logprobs ? row.params->top_logprobs : -1);
      most = std::max(most, sample.top_logprobs.back());
    }
    const int64_t n = logits.size(0), top = std::min<int64_t>(most, logits.size(1));
    sample.tokens = Poisoned({n}, at::kLong);
    sample.outputs = Poisoned({n, top < 0 ? 2 : 3 + 2 * top}, at::kDouble);
    queue_->Push([=, inner = inner_] {
      std::vector<SampleRow> late;
      for (const Kept& own : *kept) {
        SampleRow& row = late.emplace_back(own.row);
        row.params = &own.params;
        if (row.masked != nullptr) row.masked = &own.masked;
        if (row.prompt_counts != nullptr)
          row.prompt_counts = &own.prompt_counts, row.output_counts = &own.output_counts;
        row.allowed = own.allowed;
      }
      const StartedSample computed = inner->StartSample(logits, late);
      sample.tokens.copy_(computed.tokens);
      sample.outputs.copy_(computed.outputs);
    });
    return sample;
  }
  void CopyTokens(at::Tensor& to, const at::Tensor& to_index, const at::Tensor& from,
                  const at::Tensor& from_index) override {
    queue_->Push([=, inner = inner_]() mutable { inner->CopyTokens(to, to_index, from, from_index); });
  }
  at::Tensor Candidates(const at::Tensor& logits, int64_t count, int64_t first) override {
    return Late({logits.size(0), CandidateColumns(count)}, at::TensorOptions(at::kFloat),
                [=](Ops& ops) { return ops.Candidates(logits, count, first); });
  }

 private:
  template <class Compute>
  at::Tensor Late(at::IntArrayRef sizes, const at::TensorOptions& options, Compute compute) {
    const at::Tensor result = Poisoned(sizes, options);
    queue_->Push([result, compute, inner = inner_] { result.copy_(compute(*inner)); });
    return result;
  }

  const std::shared_ptr<Ops> inner_;
  DeviceRuntime& runtime_;
  const std::shared_ptr<LateQueue> queue_;
};

// It does what a GPU does: it waits for the routing once, and then queues one expert after the other.
at::Tensor FakeAsyncOps::Experts(const at::Tensor& x, const Routing& routing, const std::vector<ExpertWeights>& experts,
                                 Activation activation, std::vector<int32_t>* counts, ExpertFetcher* fetcher) {
  const int64_t tokens = x.size(0), width = x.size(1), terms = routing.experts.size(1);
  const at::Tensor chosen = runtime_.Download(routing.experts);
  std::map<int, std::vector<int64_t>> terms_of;  // by expert: token * terms + term
  for (int64_t i = 0; i < tokens * terms; ++i) terms_of[chosen.const_data_ptr<int32_t>()[i]].push_back(i);
  if (counts != nullptr) counts->assign(experts.size(), 0);
  std::vector<ExpertFetcher::Use> uses;
  for (const auto& [expert, rows] : terms_of) {
    uses.push_back({expert, static_cast<int64_t>(rows.size())});
    if (counts != nullptr) counts->at(expert) = static_cast<int32_t>(rows.size());
  }
  if (fetcher != nullptr) fetcher->Begin(uses);
  const at::Tensor down = Poisoned({tokens * terms, width}, x.options());
  for (const auto& [expert, rows] : terms_of) {
    std::optional<FetchedExpert> fetched;
    if (fetcher != nullptr) fetched.emplace(*fetcher, expert);
    const ExpertWeights& weights = fetched.has_value() ? fetched->weights : experts.at(expert);
    const at::Tensor places = at::tensor(rows, at::kLong);
    const at::Tensor in = SelectRows(x, runtime_.Upload(places.div(terms, "floor")));
    const at::Tensor out = weights.down->Forward(Activate(weights.up->Forward(in), activation, /*gated=*/true));
    queue_->Push([=] { down.index_copy_(0, places, out); });
  }
  return Late(x.sizes(), x.options(), [=](Ops&) {
    const at::Tensor weighted = down.view({tokens, terms, width}).to(at::kFloat) * routing.weights.unsqueeze(-1);
    return weighted.sum(1).to(x.scalar_type());
  });
}

}  // namespace

std::unique_ptr<Ops> MakeFakeAsyncOps(std::shared_ptr<Ops> inner, DeviceRuntime& runtime,
                                      std::shared_ptr<LateQueue> queue) {
  return std::make_unique<FakeAsyncOps>(std::move(inner), runtime, std::move(queue));
}

}  // namespace causeway::testing
