// Ops by the fused CPU kernels. They compute bf16 and fp32 tensors; other dtypes go to ReferenceOps. Weights, keys and
// values may be fp16, beside fp32 of all else: sums are in fp32 anyway, and hidden states, which may be beyond fp16's
// range, take little memory. In every operation and dtype, the result of a row doesn't depend on the other rows of the
// batch nor on the number of threads.
//
// Work runs on the calling thread's team (engine/threads/team.h); small work stays on the caller.
#ifndef CAUSEWAY_ENGINE_OPS_CPU_CPU_OPS_H_
#define CAUSEWAY_ENGINE_OPS_CPU_CPU_OPS_H_

#include <memory>

#include "engine/ops/cpu/isa.h"
#include "engine/ops/ops.h"

namespace causeway {

// Uses the kernels of one instruction set, which must be among cpu::SupportedIsas(). MakeCpuOps() takes the best.
std::unique_ptr<Ops> MakeCpuOps(cpu::Isa isa);

// What bytes() of a weight of CpuOps will say, before the weight exists. Its dtype is bf16, fp16 or fp32, of
// `element_bytes`.
int64_t CpuWeightBytes(int64_t out, int64_t in, bool bias, int64_t element_bytes, const WeightFormat& format);

}  // namespace causeway

#endif  // CAUSEWAY_ENGINE_OPS_CPU_CPU_OPS_H_
