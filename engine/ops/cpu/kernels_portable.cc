#define CAUSEWAY_ISA portable
#include "engine/ops/cpu/kernels-inl.h"
