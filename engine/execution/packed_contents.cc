#include "engine/execution/packed_contents.h"

#include <sys/stat.h>

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "engine/base/dtype.h"

namespace causeway {
namespace {

constexpr int kLayout = 1;  // raised with every change of a packed layout

bool Reordered(const MlpSpec& mlp) { return mlp.up.format.reordered || mlp.down.format.reordered; }

}  // namespace

PackedContents DescribePacked(const ModelSpec& spec, const Checkpoint& checkpoint, DType dtype, bool reference_ops) {
  PackedContents contents;
  contents.text = absl::StrCat("layout ", kLayout, ", ", reference_ops ? "reference" : "fused", ", ", DTypeName(dtype), ", ",
                               spec.quantization.empty() ? "not quantized" : spec.quantization);
  for (const std::string& file : checkpoint.files()) {
    struct stat entry = {};
    ::stat(file.c_str(), &entry);
    absl::StrAppend(&contents.text, "\n", file, ", ", entry.st_size, " bytes, of ", entry.st_mtim.tv_sec, ".", entry.st_mtim.tv_nsec);
  }
  // An order of inputs is set while a weight is loaded.
  for (const LayerSpec& layer : spec.layers) {
    contents.reusable &= !layer.attention.qkv.format.reordered && !layer.attention.output.format.reordered && !Reordered(layer.mlp);
    if (layer.moe.has_value()) contents.reusable &= std::none_of(layer.moe->experts.begin(), layer.moe->experts.end(), Reordered);
  }
  return contents;
}

}  // namespace causeway
