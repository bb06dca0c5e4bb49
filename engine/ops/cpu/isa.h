// Which instruction sets this processor runs, best first.
#ifndef CAUSEWAY_ENGINE_OPS_CPU_ISA_H_
#define CAUSEWAY_ENGINE_OPS_CPU_ISA_H_

#include <vector>

#include "engine/ops/cpu/kernels.h"

namespace causeway::cpu {

// Each set includes those before it. kAvx512Bf16 has VNNI, too, as every processor with bf16 does.
enum class Isa { kPortable, kAvx2, kAvx512, kAvx512Vnni, kAvx512Bf16 };

const char* IsaName(Isa isa);
// The compiled sets that this processor (and its operating system) can run; never empty.
std::vector<Isa> SupportedIsas();
const Kernels& KernelsOf(Isa isa);

}  // namespace causeway::cpu

#endif  // CAUSEWAY_ENGINE_OPS_CPU_ISA_H_
