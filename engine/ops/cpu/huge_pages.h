// Large pages for memory that kernels stream through: with pages of 4 KB, a TLB miss every 64 lines costs up to half of
// the bandwidth.
#ifndef CAUSEWAY_ENGINE_OPS_CPU_HUGE_PAGES_H_
#define CAUSEWAY_ENGINE_OPS_CPU_HUGE_PAGES_H_

#include <cstddef>

namespace causeway {

// Asks for huge pages for the whole ones within [data, data + bytes). To be called before the memory is first touched.
// Only advice: everything works without, slower.
void AskForHugePages(void* data, size_t bytes);

}  // namespace causeway

#endif  // CAUSEWAY_ENGINE_OPS_CPU_HUGE_PAGES_H_
