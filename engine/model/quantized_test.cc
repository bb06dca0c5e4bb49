// Quantized linears from checkpoints to what the operations compute from, to the last bit; and plain ones quantized
// while they are loaded.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <filesystem>
#include <functional>
#include <map>
#include <string>

#include <ATen/core/IListRef.h>
#include <ATen/ops/allclose.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/eye.h>
#include <ATen/ops/from_blob.h>
#include <ATen/ops/randn.h>
#include <ATen/ops/tensor.h>
#include <ATen/ops/zeros.h>
#include <gmock/gmock.h>
#include <nlohmann/json.hpp>

#include "engine/architecture/quantization.h"
#include "engine/architecture/registry.h"
#include "engine/checkpoint/testing.h"
#include "engine/model/testing.h"
#include "engine/ops/quantize.h"
#include "engine/weights/stored_rows.h"
#include "tests/support/tiny_checkpoint.h"

namespace causeway {
namespace {

using testing::AllUnits;
using testing::Context;
using ::testing::HasSubstr;
using testing::Loaded;
using testing::SafetensorsFile;
using testing::TestFolder;
using testing::TestTensor;

std::string Fixture(const std::string& name) { return CAUSEWAY_SOURCE_DIR "/tests/golden/quantized/" + name; }

std::string Bytes(const Checkpoint& checkpoint, const TensorInfo& tensor) {
  std::string bytes(tensor.bytes, '\0');
  EXPECT_TRUE(checkpoint.Read(tensor, 0, absl::MakeSpan(bytes)).ok());
  return bytes;
}

// A checkpoint and its spec in fp32.
struct Opened {
  explicit Opened(const std::string& folder)
      : checkpoint(*Checkpoint::Open(folder)),
        spec(*MakeModelSpec(checkpoint->config(), Json::object(), DType::kF32)) {}
  std::unique_ptr<Checkpoint> checkpoint;
  ModelSpec spec;
};

// What a fixture's script dequantized: fp32 weights by name.
class Dequantized {
 public:
  explicit Dequantized(const std::string& fixture) {
    folder_.Write("config.json", "{}");
    std::filesystem::copy_file(Fixture(fixture) + "/dequantized.safetensors", folder_ / "model.safetensors");
    checkpoint_ = *Checkpoint::Open(folder_.path());
  }
  at::Tensor Weight(const std::string& name) const {
    const TensorInfo& info = checkpoint_->tensors().at(name);
    std::string bytes = Bytes(*checkpoint_, info);
    return at::from_blob(bytes.data(), info.shape, at::kFloat).clone();
  }
  at::Tensor Linear(const LinearSpec& linear) const {
    std::vector<at::Tensor> parts;
    for (const LinearSpec::Part& part : linear.parts) parts.push_back(Weight(part.weight));
    return at::cat(parts);
  }

 private:
  TestFolder folder_;
  std::unique_ptr<Checkpoint> checkpoint_;
};

// What safetensors calls them.
const std::map<DType, const char*> kStored = {{DType::kI32, "I32"},
                                              {DType::kF32, "F32"},
                                              {DType::kF16, "F16"},
                                              {DType::kBF16, "BF16"},
                                              {DType::kF8E4M3, "F8_E4M3"}};

class QuantizedTest : public ::testing::TestWithParam<std::string> {
 protected:
  // The weight as the reference computes from it, [out, in]: exact, as each sum has one term.
  at::Tensor Matrix(const LinearWeight& weight) { return weight.Forward(at::eye(weight.in_features())).t(); }

