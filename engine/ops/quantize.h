// Quantizes weights, and says what quantized weights stand for.
#ifndef CAUSEWAY_ENGINE_OPS_QUANTIZE_H_
#define CAUSEWAY_ENGINE_OPS_QUANTIZE_H_

#include <ATen/core/Tensor.h>

#include "engine/base/weight_format.h"
#include "engine/ops/ops.h"

namespace causeway {

// Quantizes rows [n, in], a CPU tensor of any floating dtype, to kInt8 or to kInt4 without zero points. For kInt8, the
// largest magnitude of a row becomes 127. For kInt4, a few scales of either sign are tried for each group, and the one
// of least squared error is taken. Runs on the calling thread, with the processor's best instructions. c10::ValueError:
// weights that are not finite, or too large for kInt4's scales in fp16. c10::Error: another format.
QuantizedRows Quantize(const at::Tensor& rows, const WeightFormat& format);
// The same for shares of rows, to kInt8 with the scales of the whole rows, whose largest magnitudes are `largest`, fp32
// [n].
QuantizedRows QuantizeShares(const at::Tensor& rows, const at::Tensor& largest);

// fp32 [n, in] on the rows' device: (value - zero) * scale, with one rounding.
at::Tensor Dequantize(const QuantizedRows& rows, const WeightFormat& format);

// Packs int4 values two a byte, the even input in the low half: uint8 [n, in] <-> [n, (in + 1) / 2]. Works on any
// device.
at::Tensor PackNibbles(const at::Tensor& values);
at::Tensor UnpackNibbles(const at::Tensor& packed, int64_t in);

}  // namespace causeway

#endif  // CAUSEWAY_ENGINE_OPS_QUANTIZE_H_
