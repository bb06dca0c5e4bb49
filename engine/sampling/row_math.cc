#include "engine/sampling/row_math.h"

#include <algorithm>
#include <bit>
#include <limits>

// Resolvers of function clones run before a sanitizer's runtime is up.
#if defined(__x86_64__) && !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
#define CAUSEWAY_CLONES __attribute__((target_clones("avx512f", "avx2", "default")))
#else
#define CAUSEWAY_CLONES
#endif

namespace causeway::row_math {
namespace {

constexpr int64_t kLanes = 16;
constexpr float kNone = -std::numeric_limits<float>::infinity();

// It is inlined into every clone, so that each compiles it for its own instructions.
inline __attribute__((always_inline)) float ExpInline(float x) {
  const bool zero = !(x >= -87.0f);  // true for NaN
  x = zero ? -87.0f : x;
  x = x > 0.0f ? 0.0f : x;
  // x = n ln 2 + r with |r| <= ln 2 / 2; adding 1.5 * 2^23 rounds to the nearest integer.
  const float n = (x * 1.44269504f + 12582912.0f) - 12582912.0f;
  const float r = (x - n * 0.693359375f) + n * 2.12194440e-4f;
  // e^r by its series, to r^7.
  float e = 1.0f / 5040;
  e = e * r + 1.0f / 720;
  e = e * r + 1.0f / 120;
  e = e * r + 1.0f / 24;
  e = e * r + 1.0f / 6;
  e = e * r + 0.5f;
  e = e * r + 1.0f;
  e = e * r + 1.0f;
  const float power = std::bit_cast<float>((static_cast<int32_t>(n) + 127) << 23);
  return zero ? 0.0f : e * power;
}

inline __attribute__((always_inline)) float MaxInline(const float* row, int64_t n) {
  float lanes[kLanes];
  for (int64_t j = 0; j < kLanes; ++j) lanes[j] = kNone;
  int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes) {
    for (int64_t j = 0; j < kLanes; ++j) lanes[j] = row[i + j] > lanes[j] ? row[i + j] : lanes[j];
  }
  for (; i < n; ++i) lanes[0] = row[i] > lanes[0] ? row[i] : lanes[0];
  float max = kNone;
  for (int64_t j = 0; j < kLanes; ++j) max = lanes[j] > max ? lanes[j] : max;
  return max;
}

CAUSEWAY_CLONES float BlockMaximaOf(const float* row, int64_t n, float* maxima) {
  float max = kNone;
  for (int64_t begin = 0; begin < n; begin += kBlock) {
    const float block = MaxInline(row + begin, std::min(kBlock, n - begin));
    maxima[begin / kBlock] = block;
    max = block > max ? block : max;
  }
  return max;
}

CAUSEWAY_CLONES int64_t ArgMaxOf(const float* row, int64_t n) {
  float max = kNone;
  int64_t at = 0;
  for (int64_t begin = 0; begin < n; begin += kBlock) {
    const float block = MaxInline(row + begin, std::min(kBlock, n - begin));
    at = block > max ? begin : at;
    max = block > max ? block : max;
  }
  if (max == kNone) return 0;
  while (row[at] != max) ++at;
  return at;
}

CAUSEWAY_CLONES double BlockExpSumsOf(const float* row, int64_t n, float max, float scale, double* sums) {
  double total = 0;
  for (int64_t begin = 0; begin < n; begin += kBlock) {
    const int64_t end = std::min(begin + kBlock, n);
    float lanes[kLanes] = {};
    int64_t i = begin;
    for (; i + kLanes <= end; i += kLanes) {
      for (int64_t j = 0; j < kLanes; ++j) lanes[j] += ExpInline((row[i + j] - max) * scale);
    }
    for (; i < end; ++i) lanes[0] += ExpInline((row[i] - max) * scale);
    double sum = 0;
    for (int64_t j = 0; j < kLanes; ++j) sum += lanes[j];
    sums[begin / kBlock] = sum;
    total += sum;
  }
  return total;
}

}  // namespace

float Exp(float x) { return ExpInline(x); }

int64_t ArgMax(absl::Span<const float> row) { return ArgMaxOf(row.data(), static_cast<int64_t>(row.size())); }

float BlockMaxima(absl::Span<const float> row, float* maxima) {
  return BlockMaximaOf(row.data(), static_cast<int64_t>(row.size()), maxima);
}

double BlockExpSums(absl::Span<const float> row, float max, float scale, double* sums) {
  return BlockExpSumsOf(row.data(), static_cast<int64_t>(row.size()), max, scale, sums);
}

}  // namespace causeway::row_math
