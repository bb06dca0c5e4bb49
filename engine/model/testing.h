// For tests of this folder: a whole model in fp32 on the reference operations, and batches of one sequence.
#ifndef CAUSEWAY_ENGINE_MODEL_TESTING_H_
#define CAUSEWAY_ENGINE_MODEL_TESTING_H_

#include <memory>
#include <numeric>
#include <vector>

#include <ATen/TensorOperators.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/tensor.h>
#include <c10/core/InferenceMode.h>
#include <gmock/gmock.h>

#include "engine/model/model.h"
#include "engine/weights/loader.h"

namespace causeway::testing {

inline ModelContext Context(const ModelSpec& spec, Ops& ops, ParallelGroup group = {}) {
  return {spec, ops, at::Device(at::kCPU), at::kFloat, group};
}

// Leaves each rank its part, for tests that add the parts up themselves.
class PartsAlone final : public Communicator {
 public:
  int rank() const override { return 0; }
  int size() const override { return 2; }
  bool share_memory() const override { return true; }
  void BeginStep() override {}
  void Fail() override {}
  CollectiveStats stats() const override { return {}; }
  void AllReduce(at::Tensor& /*x*/) override {}
  at::Tensor GatherColumns(const at::Tensor& x, absl::Span<const int64_t> /*widths*/) override { return x; }
  void Broadcast(at::Tensor& /*x*/) override {}
};

// For modules that neither attend nor rotate; of a rank's, the part that it computes.
inline ForwardContext OpsAlone(Ops& ops) {
  static const AttentionBatch batch;
  static const RotaryTables rotary;
  static PartsAlone parts;
  return {ops, batch, rotary, &parts};
}

inline std::vector<int> AllUnits(const ModelSpec& spec) { return UnitsOf(spec).all(); }

// All targets as those of one rank.
inline absl::Status LoadRank(const ModelSpec& spec, const Checkpoint& checkpoint, const LoadTargets& targets,
                             const LoadOptions& options = {}) {
  return LoadWeights(spec, checkpoint, absl::MakeConstSpan(&targets, 1), options);
}

inline std::unique_ptr<DeviceModel> Loaded(const ModelSpec& spec, const Checkpoint& checkpoint, Ops& ops,
                                           ParallelGroup group = {}, const LoadOptions& options = {}) {
  auto model = std::make_unique<DeviceModel>(Context(spec, ops, group), AllUnits(spec));
  const absl::Status status = LoadRank(spec, checkpoint, model->Targets(), options);
  EXPECT_TRUE(status.ok()) << status;
  return model;
}

// Tokens [context, context + count) of one sequence in blocks 0, 1, ...
inline AttentionBatch OneSequence(int64_t context, int64_t count) {
  AttentionBatch batch;
  batch.positions = at::arange(context, context + count, at::kLong);
  batch.slots = batch.positions;
  batch.block_tables = at::arange(0, BlocksFor(context + count), at::kInt).unsqueeze(0);
  batch.query_start_host = {0, static_cast<int32_t>(count)};
  batch.context_lens_host = {static_cast<int32_t>(context + count)};
  batch.query_start = at::tensor(batch.query_start_host, at::kInt);
  batch.context_lens = at::tensor(batch.context_lens_host, at::kInt);
  batch.context_max = context + count;
  return batch;
}

}  // namespace causeway::testing

#endif  // CAUSEWAY_ENGINE_MODEL_TESTING_H_
