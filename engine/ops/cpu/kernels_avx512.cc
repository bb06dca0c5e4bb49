#define CAUSEWAY_ISA avx512
#include "engine/ops/cpu/kernels-inl.h"
