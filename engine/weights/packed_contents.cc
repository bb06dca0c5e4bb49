#include "engine/weights/packed_contents.h"

#include <sys/stat.h>

#include <algorithm>
#include <filesystem>

#include <nlohmann/json.hpp>

#include "absl/strings/str_cat.h"
#include "engine/base/dtype.h"

namespace causeway {
namespace {

constexpr int kLayout = 2;  // raised with every change of a packed layout

bool Reordered(const MlpSpec& mlp) { return mlp.up.format.reordered || mlp.down.format.reordered; }

}  // namespace

PackedContents DescribePacked(const ModelSpec& spec, const Checkpoint& checkpoint, DType dtype, bool reference_ops) {
  PackedContents contents;
  contents.text = absl::StrCat("layout ", kLayout, ", ", reference_ops ? "reference" : "fused", ", ", DTypeName(dtype),
                               ", ", spec.quantization.empty() ? "not quantized" : spec.quantization);
  for (const std::string& file : checkpoint.files()) {
    struct stat entry = {};
    ::stat(file.c_str(), &entry);
    // A copy of another model may have its time of writing, but not the time when it came here.
    absl::StrAppend(&contents.text, "\n", std::filesystem::absolute(file).string(), ", ", entry.st_size,
                    " bytes, inode ", entry.st_dev, ":", entry.st_ino, ", written ", entry.st_mtim.tv_sec, ".",
                    entry.st_mtim.tv_nsec, ", changed ", entry.st_ctim.tv_sec, ".", entry.st_ctim.tv_nsec);
  }
  absl::StrAppend(&contents.text, "\n", checkpoint.config().dump());
  // An order of inputs is set while a weight is loaded.
  for (const LayerSpec& layer : spec.layers) {
    contents.reusable &=
        !layer.attention.qkv.format.reordered && !layer.attention.output.format.reordered && !Reordered(layer.mlp);
    if (layer.moe.has_value())
      contents.reusable &= std::none_of(layer.moe->experts.begin(), layer.moe->experts.end(), Reordered);
  }
  return contents;
}

}  // namespace causeway
