// Quantized weights: what config.json says of a checkpoint's, and quantizing those of any other while they are loaded.
// Architectures know nothing of either: both rewrite a finished ModelSpec, its linears and the parameters of their
// modules.
#ifndef CAUSEWAY_ENGINE_ARCHITECTURE_QUANTIZATION_H_
#define CAUSEWAY_ENGINE_ARCHITECTURE_QUANTIZATION_H_

#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "engine/architecture/config_reader.h"
#include "engine/architecture/module_names.h"
#include "engine/architecture/spec.h"

namespace causeway {

// How a checkpoint's weights are quantized.
struct Quantization {
  std::string method;  // "gptq"
  WeightEncoding encoding;
  WeightFormat format;
  ModuleNames kept;  // modules that stay plain
  // When not empty, only modules whose paths end in one of these are quantized.
  std::vector<std::string> only;
};

// Reads quantization_config: fp8 with blocks of 128 x 128, GPTQ and AWQ of 4 bits. Anything else is unsupported by
// name. Nothing when the config has none, or an error that `config` was told of.
std::optional<Quantization> ReadQuantization(ConfigReader& config);

// Makes the layers' linears, routers aside, those of a checkpoint quantized this way. The head, embeddings and norms
// are as they were. InvalidArgument: sizes that the format cannot hold. Unimplemented: a linear some of whose parts are
// quantized and some are not.
absl::Status ApplyQuantization(const Quantization& quantization, ModelSpec& spec);

// The --quantize option: none, int8, int4, int4:32, int4:64. int4 is int4:32. InvalidArgument lists these.
absl::StatusOr<WeightFormat> ParseQuantize(absl::string_view text);

// Has all linears of a plain checkpoint quantized to `format` while they are loaded, routers aside. The head, and with
// it a tied embedding, is int8 in any case: an error there meets every token directly. Nothing with kFloat.
// FailedPrecondition: the checkpoint is quantized already.
absl::Status QuantizeOnLoad(const WeightFormat& format, ModelSpec& spec);

}  // namespace causeway

#endif  // CAUSEWAY_ENGINE_ARCHITECTURE_QUANTIZATION_H_
