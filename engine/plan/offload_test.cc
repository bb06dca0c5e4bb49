#include "engine/plan/offload.h"

#include <algorithm>
#include <numeric>

#include <gmock/gmock.h>
#include <nlohmann/json.hpp>

#include "engine/plan/module_sizes.h"
#include "engine/plan/plan.h"
#include "engine/plan/test_models.h"

namespace causeway {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

ModelSpec Llama(int layers, bool tied = false) {
  return TestSpec({{"model_type", "llama"},
                   {"vocab_size", 512},
                   {"hidden_size", 128},
                   {"intermediate_size", 512},
                   {"num_hidden_layers", layers},
                   {"num_attention_heads", 4},
                   {"tie_word_embeddings", tied}},
                  DType::kBF16);
}

ModelSpec Experts() {
  return TestSpec({{"model_type", "qwen3_moe"},
                   {"vocab_size", 512},
                   {"hidden_size", 128},
                   {"intermediate_size", 512},
                   {"moe_intermediate_size", 64},
                   {"num_hidden_layers", 4},
                   {"num_attention_heads", 4},
                   {"num_key_value_heads", 4},
                   {"num_experts", 16},
                   {"num_experts_per_tok", 2}},
                  DType::kBF16);
}

int Count(const PieceList& pieces, PieceKind kind) {
  return static_cast<int>(
      std::count_if(pieces.begin(), pieces.end(), [kind](const OffloadPiece* p) { return p->kind == kind; }));
}

int64_t Bytes(const PieceList& pieces) {
  int64_t bytes = 0;
  for (const OffloadPiece* piece : pieces) bytes += piece->bytes;
  return bytes;
}

TEST(OffloadPlanTest, PiecesAreNamedAfterTheModuleAroundThem) {
  const std::vector<OffloadPiece> pieces = OffloadPieces(Llama(2), /*head_shares=*/false);
  std::vector<std::string> names;
  for (const OffloadPiece& piece : pieces) names.push_back(piece.module);
  EXPECT_EQ(names, (std::vector<std::string>{"model.embed_tokens", "model.layers.0.self_attn", "model.layers.0.mlp",
                                             "model.layers.1.self_attn", "model.layers.1.mlp", "lm_head"}));
  EXPECT_EQ(pieces[0].bytes, 512 * 128 * 2);
  EXPECT_TRUE(pieces[0].streamed.empty());
  EXPECT_EQ(pieces[2].bytes, 3 * 512 * 128 * 2);
  EXPECT_EQ(pieces[2].streamed.size(), 2u);
  EXPECT_GE(std::accumulate(pieces[2].streamed.begin(), pieces[2].streamed.end(), int64_t{0}), pieces[2].bytes);

  const std::vector<OffloadPiece> experts = OffloadPieces(Experts(), false);
  EXPECT_EQ(experts[2].module, "model.layers.0.mlp.experts.0");
  EXPECT_EQ(experts[2].kind, PieceKind::kExpert);
}

TEST(OffloadPlanTest, ExpertsOfALayerAreARun) {
  const ModelSpec spec = Experts();
  const PieceTable table(spec);
  const std::vector<PieceRun>& runs = table.Runs(false);
  ASSERT_EQ(runs.size(), 1u + 4 * 2 + 1);
  EXPECT_EQ(runs[2].count, 16);
  EXPECT_EQ(runs[2].piece[15].module, "model.layers.0.mlp.experts.15");
  const HeldPieces layer = PiecesWithin(runs, {2, 2});
  ASSERT_EQ(layer.size(), 2u);
  EXPECT_EQ(layer[1].piece->module, "model.layers.1.mlp.experts.0");
  EXPECT_EQ(PiecesWithin(runs, {6, 6}).size(), 1u);  // the head
  EXPECT_EQ(PiecesWithin(runs, {5, 5}).size(), 0u);  // the norm, which stays
}

TEST(OffloadPlanTest, WhatLeavesIsTheLeastAndInOrder) {
  for (const ModelSpec& spec : {Llama(16), Llama(16, /*tied=*/true), Experts()}) {
    const PieceTable table(spec);
    const HeldPieces held = table.Runs(spec.tied_head);
    PieceList all;
    for (const OffloadPiece& piece : table.All(spec.tied_head)) all.push_back(&piece);
    const int64_t most = Bytes(all) - StagingBytes(all);
    EXPECT_EQ(MostFreed(held, int64_t{1} << 40), most);
    for (int64_t wanted = 1; wanted <= most; wanted += most / 97) {
      const Eviction eviction = Evict(held, wanted);
      EXPECT_GE(eviction.freed, wanted);
      const PieceList gone = Gone(held, eviction);
      EXPECT_EQ(Bytes(gone) - StagingBytes(gone), eviction.freed);
      // One piece less is too little.
      const PieceList fewer = Gone(held, {.kind = eviction.kind, .count = eviction.count - 1});
      EXPECT_EQ(fewer.size() + 1, gone.size());
      EXPECT_LT(Bytes(fewer) - StagingBytes(fewer), wanted);
      // A kind leaves only when all before it have left.
      bool whole = true;
      for (const PieceKind kind : kPieceKinds) {
        const int left = Count(gone, kind), of = Count(all, kind);
        EXPECT_TRUE(whole || left == 0) << static_cast<int>(kind);
        whole &= left == of;
      }
    }
    EXPECT_LT(Evict(held, most + 1).freed, most + 1);
    EXPECT_EQ(Gone(held, Evict(held, most + 1)), all);
    EXPECT_TRUE(Gone(held, Evict(held, 0)).empty());
  }
}

TEST(OffloadPlanTest, OfAKindTheLayersAreSpreadEvenly) {
  const ModelSpec spec = Llama(16);
  const PieceTable table(spec);
  const HeldPieces held = table.Runs(false);
  const std::vector<OffloadPiece>& pieces = table.All(false);
  // The table, and some MLPs beside their buffer.
  const PieceList gone = Gone(held, Evict(held, 512 * 128 * 2 + 3 * pieces[2].bytes));
  const int mlps = Count(gone, PieceKind::kMlp);
  ASSERT_GT(mlps, 2);
  ASSERT_LT(mlps, 10);
  int longest = 0, run = 0;
  for (const OffloadPiece& piece : pieces) {
    if (piece.kind != PieceKind::kMlp) continue;
    longest = std::max(longest, run = std::count(gone.begin(), gone.end(), &piece) > 0 ? 0 : run + 1);
  }
  EXPECT_LE(longest, (16 + mlps - 1) / mlps);
}

// The sums that a search counts with are those of the pieces that a plan places one by one.
TEST(OffloadPlanTest, SumsOverRunsAreThoseOfThePieces) {
  for (const ModelSpec& spec : {Llama(5), Llama(5, /*tied=*/true), Experts()}) {
    const PieceTable table(spec);
    for (const UnitRange units : {UnitRange{0, 3}, {2, 4}, {1, UnitsOf(spec).head()}}) {
      const HeldPieces held = PiecesWithin(table.Runs(false), units);
      for (const int64_t cpu_bytes : {int64_t{0}, TestBytes(spec) / 5, TestBytes(spec)}) {
        for (int64_t wanted = 1; wanted < TestBytes(spec); wanted += TestBytes(spec) / 31) {
          const Eviction eviction = Evict(held, wanted);
          TierFiller tiers(cpu_bytes), one_by_one(cpu_bytes);
          const Offloaded sum = SumOf(held, eviction, tiers);
          const PieceList gone = Gone(held, eviction);
          int64_t on_disk = 0, experts = 0, linears = 0;
          for (const OffloadPiece* piece : gone) {
            if (one_by_one.Place(*piece) == Tier::kDisk) on_disk += piece->bytes;
            if (piece->kind == PieceKind::kExpert) experts += piece->bytes;
            if (piece->kind > PieceKind::kExpert) linears += piece->bytes;
          }
          EXPECT_EQ(sum.bytes, Bytes(gone));
          EXPECT_EQ(sum.experts, experts);
          EXPECT_EQ(sum.linears, linears);
          EXPECT_EQ(sum.staging, StagingBytes(gone));
          EXPECT_EQ(sum.on_disk, on_disk);
          EXPECT_EQ(tiers.cpu_left(), one_by_one.cpu_left());
        }
      }
    }
  }
}

PlanOptions Offloading(const std::string& map) {
  PlanOptions options = TestOptions(map);
  options.offload_to_disk = true;
  return options;
}

TEST(OffloadPlanTest, AutoOffloadsTheLeastThatFits) {
  const ModelSpec spec = Llama(16);
  const auto whole = MakePlan(spec, TestDevices({64 << 20}), Offloading("auto"));
  ASSERT_TRUE(whole.ok()) << whole.status();
  EXPECT_EQ(whole->offloaded_to_disk, 0) << "with room for all of it nothing leaves";
  int64_t last = -1, budget = whole->devices[0].weights + whole->devices[0].activations + whole->devices[0].kv_cache;
  for (; budget > 0; budget -= 256 << 10) {
    const auto plan = MakePlan(spec, TestDevices({budget}), Offloading("auto"));
    if (!plan.ok()) break;
    const DevicePlan& device = plan->devices[0];
    EXPECT_GE(device.free, 0);
    EXPECT_GE(plan->offloaded_to_disk, last) << "less room, less held";
    last = plan->offloaded_to_disk;
    int64_t bytes = 0;
    for (const ModulePlacement& module : plan->modules) bytes += module.bytes;
    EXPECT_EQ(bytes, TestBytes(spec)) << "each byte has one place";
    for (const OffloadedModule& module : device.offloaded) EXPECT_EQ(*LookUp(plan->device_map, module.name), "disk");
  }
  EXPECT_GT(last, TestBytes(spec) / 2);
}

TEST(OffloadPlanTest, CpuMemoryIsTakenFirstUpToItsBudget) {
  const ModelSpec spec = Llama(16);
  PlanOptions options = Offloading("auto");
  const int64_t half = TestBytes(spec) / 2, on_cpu = TestBytes(spec) / 8;
  options.max_memory = {{"0", half}, {"cpu", on_cpu}};
  options.max_model_len = 16;
  options.max_num_batched_tokens = options.max_num_seqs = 1;
  const auto plan = MakePlan(spec, TestDevices({half}), options);
  ASSERT_TRUE(plan.ok()) << plan.status();
  EXPECT_GT(plan->offloaded_to_cpu, on_cpu / 2);
  EXPECT_LE(plan->offloaded_to_cpu, on_cpu);
  EXPECT_GT(plan->offloaded_to_disk, 0);
  EXPECT_GE(plan->offload_cpu_taken, plan->offloaded_to_cpu);
  EXPECT_LE(plan->offload_cpu_taken, on_cpu);
  EXPECT_EQ(plan->offload_cpu_taken % 4096, 0) << "whole pages";
  EXPECT_THAT(PlanTable(*plan, false),
              AllOf(HasSubstr("in CPU memory ("), HasSubstr("on disk ("), HasSubstr("through a buffer of")));
  EXPECT_EQ(Json::parse(PlanJson(*plan))["offloaded"]["cpu"], plan->offloaded_to_cpu);

  options.offload_to_disk = false;
  EXPECT_THAT(PlanRefusal(MakePlan(spec, TestDevices({half}), options), absl::StatusCode::kFailedPrecondition),
              AllOf(HasSubstr("CPU memory is short of"), HasSubstr("offload_folder")));
}

TEST(OffloadPlanTest, ACustomMapNamesWholePieces) {
  const ModelSpec spec = Llama(4);
  PlanOptions options = Offloading("custom");
  options.custom_map = {
      {"", "0"}, {"model.layers.1.mlp", "disk"}, {"model.layers.2", "disk"}, {"model.embed_tokens", "disk"}};
  const auto plan = MakePlan(spec, TestDevices({16 << 20}), options);
  ASSERT_TRUE(plan.ok()) << plan.status();
  std::vector<std::string> names;
  for (const OffloadedModule& module : plan->devices[0].offloaded) names.push_back(module.name);
  EXPECT_EQ(names, (std::vector<std::string>{"model.embed_tokens", "model.layers.1.mlp", "model.layers.2.self_attn",
                                             "model.layers.2.mlp"}));
  EXPECT_EQ(plan->segments.size(), 1u) << "what is offloaded is computed where its neighbours are";

  options.custom_map["model.layers.3.mlp.up_proj"] = "disk";
  EXPECT_THAT(PlanRefusal(MakePlan(spec, TestDevices({16 << 20}), options), absl::StatusCode::kInvalidArgument),
              AllOf(HasSubstr("model.layers.3.mlp.up_proj"), HasSubstr("put \"model.layers.3.mlp\" there")));
}

TEST(OffloadPlanTest, ATiedHeadGoesWithItsTableOrHasACopy) {
  const ModelSpec spec = Llama(4, /*tied=*/true);
  PlanOptions options = Offloading("custom");
  options.custom_map = {{"", "0"}, {"lm_head", "disk"}};
  EXPECT_THAT(PlanRefusal(MakePlan(spec, TestDevices({16 << 20}), options), absl::StatusCode::kInvalidArgument),
              AllOf(HasSubstr("lm_head"), HasSubstr("model.embed_tokens"), HasSubstr("put both there, or neither")));
  options.custom_map = {{"", "0"}, {"model.embed_tokens", "disk"}, {"lm_head", "1"}};
  const auto plan = MakePlan(spec, TestDevices({16 << 20, 16 << 20}), options);
  ASSERT_TRUE(plan.ok()) << plan.status();
  ASSERT_EQ(plan->devices[0].offloaded.size(), 1u);
  EXPECT_EQ(plan->devices[0].offloaded[0].name, "model.embed_tokens");
  EXPECT_TRUE(plan->devices[1].offloaded.empty()) << "the head holds its copy";
}

TEST(OffloadPlanTest, WhatTheFieldsPoliciesSpillIsComputedOnADevice) {
  const ModelSpec spec = Llama(16);
  const int64_t third = TestBytes(spec) / 3;
  for (const char* policy : {"sequential", "balanced", "balanced_low_0"}) {
    PlanOptions options = Offloading(policy);
    options.max_model_len = 64;
    options.max_num_batched_tokens = options.max_num_seqs = 4;
    const auto plan = MakePlan(spec, TestDevices({third, third}), options);
    ASSERT_TRUE(plan.ok()) << policy << ": " << plan.status();
    EXPECT_GT(plan->offloaded_to_disk, 0) << policy;
    for (const DevicePlan& device : plan->devices) EXPECT_GE(device.free, 0) << policy;
    EXPECT_EQ(plan->segments.back().units.last, 18) << policy;
  }
}

}  // namespace
}  // namespace causeway
