// Processors at hand: how many threads this process can keep busy, and what bounds them.
#ifndef CAUSEWAY_ENGINE_THREADS_PROCESSORS_H_
#define CAUSEWAY_ENGINE_THREADS_PROCESSORS_H_

#include <cstdint>
#include <string>

namespace causeway {

enum class ProcessorBound : uint8_t { kMachine, kAffinity, kQuota };

struct Processors {
  int count = 1;     // processors at hand: this many threads keep busy what the limits below allow; at least 1
  int machine = 1;   // processors online
  int affinity = 1;  // processors that the process may run on; a cpuset has left out the others
  double quota = 0;  // time that the control groups allow, in processors; 0 means no limit
  ProcessorBound bound = ProcessorBound::kMachine;

  // What leaves fewer than the machine has: "control group quota 1.5"; empty where nothing does.
  std::string bound_text() const;
  // "2 of 64 (control group quota 1.5)", "64".
  std::string text() const;
};

// Asks the system. The affinity is the calling thread's, and threads that it starts inherit it. The quota is the
// tightest one of the process's control groups and those around them; a quota that cannot be read or understood is
// none. Files are read below `root`: "" is this machine; a test puts a folder there.
Processors ReadProcessors(const std::string& root);

// Returns what ReadProcessors said of this machine when this function was first called. Any thread may call it.
const Processors& ThisMachine();
inline int ProcessorsAtHand() { return ThisMachine().count; }

// How many threads to compute with when cpu_threads were asked for. 0 asks for as many as there are processors at hand.
inline int ThreadsFor(int cpu_threads) { return cpu_threads > 0 ? cpu_threads : ProcessorsAtHand(); }

// Says what is wrong with asking for this many threads; empty where nothing is.
std::string ThreadsWarning(int cpu_threads, const Processors& processors);

}  // namespace causeway

#endif  // CAUSEWAY_ENGINE_THREADS_PROCESSORS_H_
