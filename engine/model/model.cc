#include "engine/model/model.h"

#include <algorithm>
#include <utility>

#include <c10/util/Exception.h>

namespace causeway {
namespace {

// A table of rows as a linear, so that the loader treats both alike.
LinearSpec TableSpec(const std::string& tensor, int64_t rows, int64_t columns) {
  return {.parts = {{tensor, "", rows}}, .in_features = columns, .transposed = false};
}

void AddTargets(LoadTargets& targets, const Linear& linear) {
  targets.linears.push_back({linear.weight().get(), linear.spec(), linear.shard()});
}

void AddTargets(LoadTargets& targets, const Norm& norm) {
  targets.vectors.push_back({norm.spec().weight, norm.weight(), norm.first()});
  if (norm.bias().defined()) targets.vectors.push_back({norm.spec().bias, norm.bias()});
}

void AddTargets(LoadTargets& targets, const Mlp& mlp) {
  AddTargets(targets, mlp.up());
  AddTargets(targets, mlp.down());
}

void AddTargets(LoadTargets& targets, const Moe& moe) {
  AddTargets(targets, moe.router());
  if (moe.correction().defined()) targets.vectors.push_back({moe.correction_tensor(), moe.correction()});
  for (const Mlp& expert : moe.experts()) AddTargets(targets, expert);
}

int64_t PositionRows(const Module& module, const std::string& prefix, const std::string& tensor) {
  for (const Parameter& parameter : module.parameters) {
    if (prefix + parameter.name == tensor) return parameter.shape.at(0);
  }
  for (const Module& child : module.children) {
    if (int64_t rows = PositionRows(child, prefix + child.name + ".", tensor); rows > 0) return rows;
  }
  return 0;
}

// Layers of one kind start the same operations on the same shapes.
struct LayerKind {
  bool experts;
  std::vector<WeightFormat> formats;

