#define CAUSEWAY_ISA avx512vnni
#include "engine/ops/cpu/kernels-inl.h"
