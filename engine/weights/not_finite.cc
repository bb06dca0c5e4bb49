#include "engine/weights/not_finite.h"

#include <algorithm>

namespace causeway {
namespace {

// Those whose exponent has all of its bits. In blocks, so that the inner loop is one for the vector units.
template <typename Bits>
int64_t Count(const void* values, int64_t n, Bits exponent) {
  constexpr int64_t kBlock = 4096;
  const Bits* bits = static_cast<const Bits*>(values);
  int64_t count = 0;
  for (int64_t first = 0; first < n; first += kBlock) {
    const int64_t end = std::min(n, first + kBlock);
    Bits in_block = 0;
    for (int64_t i = first; i < end; ++i) in_block += static_cast<Bits>((bits[i] & exponent) == exponent);
    count += in_block;
  }
  return count;
}

}  // namespace

int64_t CountNotFinite(const at::Tensor& values) {
  const int64_t n = values.numel();
  switch (values.scalar_type()) {
    case at::kFloat: return Count<uint32_t>(values.const_data_ptr(), n, 0x7f800000);
    case at::kBFloat16: return Count<uint16_t>(values.const_data_ptr(), n, 0x7f80);
    case at::kHalf: return Count<uint16_t>(values.const_data_ptr(), n, 0x7c00);
    default: return 0;
  }
}

}  // namespace causeway
