// Quantizing weights, and what quantized weights stand for.
#ifndef CAUSEWAY_ENGINE_OPS_QUANTIZE_H_
#define CAUSEWAY_ENGINE_OPS_QUANTIZE_H_

#include <ATen/core/Tensor.h>

#include "engine/base/weight_format.h"
#include "engine/ops/ops.h"

namespace causeway {

// rows [n, in], a CPU tensor of any floating dtype, to kInt8 or to kInt4 without zero points. kInt8: the largest
// magnitude of a row becomes 127. kInt4: of a few scales for each group, of either sign, the one of least squared
// error. Runs on the calling thread, with the processor's best instructions. c10::ValueError: weights that are not
// finite, or too large for kInt4's scales in fp16. c10::Error: another format.
QuantizedRows Quantize(const at::Tensor& rows, const WeightFormat& format);

// fp32 [n, in] on the rows' device: (value - zero) * scale, one rounding.
at::Tensor Dequantize(const QuantizedRows& rows, const WeightFormat& format);

// int4 values two a byte, the even input in the low half: uint8 [n, in] <-> [n, (in + 1) / 2]. Any device.
at::Tensor PackNibbles(const at::Tensor& values);
at::Tensor UnpackNibbles(const at::Tensor& packed, int64_t in);

}  // namespace causeway

#endif  // CAUSEWAY_ENGINE_OPS_QUANTIZE_H_
