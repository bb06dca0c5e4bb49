#include "engine/ops/quantize.h"

#include <algorithm>
#include <cmath>

#include <ATen/TensorOperators.h>
#include <ATen/core/IListRef.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/isfinite.h>
#include <ATen/ops/pad.h>
#include <ATen/ops/stack.h>
#include <c10/core/InferenceMode.h>
#include <c10/util/Exception.h>

#include "engine/ops/cpu/isa.h"

namespace causeway {

QuantizedRows Quantize(const at::Tensor& rows, const WeightFormat& format) {
  TORCH_CHECK(rows.is_cpu() && rows.dim() == 2 && rows.is_floating_point(),
              "Quantize: expected floating [n, in] on the CPU, got ", rows.toString(), " of shape ", rows.sizes());
  const bool int8 = format.kind == WeightKind::kInt8;
  TORCH_CHECK(int8 || (format.kind == WeightKind::kInt4 && !format.zero_points),
              "Quantize: weights are quantized to int8, or to int4 without zero points; fp8 and int4 with them come "
              "from checkpoints alone");
  c10::InferenceMode guard;
  static const cpu::Kernels& kernels = cpu::KernelsOf(cpu::SupportedIsas().front());
  const at::ScalarType dtype = rows.scalar_type() == at::kBFloat16 ? at::kBFloat16 : at::kFloat;
  const at::Tensor source = rows.to(dtype).contiguous();
  const int64_t n = rows.size(0), in = rows.size(1);
  QuantizedRows quantized;
  quantized.values = at::empty({n, in}, int8 ? at::kChar : at::kByte);
  quantized.scales = at::empty({n, format.groups(in)}, at::kFloat);
  const cpu::QuantizeArgs args{.element = dtype == at::kFloat ? cpu::Element::kFp32 : cpu::Element::kBf16,
                               .x = source.const_data_ptr(),
                               .values = quantized.values.mutable_data_ptr(),
                               .scales = quantized.scales.mutable_data_ptr<float>(),
                               .rows = n,
                               .in = in,
                               .group = format.group > 0 ? format.group : in};
  (int8 ? kernels.quantize_int8 : kernels.quantize_int4)(args);
  TORCH_CHECK_VALUE(std::all_of(args.scales, args.scales + quantized.scales.numel(),
                                [](float scale) { return std::isfinite(scale); }),
                    "expected ",
                    at::isfinite(source).all().item<bool>() ? "weights with scales that fp16 holds, found larger ones"
                                                            : "finite weights, found others");
  return quantized;
}

QuantizedRows QuantizeShares(const at::Tensor& rows, const at::Tensor& largest) {
  // One more input in each row, of that magnitude, makes the scale.
  const at::Tensor longer = at::cat({rows, largest.to(rows.scalar_type()).unsqueeze(1)}, 1);
  QuantizedRows quantized = Quantize(longer, {.kind = WeightKind::kInt8});
  quantized.values = quantized.values.narrow(1, 0, rows.size(1)).contiguous();
  return quantized;
}

at::Tensor Dequantize(const QuantizedRows& rows, const WeightFormat& format) {
  const int64_t in = rows.values.size(1), groups = format.groups(in), width = groups == 1 ? in : format.group;
  at::Tensor values =
      (format.kind == WeightKind::kFp8 ? rows.values.view(at::kFloat8_e4m3fn) : rows.values).to(at::kFloat);
  // Works in place, on the groups first .. first + count as a view [n, count, wide].
  const auto dequantize = [&](int64_t first, int64_t count, int64_t wide) {
    if (count == 0) return;
    at::Tensor part = values.narrow(1, first * width, count * wide).unflatten(1, {count, wide});
    if (rows.zeros.defined())
      part.sub_(rows.zeros.narrow(1, first, count).unsqueeze(2));
    else if (format.kind == WeightKind::kInt4)
      part.sub_(8);
    part.mul_(rows.scales.narrow(1, first, count).unsqueeze(2));
  };
  dequantize(0, in / width, width);
  if (in % width > 0) dequantize(groups - 1, 1, in % width);
  return values;
}

at::Tensor PackNibbles(const at::Tensor& values) {
  const at::Tensor even = values.size(1) % 2 == 0 ? values : at::pad(values, {0, 1});
  const at::Tensor pairs = even.view({even.size(0), -1, 2});
  return pairs.select(2, 0).bitwise_or(pairs.select(2, 1).bitwise_left_shift(4)).contiguous();
}

at::Tensor UnpackNibbles(const at::Tensor& packed, int64_t in) {
  return at::stack({packed.bitwise_and(15), packed.bitwise_right_shift(4)}, 2)
      .view({packed.size(0), -1})
      .narrow(1, 0, in);
}

}  // namespace causeway
