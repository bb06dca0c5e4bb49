// Huge pages for memory that kernels stream through. With pages of 4 KB, a TLB miss every 64 lines costs up to half of
// the bandwidth.
#ifndef CAUSEWAY_ENGINE_OPS_CPU_HUGE_PAGES_H_
#define CAUSEWAY_ENGINE_OPS_CPU_HUGE_PAGES_H_

#include <cstddef>

namespace causeway {

// Asks the system to put [data, data + bytes) into huge pages, as far as whole ones fit in. To be called before the
// memory is first touched. It is only advice: without it everything works, but slower.
void AskForHugePages(void* data, size_t bytes);

}  // namespace causeway

#endif  // CAUSEWAY_ENGINE_OPS_CPU_HUGE_PAGES_H_