  explicit LayerKind(const LayerSpec& layer) : experts(layer.moe.has_value()) {
    const MlpSpec& mlp = experts ? layer.moe->experts.front() : layer.mlp;
    formats = {layer.attention.qkv.format, layer.attention.output.format, mlp.up.format, mlp.down.format};
    if (experts) formats.push_back(layer.moe->router.format);
  }
  bool operator==(const LayerKind& other) const { return experts == other.experts && formats == other.formats; }
};

}  // namespace

DeviceModel::DeviceModel(const ModelContext& context, const std::vector<int>& units)
    : spec_(context.spec),
      ops_(context.ops),
      group_(context.group),
      words_(OrThrow(ShardWords(context.spec, context.group))) {
  const Units model = UnitsOf(spec_);
  for (int unit : units) {
    if (unit == Units::kEmbeddings) {
      fetcher_ = context.fetcher;
      // A tied head is held as the head is, and embeddings are looked up in that.
      const WeightFormat format = spec_.tied_head ? spec_.head.format : WeightFormat{};
      if (!Fetched(spec_.embedding_weight)) {
        embedding_ =
            ops_.NewLinear(words_.count, spec_.hidden_size, /*bias=*/false, context.dtype, context.device, format);
      }
      if (!spec_.position_weight.empty() && !Fetched(spec_.position_weight)) {
        const int64_t rows = PositionRows(spec_.modules, "", spec_.position_weight);
        TORCH_CHECK(rows > 0, "the module tree has no ", spec_.position_weight);
        position_ = ops_.NewLinear(rows, spec_.hidden_size, /*bias=*/false, context.dtype, context.device);
      }
    } else if (model.is_layer(unit)) {
      const int index = Units::LayerOf(unit);
      ModelContext layer_context = context;
      layer_context.layer = index;
      layers_.emplace(index, Layer(layer_context, spec_.layers[index]));
    } else if (unit == model.norm()) {
      norm_.emplace(context, spec_.final_norm, spec_.hidden_size);
    } else if (spec_.tied_head && embedding_ != nullptr) {
      head_.emplace(spec_.head, embedding_);
    } else {
      head_.emplace(context, spec_.head, OrThrow(ShardHead(spec_, context.group)));
    }
  }
}

LoadTargets DeviceModel::Targets() {
  LoadTargets targets;
  for (const auto& [weight, tensor] :
       {std::pair(embedding_, spec_.embedding_weight), std::pair(position_, spec_.position_weight)}) {
    if (Fetched(tensor)) targets.elsewhere.push_back(tensor);
    if (weight == nullptr) continue;
    const bool words = weight == embedding_;
    const LinearSpec table =
        TableSpec(tensor, words ? spec_.vocab_size : weight->out_features(), weight->in_features());
    LinearShard shard = WholeShard(table);
    if (words) shard.outputs = {words_};
    targets.linears.push_back({weight.get(), table, std::move(shard)});
  }
  for (const auto& [index, layer] : layers_) {
    AddTargets(targets, layer.attention_norm());
    AddTargets(targets, layer.attention().qkv());
    AddTargets(targets, layer.attention().output());
    for (const Norm& norm : layer.attention().norms()) AddTargets(targets, norm);
    AddTargets(targets, layer.mlp_norm());
    if (layer.mlp() != nullptr) AddTargets(targets, *layer.mlp());
    if (layer.moe() != nullptr) AddTargets(targets, *layer.moe());
  }
  if (norm_.has_value()) AddTargets(targets, *norm_);
  if (head_.has_value() && head_->weight() != embedding_) AddTargets(targets, *head_);
  return targets;
}

std::vector<int> DeviceModel::layers() const {
  std::vector<int> indices;
  for (const auto& [index, layer] : layers_) indices.push_back(index);
  return indices;
}

std::map<int, ExpertLoad> DeviceModel::ExpertLoads() const {
  std::map<int, ExpertLoad> loads;
  for (const auto& [index, layer] : layers_) {
    if (layer.moe() != nullptr) loads.emplace(index, layer.moe()->counter().Read());
  }
  return loads;
}

void DeviceModel::ClearExpertLoads() {
  for (const auto& [index, layer] : layers_) {
    if (layer.moe() != nullptr) layer.moe()->counter().Clear();
  }
}

at::Tensor DeviceModel::Embed(const StageInput& input) const {
  const auto look_up = [this](const at::Tensor& rows, const std::shared_ptr<LinearWeight>& table,
                              const std::string& tensor) {
    return table != nullptr ? table->Lookup(rows) : fetcher_->Rows(tensor, rows);
  };
  at::Tensor hidden = look_up(input.ids, embedding_, spec_.embedding_weight);  // [tokens, hidden]
  if (input.ranks != nullptr) {
    if (input.foreign.defined()) ops_.ZeroRows(hidden, input.foreign);
    input.ranks->AllReduce(hidden);
  }
  if (!spec_.position_weight.empty())
    ops_.Add(hidden, look_up(input.batch->positions, position_, spec_.position_weight));
  return hidden;
}

at::Tensor DeviceModel::Gathered(const at::Tensor& logits, const StageInput& input) const {
  if (input.ranks == nullptr) return logits;
  if (input.candidates > 0) {
    const at::Tensor found = ops_.Candidates(logits, input.candidates, words_.first);
    return input.ranks->GatherColumns(found, std::vector<int64_t>(group_.size, found.size(1)));
  }
  std::vector<int64_t> widths;
  for (int rank = 0; rank < group_.size; ++rank)
    widths.push_back(OrThrow(ShardWords(spec_, {rank, group_.size})).count);
  return input.ranks->GatherColumns(logits, widths);
}

at::Tensor DeviceModel::Forward(UnitRange units, StageInput input, const RotaryTables& rotary, KvCache& cache) const {
  const Units model = UnitsOf(spec_);
  const ForwardContext context{ops_, *input.batch, rotary, input.ranks};
  Hidden hidden;
  if (units.first == Units::kEmbeddings) {
    hidden.residual = Embed(input);
    if (input.after_unit) input.after_unit(Units::kEmbeddings, hidden);
  } else {
    hidden.residual = std::move(input.hidden);
  }
  std::vector<LayerKind> run;  // of one_of_each
  for (const int unit : units.all()) {
    if (!model.is_layer(unit)) continue;
    if (input.one_of_each) {
      LayerKind kind(spec_.layers[Units::LayerOf(unit)]);
      if (std::find(run.begin(), run.end(), kind) != run.end()) continue;
      run.push_back(std::move(kind));
    }
    const Layer& layer = layers_.at(Units::LayerOf(unit));
    layer.Forward(context, hidden, cache.layer(Units::LayerOf(unit)));
    if (input.after_unit) input.after_unit(unit, hidden);
  }
  if (units.contains(model.last_layer()) && input.rows.defined()) {
    hidden.residual = ops_.SelectRows(hidden.residual, input.rows);
    if (hidden.update.defined()) hidden.update = ops_.SelectRows(hidden.update, input.rows);
  }
  if (hidden.residual.size(0) == 0) return std::move(hidden.residual);  // no row was selected
  if (units.contains(model.norm())) hidden.residual = AddAndNorm(ops_, *norm_, hidden);
  if (units.contains(model.head())) return Gathered(head_->Forward(hidden.residual), input);
  if (hidden.update.defined()) ops_.Add(hidden.residual, hidden.update);
  return std::move(hidden.residual);
}

}  // namespace causeway
