// What a thread does between two looks at memory that it waits for.
#ifndef CAUSEWAY_ENGINE_THREADS_PAUSE_H_
#define CAUSEWAY_ENGINE_THREADS_PAUSE_H_

namespace causeway {

// Tells the processor that this is a loop that waits, so that it leaves its units to the other thread of its core.
inline void Pause() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#endif
}

}  // namespace causeway

#endif  // CAUSEWAY_ENGINE_THREADS_PAUSE_H_
