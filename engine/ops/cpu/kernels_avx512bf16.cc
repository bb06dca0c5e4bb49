#define CAUSEWAY_ISA avx512bf16
#include "engine/ops/cpu/kernels-inl.h"
