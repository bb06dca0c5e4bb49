#include "engine/device/collectives.h"

#include <algorithm>

#include <c10/util/BFloat16.h>
#include <c10/util/Exception.h>
#include <c10/util/Half.h>

namespace causeway {
namespace {

constexpr int64_t kPieceElements = 512;  // added up at once, on the stack

template <class T>
void AddUp(absl::Span<char* const> from, absl::Span<char* const> to, int64_t first, int64_t end) {
  float sums[kPieceElements];
  for (int64_t begin = first; begin < end; begin += kPieceElements) {
    const int64_t count = std::min(kPieceElements, end - begin);
    for (size_t rank = 0; rank < from.size(); ++rank) {
      const T* addends = reinterpret_cast<const T*>(from[rank]) + begin;
      if (rank == 0) {
        for (int64_t i = 0; i < count; ++i) sums[i] = static_cast<float>(addends[i]);
      } else {
        for (int64_t i = 0; i < count; ++i) sums[i] += static_cast<float>(addends[i]);
      }
    }
    for (char* data : to) {
      T* results = reinterpret_cast<T*>(data) + begin;
      for (int64_t i = 0; i < count; ++i) results[i] = static_cast<T>(sums[i]);
    }
  }
}

}  // namespace

void SumInRankOrder(at::ScalarType type, absl::Span<char* const> from, absl::Span<char* const> to, int64_t first,
                    int64_t end) {
  switch (type) {
    case at::kFloat: return AddUp<float>(from, to, first, end);
    case at::kBFloat16: return AddUp<c10::BFloat16>(from, to, first, end);
    case at::kHalf: return AddUp<c10::Half>(from, to, first, end);
    default: TORCH_CHECK(false, "no sum over ranks for ", type);
  }
}

}  // namespace causeway
