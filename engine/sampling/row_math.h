// The passes over a whole row of logits, written for the vector units. The widest that this processor has is picked at
// run time. Rows are cut into blocks, so that later passes can skip blocks that hold nothing of interest.
#ifndef CAUSEWAY_ENGINE_SAMPLING_ROW_MATH_H_
#define CAUSEWAY_ENGINE_SAMPLING_ROW_MATH_H_

#include <cstdint>

#include "absl/types/span.h"

namespace causeway::row_math {

inline constexpr int64_t kBlock = 256;  // elements of a row; the last block may be shorter
inline int64_t Blocks(int64_t n) { return (n + kBlock - 1) / kBlock; }

// e^x to within 2e-7 relative for x in [-87, 0]; 0 below and for NaN; x above 0 counts as 0.
float Exp(float x);

// The lowest index of the largest element, ignoring NaNs; 0 when there is nothing else.
int64_t ArgMax(absl::Span<const float> row);

// Writes to maxima [Blocks(n)] the largest element of each block, -infinity where there is none. Returns the largest of
// all.
float BlockMaxima(absl::Span<const float> row, float* maxima);

// Writes to sums [Blocks(n)] the sum of Exp((x - max) * scale) over each block. Returns the total.
double BlockExpSums(absl::Span<const float> row, float max, float scale, double* sums);

}  // namespace causeway::row_math

#endif  // CAUSEWAY_ENGINE_SAMPLING_ROW_MATH_H_
