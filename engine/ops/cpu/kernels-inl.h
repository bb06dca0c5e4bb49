// All kernels for one instruction set; see kernels.h. kernels_*.cc include this file after they define CAUSEWAY_ISA.

#include "engine/ops/cpu/kernels.h"

// The order matters: each file uses those before it.
// clang-format off
#include "engine/ops/cpu/vector-inl.h"
#include "engine/ops/cpu/region-inl.h"
#include "engine/ops/cpu/tile-inl.h"
#include "engine/ops/cpu/linear-inl.h"
#include "engine/ops/cpu/norm-inl.h"
#include "engine/ops/cpu/activation-inl.h"
#include "engine/ops/cpu/experts-inl.h"
#include "engine/ops/cpu/quantize-inl.h"
#include "engine/ops/cpu/rotary-inl.h"
#include "engine/ops/cpu/pack-inl.h"
#include "engine/ops/cpu/quantized_tile-inl.h"
#include "engine/ops/cpu/quantized_float_tile-inl.h"
#include "engine/ops/cpu/quantized_pack-inl.h"
#include "engine/ops/cpu/quantized_linear-inl.h"
#include "engine/ops/cpu/attention_pack-inl.h"
#include "engine/ops/cpu/softmax-inl.h"
#include "engine/ops/cpu/attention-inl.h"
// clang-format on

namespace causeway::cpu::CAUSEWAY_ISA {

extern const Kernels kKernels = {
    .linear = Linear,
    .linear_scratch_bytes = LinearScratchBytes,
    .quantized_linear = QuantizedLinear,
    .quantized_scratch_bytes = QuantizedLinearScratchBytes,
    .pack_rows = PackRows,
    .rms_norm = RmsNorm,
    .layer_norm = LayerNorm,
    .norm_columns = NormColumns,
    .activate = Activate,
    .route = Route,
    .combine = Combine,
    .rotary_and_cache = RotaryAndCache,
    .attention = Attention,
    .quantize_int8 = QuantizeInt8,
    .quantize_int4 = QuantizeInt4,
    .exp = ExpOf,
    .gelu = GeluOf,
};

}  // namespace causeway::cpu::CAUSEWAY_ISA
