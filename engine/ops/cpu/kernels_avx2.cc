#define CAUSEWAY_ISA avx2
#include "engine/ops/cpu/kernels-inl.h"
