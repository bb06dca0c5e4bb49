// What a model computes, as data: an architecture is a function from config.json to a ModelSpec and one row in the
// factory table (registry.h). engine/model executes any ModelSpec; engine/plan places its module tree.
#ifndef CAUSEWAY_ENGINE_ARCHITECTURE_SPEC_H_
#define CAUSEWAY_ENGINE_ARCHITECTURE_SPEC_H_

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "engine/architecture/module.h"
#include "engine/base/activation.h"
#include "engine/base/dtype.h"
#include "engine/base/routing.h"
#include "engine/base/weight_format.h"

namespace causeway {

enum class NormKind { kRms, kLayer };

struct NormSpec {
  NormKind kind = NormKind::kRms;
  double eps = 1e-5;
  std::string weight;  // full tensor names, canonical spelling
  std::string bias;    // empty: none
};

// How a checkpoint stores a linear's weight. The tensors of a part are named after its module, NAME.weight being the
// plain one.
struct WeightEncoding {
  enum class Kind : uint8_t {
    kFloat,  // NAME.weight, bf16, fp16 or fp32
    kFp8,    // NAME.weight, e4m3fn; NAME.weight_scale_inv [out / 128, in / 128], a factor for each block
    kGptq,  // NAME.qweight [in / 8, out], eight inputs to an int32; NAME.scales [groups, out]; NAME.qzeros [groups, out
            // / 8]; NAME.g_idx [in], each input's group, where the format is reordered
    kAwq,   // NAME.qweight [in, out / 8], eight outputs to an int32, interleaved; scales and qzeros as kGptq, so
            // interleaved
  };
  Kind kind = Kind::kFloat;
  int64_t zero_offset = 0;  // kGptq: a group's zero is what qzeros holds and this, modulo 16
};

// A linear as the checkpoint stores it: parts that are concatenated along their outputs (q, k, v; gate, up).
struct LinearSpec {
  struct Part {
    std::string weight;  // full tensor name
    std::string bias;    // empty: none
    int64_t out_features = 0;
  };
  std::vector<Part> parts;
  int64_t in_features = 0;
  // Stored as [in, out] (gpt2's Conv1D) rather than [out, in].
  bool transposed = false;
  WeightEncoding encoding;
  WeightFormat format;  // as held in memory, whatever the checkpoint stores
  int64_t out_features() const {
    int64_t n = 0;
    for (const Part& part : parts) n += part.out_features;
    return n;
  }
};

// Names of the tensors that hold the weight of a part of `linear`: values, scales, zeros, order, as its encoding has
// them.
std::vector<std::string> StoredTensors(const LinearSpec& linear, const LinearSpec::Part& part);

// Rotary position embedding over the first `dim` of each head's dimensions, the two halves rotated as pairs (i, i +
// dim/2). inv_freq and attention_factor already hold the scaling, but for what happens to texts longer than `original`.
struct RopeSpec {
  int64_t dim = 0;  // 0: no rotary embedding
  double theta = 10000;
  std::vector<double> inv_freq;  // [dim / 2]
  double attention_factor = 1;   // multiplies cos and sin
  // Texts of up to this many positions have inv_freq, longer ones InvFreqAt (rope.h): those of longrope, or of dynamic
  // NTK scaling.
  int64_t original = INT64_MAX;
  std::vector<double> long_inv_freq;  // longrope: [dim / 2], else empty
  double dynamic_factor = 0;          // dynamic NTK, else 0
  double stretch = 1;                 // the longest text this is made for, as a multiple of max_position_embeddings
};

// RMS norms of queries and keys before their rotation: of each head by itself (weights [head_dim]), or of the whole
// projection (weights [heads * head_dim] and [kv_heads * head_dim]).
struct QueryKeyNormSpec {
  NormSpec query, key;
  bool per_head = true;
};

struct AttentionSpec {
  LinearSpec qkv;  // outputs: heads * head_dim, then kv_heads * head_dim twice; one part when stored fused
  LinearSpec output;
  double scale = 0;            // of q.k, usually head_dim^-0.5
  int64_t sliding_window = 0;  // a token attends to itself and the window - 1 before it; 0: to all
  std::optional<QueryKeyNormSpec> norms;
};

struct MlpSpec {
  bool gated = false;
  LinearSpec up;  // gated: gate's outputs, then up's
  LinearSpec down;
  Activation activation = Activation::kSilu;
};

// A mixture of experts in the place of an MLP.
struct MoeSpec {
  LinearSpec router;  // [experts, hidden]
  std::string
      correction_bias;  // tensor [experts], fp32 in memory: added to the scores for the choice alone; empty: none
  RoutingRule rule;
  std::vector<MlpSpec> experts;
};

struct LayerSpec {
  std::string path;  // "model.layers.3"
  NormSpec attention_norm;
  AttentionSpec attention;
  NormSpec mlp_norm;
  MlpSpec mlp;  // unused where there is a `moe`
  std::optional<MoeSpec> moe;
};

// Another spelling that checkpoints have for some tensors. `stored` has # for any number, which stands for the same one
// in each of `canonical`. With * in these, the stored tensor is a stack [n, rows, ...]: slice i holds the tensors named
// with i for *, one after the other, each with an equal share of the rows.
struct TensorSpelling {
  std::string stored;                  // "model.layers.#.mlp.experts.gate_up_proj"
  std::vector<std::string> canonical;  // "model.layers.#.mlp.experts.*.gate_proj.weight", and the same of up_proj
};

struct ModelSpec {
  std::string architecture;  // the factory table's key: "llama"
  int64_t vocab_size = 0, hidden_size = 0, heads = 0, kv_heads = 0, head_dim = 0, intermediate_size = 0;
  int64_t context_max = 0;  // positions the model was made for
  RopeSpec rope;
  std::string embedding_path;           // module paths of the execution units outside the layers, for device maps
  std::string position_embedding_path;  // empty: none
  std::string final_norm_path;
  std::string head_path;
  std::string embedding_weight;  // [vocab, hidden]
  std::string position_weight;   // [positions, hidden]; empty: none
  std::vector<LayerSpec> layers;
  NormSpec final_norm;
  LinearSpec head;  // with a tied head, its weight is embedding_weight
  bool tied_head = false;
  // Tensors that checkpoints may hold beyond the tree's and that nothing reads, canonical spelling with # for any
  // number: "transformer.h.#.attn.bias".
  std::vector<std::string> inert_tensors;
  std::vector<TensorSpelling> spellings;
  Module modules;            // the whole tree; its parameters' dtype is the computation's
  std::string quantization;  // of the weights, in words: "int4 in groups of 32"; empty: none
  // With a quantization, what stays in the computation's dtype: module paths, "#" standing for every number.
  std::vector<std::string> unquantized;
  std::vector<int32_t> eos_token_ids;  // generation_config.json first, then config.json
  std::vector<std::string> warnings;   // unknown config keys, and the like

  int64_t parameter_count() const;  // tied once, buffers not counted
  std::string title() const;        // "llama, 1.10 B parameters"
};

}  // namespace causeway

#endif  // CAUSEWAY_ENGINE_ARCHITECTURE_SPEC_H_