  // A copy of a fixture with its config and tensors changed, and more tensors.
  static void Change(const std::string& fixture, const TestFolder& to, const std::function<void(Json&)>& config,
                     const std::function<void(TestTensor&)>& tensor, const std::vector<TestTensor>& more = {}) {
    const Opened from(Fixture(fixture));
    Json changed = from.checkpoint->config();
    if (config) config(changed);
    to.Write("config.json", changed.dump());
    std::vector<TestTensor> tensors;
    for (const auto& [name, info] : from.checkpoint->tensors()) {
      tensors.push_back({name, kStored.at(info.dtype), info.shape, Bytes(*from.checkpoint, info)});
      if (tensor) tensor(tensors.back());
    }
    tensors.insert(tensors.end(), more.begin(), more.end());
    to.Write("model.safetensors", SafetensorsFile(tensors));
  }
  absl::Status Load(const TestFolder& folder) {
    const Opened opened(folder.path());
    DeviceModel model(Context(opened.spec, *ops_), AllUnits(opened.spec));
    return testing::LoadRank(opened.spec, *opened.checkpoint, model.Targets(), {});
  }

  c10::InferenceMode inference_;
  std::unique_ptr<Ops> ops_ = MakeReferenceOps();
};

TEST_P(QuantizedTest, WeightsAreTheReferencesToTheLastBit) {
  const Opened opened(Fixture(GetParam()));
  const Dequantized wanted(GetParam());
  for (const int readers : {1, 3}) {
    for (const int64_t staging : {int64_t{1}, int64_t{16} << 20}) {
      LoadOptions options;
      options.readers = readers;
      options.staging_bytes = staging;
      int64_t done = 0, total = 0;
      options.progress = [&](int64_t bytes_done, int64_t bytes_total) {
        done = bytes_done;
        total = bytes_total;
      };
      const auto model = Loaded(opened.spec, *opened.checkpoint, *ops_, {}, options);
      const Layer& layer = model->layer(0);
      for (const Linear* linear :
           {&layer.attention().qkv(), &layer.attention().output(), &layer.mlp()->up(), &layer.mlp()->down()}) {
        at::Tensor matrix = linear->weight()->Forward(at::eye(linear->weight()->in_features())).t();
        if (linear->shard().bias)
          matrix = matrix - linear->weight()->Forward(at::zeros({1, linear->weight()->in_features()})).t();
        const at::Tensor want = wanted.Linear(linear->spec());
        // Taking a bias away again rounds.
        EXPECT_TRUE(linear->shard().bias ? at::allclose(matrix, want, 0, 1e-6) : matrix.equal(want))
            << linear->spec().parts[0].weight;
      }
      EXPECT_EQ(done, total);
      int64_t stored = 0;
      for (const auto& [name, tensor] : opened.checkpoint->tensors()) {
        // The groups of inputs in order are not read, and orders are read beforehand.
        const bool inert = name.size() > 5 && name.substr(name.size() - 5) == "g_idx" && GetParam() != "gptq-act-order";
        stored += inert ? 0 : tensor.bytes;
      }
      EXPECT_EQ(total, stored);
    }
  }
}

TEST_P(QuantizedTest, RectanglesAreCutOutOfTheWhole) {
  const Opened opened(Fixture(GetParam()));
  const Dequantized wanted(GetParam());
  const auto tensors = MatchTensors(opened.spec, *opened.checkpoint);
  ASSERT_TRUE(tensors.ok()) << tensors.status();
  const LinearSpec& linear = opened.spec.layers[0].mlp.up;
  const auto order = ReadInputOrder(*opened.checkpoint, *tensors, linear);
  ASSERT_TRUE(order.ok()) << order.status();
  const int64_t in = linear.in_features, group = linear.format.group > 0 ? linear.format.group : in;
  const at::Tensor whole = wanted.Weight(linear.parts[1].weight);
  // Outputs in the middle of words and across blocks; inputs from the second group on.
  for (const Rectangle& r : {Rectangle{0, 96, 0, in}, Rectangle{3, 1, 0, in}, Rectangle{61, 35, 0, in},
                             Rectangle{13, 70, group < in ? group : 0, group < in ? in - group : in}}) {
    if (order->defined() && r.columns < in) continue;
    const auto rows = ReadQuantizedRows(*opened.checkpoint, *tensors, linear, linear.parts[1], r, *order);
    ASSERT_TRUE(rows.ok()) << rows.status();
    at::Tensor want = whole.narrow(0, r.row, r.rows).narrow(1, r.column, r.columns);
    if (order->defined()) want = want.index_select(1, *order);
    EXPECT_TRUE(Dequantize(*rows, linear.format).equal(want)) << r.row << " " << r.column;
  }
}

TEST_P(QuantizedTest, WhatIsHeldIsWhatThePlanCounts) {
  const Opened opened(Fixture(GetParam()));
  DeviceModel model(Context(opened.spec, *ops_), AllUnits(opened.spec));
  LoadTargets targets = model.Targets();
  ASSERT_TRUE(testing::LoadRank(opened.spec, *opened.checkpoint, targets, {}).ok());
  int64_t held = 0, planned = 0;
  for (const LinearTarget& linear : targets.linears) held += linear.weight->bytes();
  for (const VectorTarget& vector : targets.vectors) held += vector.values.nbytes();
  VisitParameters(opened.spec.modules,
                  [&planned](const std::string&, const Parameter& p) { planned += p.buffer ? 0 : p.bytes(); });
  // Linears of one input have one order, which is counted with each.
  EXPECT_NEAR(held, planned, 0.03 * planned);
  if (GetParam() != "gptq-act-order") {
    EXPECT_EQ(held, planned);
  }
}

INSTANTIATE_TEST_SUITE_P(Fixtures, QuantizedTest,
                         ::testing::Values("fp8", "gptq-asym", "gptq-sym", "gptq-act-order", "awq"),
                         [](const auto& info) {
                           std::string name = info.param;
                           std::replace(name.begin(), name.end(), '-', '_');
                           return name;
                         });

using QuantizedFixturesTest = QuantizedTest;

TEST_F(QuantizedFixturesTest, RanksOfAGroupAddUpToTheWhole) {
  // One group spans all inputs, so that any cut of them keeps its scale.
  const Opened opened(Fixture("gptq-sym"));
  const auto whole = Loaded(opened.spec, *opened.checkpoint, *ops_);
  const at::Tensor x = at::randn({5, opened.spec.hidden_size});
  at::Tensor sum;
  for (const int rank : {0, 1}) {
    const auto shard = Loaded(opened.spec, *opened.checkpoint, *ops_, {.rank = rank, .size = 2});
    const at::Tensor part = shard->layer(1).mlp()->Forward(testing::OpsAlone(*ops_), x);
    sum = rank == 0 ? part : sum + part;
    const at::Tensor mine = Matrix(*shard->layer(1).mlp()->up().weight()),
                     all = Matrix(*whole->layer(1).mlp()->up().weight());
    EXPECT_TRUE(mine.equal(at::cat({all.narrow(0, rank * 48, 48), all.narrow(0, 96 + rank * 48, 48)})));
  }
  EXPECT_TRUE(at::allclose(sum, whole->layer(1).mlp()->Forward(testing::OpsAlone(*ops_), x), 1e-4, 1e-5));
}

TEST_F(QuantizedFixturesTest, CutsAreWhereGroupsEndOrRefused) {
  const ModelSpec awq = Opened(Fixture("awq")).spec;
  const MlpSpec& mlp = awq.layers[0].mlp;  // 96 inputs in groups of 32
  EXPECT_EQ(ShardMlp(mlp, {0, 2})->down.in_count, 64);
  EXPECT_EQ(ShardMlp(mlp, {1, 2})->down.in_count, 32);
  EXPECT_THAT(std::string(ShardMlp(mlp, {0, 4}).status().message()),
              HasSubstr("model.layers.0.mlp.down_proj.weight: 96 inputs in groups of 32 cannot be shared by 4 ranks"));
  const ModelSpec ordered = Opened(Fixture("gptq-act-order")).spec;
  EXPECT_THAT(std::string(ShardAttention(ordered, ordered.layers[0].attention, {0, 2}).status().message()),
              HasSubstr("self_attn.o_proj.weight: inputs ordered by activation cannot be cut into shares"));
}

TEST_F(QuantizedFixturesTest, ContentsThatTheConfigContradictsAreNamed) {
  const TestFolder folder;
  Change("gptq-asym", folder, [](Json& config) { config["quantization_config"]["sym"] = true; }, nullptr);
  const absl::Status sym = Load(folder);
  EXPECT_EQ(sym.code(), absl::StatusCode::kInvalidArgument) << sym;
  EXPECT_THAT(std::string(sym.message()),
              HasSubstr("qzeros: expected the middle for every group, as config.json says sym, found others"));

  // Scales in fp32 that fp16 does not hold.
  Change("gptq-sym", folder, nullptr, [](TestTensor& tensor) {
    if (tensor.name != "model.layers.0.mlp.down_proj.scales") return;
    const std::vector<float> values(tensor.shape[0] * tensor.shape[1], 0.1f);
    tensor.dtype = "F32";
    tensor.data.assign(reinterpret_cast<const char*>(values.data()), values.size() * 4);
  });
  EXPECT_THAT(std::string(Load(folder).message()),
              HasSubstr("model.layers.0.mlp.down_proj.scales: expected scales that fp16 holds"));
}

TEST_F(QuantizedFixturesTest, OrdersAndBiasesThatSayNothingMayBeThereOrNot) {
  const TestFolder folder;
  const std::string order = "model.layers.1.mlp.down_proj.g_idx", bias = "model.layers.1.mlp.down_proj.bias";
  const auto load = [&](const std::string& zeros, const std::vector<int64_t>& shape) {
    Change("gptq-asym", folder, nullptr, nullptr, {{bias, "F16", shape, zeros}});
    return Load(folder);
  };
  std::string zeros(2 * 64, '\0');
  zeros[9] = '\x80';  // -0
  EXPECT_TRUE(load(zeros, {64}).ok()) << load(zeros, {64});
  zeros[13] = '\x3c';
  const absl::Status biased = load(zeros, {64});
  EXPECT_EQ(biased.code(), absl::StatusCode::kInvalidArgument) << biased;
  EXPECT_THAT(std::string(biased.message()),
              HasSubstr(bias + ": expected 0 at 6, as the model has no bias there; found another value"));
  EXPECT_THAT(std::string(load(zeros, {1, 64}).message()), HasSubstr(bias + " has the shape [1, 64], expected [64]"));

  Change("gptq-asym", folder, nullptr, [&](TestTensor& tensor) {
    if (tensor.name == order) tensor.data[4 * 40] = 2;
  });
  const absl::Status mixed = Load(folder);
  EXPECT_EQ(mixed.code(), absl::StatusCode::kInvalidArgument) << mixed;
  EXPECT_THAT(std::string(mixed.message()),
              HasSubstr(order + ": expected 1 at 40, as config.json says desc_act false; found 2"));
  Change("gptq-asym", folder, nullptr, [&](TestTensor& tensor) {
    if (tensor.name == order) tensor = {"model.layers.1.mlp.up_proj.bias", "F32", {96}, std::string(4 * 96, '\0')};
  });
  EXPECT_TRUE(Load(folder).ok()) << Load(folder);
}

TEST_F(QuantizedFixturesTest, WhatIsNotFiniteIsNamed) {
  const TestFolder folder;
  const auto complaint = [&](const std::string& fixture, const std::string& name, const std::string& value) {
    Change(fixture, folder, nullptr, [&](TestTensor& tensor) {
      if (tensor.name == name) tensor.data.replace(tensor.data.size() - value.size(), value.size(), value);
    });
    const absl::Status status = Load(folder);
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << status;
    return std::string(status.message());
  };
  const std::string path = "model.layers.0.mlp.up_proj.", infinity("\0\0\x80\x7f", 4);
  EXPECT_EQ(complaint("fp8", path + "weight", "\xff"), path + "weight: expected finite weights, found others");
  EXPECT_EQ(complaint("fp8", path + "weight_scale_inv", infinity),
            path + "weight_scale_inv: expected finite scales, found others");
  for (const std::string fixture : {"gptq-sym", "awq"}) {
    EXPECT_EQ(complaint(fixture, path + "scales", std::string("\0\x7c", 2)),
              path + "scales: expected finite scales, found others");
  }
}

TEST_F(QuantizedFixturesTest, OrdersHaveToBeGroupingsAndThoseOfOneLinearEqual) {
  const TestFolder folder;
  const auto swap_first_two = [](const std::string& name) {
    return [name](TestTensor& tensor) {
      if (tensor.name != name) return;
      std::vector<int32_t> groups(tensor.data.size() / 4);
      std::memcpy(groups.data(), tensor.data.data(), tensor.data.size());
      std::swap(*std::find(groups.begin(), groups.end(), 0), *std::find(groups.begin(), groups.end(), 1));
      std::memcpy(tensor.data.data(), groups.data(), tensor.data.size());
    };
  };
  Change("gptq-act-order", folder, nullptr, swap_first_two("model.layers.1.self_attn.k_proj.g_idx"));
  const absl::Status unequal = Load(folder);
  EXPECT_EQ(unequal.code(), absl::StatusCode::kUnimplemented) << unequal;
  EXPECT_THAT(std::string(unequal.message()),
              HasSubstr("model.layers.1.self_attn.k_proj.g_idx differs from model.layers.1.self_attn.q_proj.g_idx"));

  Change("gptq-act-order", folder, nullptr, [](TestTensor& tensor) {
    if (tensor.name == "model.layers.0.mlp.down_proj.g_idx") tensor.data.assign(tensor.data.size(), '\0');
  });
  const absl::Status uneven = Load(folder);
  EXPECT_EQ(uneven.code(), absl::StatusCode::kInvalidArgument) << uneven;
  EXPECT_THAT(
      std::string(uneven.message()),
      HasSubstr(
          "down_proj.g_idx: expected 32 inputs in each of the groups 0 to 2, found group 0 for an input of group 1"));
}

TEST_F(QuantizedFixturesTest, MissingAndMistypedTensorsAreNamed) {
  const TestFolder folder;
  Change("awq", folder, nullptr, [](TestTensor& tensor) {
    if (tensor.name == "model.layers.1.mlp.up_proj.qzeros") tensor.name = "model.layers.1.mlp.up_proj.zeros";
    if (tensor.name == "model.layers.0.mlp.up_proj.qweight") tensor.dtype = "F32";
  });
  const std::string message(Load(folder).message());
  EXPECT_THAT(message, HasSubstr("missing: model.layers.1.mlp.up_proj.qzeros [2, 12]"));
  EXPECT_THAT(message, HasSubstr("model.layers.0.mlp.up_proj.qweight has the dtype fp32, expected int32"));
}

// Quantized while loaded.
class OnLoadTest : public QuantizedTest {
 protected:
  static ModelSpec Quantized(const TinyCheckpoint& tiny, const std::string& format) {
    ModelSpec spec = tiny.spec();
    const absl::Status status = QuantizeOnLoad(*ParseQuantize(format), spec);
    EXPECT_TRUE(status.ok()) << status;
    return spec;
  }
  static at::Tensor Raw(const TinyCheckpoint& tiny, const std::string& name) {
    const TensorInfo& info = tiny.checkpoint().tensors().at(name);
    std::string bytes = Bytes(tiny.checkpoint(), info);
    return at::from_blob(bytes.data(), info.shape, at::kFloat).clone();
  }
};

TEST_F(OnLoadTest, LinearsAreWhatQuantizeMakesOfThem) {
  const TinyCheckpoint llama(TinyLlama()), gpt2(TinyGpt2());
  for (const std::string format : {"int8", "int4", "int4:64"}) {
    const WeightFormat held = *ParseQuantize(format);
    const auto expect = [&](const LinearWeight& weight, const at::Tensor& raw, const WeightFormat& as) {
      const at::Tensor zero = weight.Forward(at::zeros({1, weight.in_features()})).t();
      EXPECT_TRUE(at::allclose(Matrix(weight) - zero, Dequantize(Quantize(raw, as), as), 0, 1e-6)) << format;
    };
    for (const int64_t staging : {int64_t{1}, int64_t{16} << 20}) {
      LoadOptions options;
      options.staging_bytes = staging;
      const ModelSpec spec = Quantized(llama, format);
      const auto model = Loaded(spec, llama.checkpoint(), *ops_, {}, options);
      expect(*model->layer(2).mlp()->down().weight(), Raw(llama, "model.layers.2.mlp.down_proj.weight"), held);
      const ModelSpec tied = Quantized(gpt2, format);
      const auto turned = Loaded(tied, gpt2.checkpoint(), *ops_, {}, options);
      expect(*turned->layer(1).attention().qkv().weight(),
             Raw(gpt2, "transformer.h.1.attn.c_attn.weight").t().contiguous(), held);
    }
  }
}

TEST_F(OnLoadTest, WeightsThatCannotBeQuantizedAreNamed) {
  const TinyCheckpoint tiny(TinyLlama());
  const std::string name = "model.layers.2.mlp.up_proj.weight";
  const auto complaint = [&](float value, const std::string& format) {
    const TestFolder folder;
    std::vector<TestTensor> tensors;
    for (const auto& [stored, info] : tiny.checkpoint().tensors()) {
      tensors.push_back({stored, kStored.at(info.dtype), info.shape, Bytes(tiny.checkpoint(), info)});
      if (stored == name) std::memcpy(&tensors.back().data[400], &value, 4);
    }
    folder.Write("config.json", tiny.checkpoint().config().dump());
    folder.Write("model.safetensors", SafetensorsFile(tensors));
    const auto checkpoint = *Checkpoint::Open(folder.path());
    const ModelSpec spec = Quantized(tiny, format);
    DeviceModel model(Context(spec, *ops_), AllUnits(spec));
    const absl::Status status = testing::LoadRank(spec, *checkpoint, model.Targets(), {});
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << status;
    return std::string(status.message());
  };
  for (const std::string format : {"int8", "int4"})
    EXPECT_EQ(complaint(NAN, format), name + ": expected finite weights, found others");
  EXPECT_EQ(complaint(1e6, "int4"), name + ": expected weights with scales that fp16 holds, found larger ones");
}

TEST_F(OnLoadTest, ATiedTableServesBothEnds) {
  const TinyCheckpoint tiny(TinyLlama({{"tie_word_embeddings", true}}));
  const ModelSpec spec = Quantized(tiny, "int4");
  DeviceModel ends(Context(spec, *ops_), AllUnits(spec)), first(Context(spec, *ops_), {0, 1, 2}),
      last(Context(spec, *ops_), {3, 4, 5, 6});
  LoadTargets both = first.Targets(), more = last.Targets();
  both.linears.insert(both.linears.end(), more.linears.begin(), more.linears.end());
  both.vectors.insert(both.vectors.end(), more.vectors.begin(), more.vectors.end());
  ASSERT_TRUE(testing::LoadRank(spec, tiny.checkpoint(), both, {}).ok());
  const WeightFormat int8{.kind = WeightKind::kInt8};
  const at::Tensor table = Dequantize(Quantize(Raw(tiny, "model.embed_tokens.weight"), int8), int8);
  const LinearTarget &embedding = both.linears.front(), &head = both.linears.back();
  EXPECT_TRUE(embedding.weight->Lookup(at::tensor(std::vector<int64_t>{5, 95}))[1].equal(table[95]));
  EXPECT_TRUE(Matrix(*head.weight).equal(table));
  // On one device the table is there once.
  EXPECT_EQ(ends.Targets().linears.size() + 1, both.linears.size());
}

TEST_F(OnLoadTest, WhatIsHeldIsWhatThePlanCounts) {
  const TinyCheckpoint tiny(TinyLlama());
  for (const std::string format : {"none", "int8", "int4", "int4:64"}) {
    const ModelSpec spec = Quantized(tiny, format);
    DeviceModel model(Context(spec, *ops_), AllUnits(spec));
    int64_t held = 0, planned = 0;
    for (const LinearTarget& linear : model.Targets().linears) held += linear.weight->bytes();
    for (const VectorTarget& vector : model.Targets().vectors) held += vector.values.nbytes();
    VisitParameters(spec.modules,
                    [&planned](const std::string&, const Parameter& p) { planned += p.buffer ? 0 : p.bytes(); });
    EXPECT_EQ(held, planned) << format;
  }
}

TEST_F(OnLoadTest, SharesAreTheNumbersOfOneDevice) {
  for (const Json& config : {TinyLlama(), TinyQwen3Moe(), TinyGpt2()}) {
    const TinyCheckpoint tiny(config);
    const ModelSpec spec = Quantized(tiny, "int8");
    const auto whole = Loaded(spec, tiny.checkpoint(), *ops_);
    std::vector<std::unique_ptr<DeviceModel>> models;
    std::vector<LoadTargets> ranks;
    for (const int rank : {0, 1}) {
      models.push_back(std::make_unique<DeviceModel>(Context(spec, *ops_, {.rank = rank, .size = 2}), AllUnits(spec)));
      ranks.push_back(models.back()->Targets());
    }
    const absl::Status loaded = LoadWeights(spec, tiny.checkpoint(), ranks, {.readers = 3});
    ASSERT_TRUE(loaded.ok()) << loaded;
    const auto expect = [&](const auto& weight_of) {
      const at::Tensor all = Matrix(*weight_of(*whole)), first = Matrix(*weight_of(*models[0]));
      const int64_t inputs = first.size(1);
      ASSERT_LT(inputs, all.size(1));
      EXPECT_TRUE(first.equal(all.narrow(1, 0, inputs)));
      // The first rank alone adds the bias.
      const at::Tensor second = Matrix(*weight_of(*models[1])),
                       bias = weight_of(*whole)->Forward(at::zeros({1, all.size(1)})).t();
      EXPECT_TRUE(at::allclose(second, all.narrow(1, inputs, all.size(1) - inputs) - bias, 0, 1e-6));
    };
    expect([](const DeviceModel& m) { return m.layer(1).attention().output().weight(); });
    expect([](const DeviceModel& m) {
      return m.layer(1).moe() != nullptr ? m.layer(1).moe()->experts()[2].down().weight()
                                         : m.layer(1).mlp()->down().weight();
    });
  }
}

TEST_F(OnLoadTest, RanksAddUpToNearlyThePlainWhole) {
  const TinyCheckpoint tiny(TinyLlama({{"intermediate_size", 128}}));
  const ModelSpec spec = Quantized(tiny, "int8");
  const auto plain = Loaded(tiny.spec(), tiny.checkpoint(), *ops_);
  const at::Tensor x = at::randn({5, 64}), want = plain->layer(1).mlp()->Forward(testing::OpsAlone(*ops_), x);
  at::Tensor sum;
  for (const int rank : {0, 1}) {
    const auto shard = Loaded(spec, tiny.checkpoint(), *ops_, {.rank = rank, .size = 2});
    const at::Tensor part = shard->layer(1).mlp()->Forward(testing::OpsAlone(*ops_), x);
    sum = rank == 0 ? part : sum + part;
  }
  EXPECT_LT(((sum - want).norm() / want.norm()).item<float>(), 0.02);
}

}  // namespace
}  // namespace causeway
