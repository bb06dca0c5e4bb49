// Processors at hand: how many threads this process can keep busy, and what bounds them.
#ifndef CAUSEWAY_ENGINE_THREADS_PROCESSORS_H_
#define CAUSEWAY_ENGINE_THREADS_PROCESSORS_H_

#include <cstdint>
#include <string>

namespace causeway {

enum class ProcessorBound : uint8_t { kMachine, kAffinity, kQuota };

struct Processors {
  int count = 1;     // at hand: as many threads keep busy what the others allow; at least 1
  int machine = 1;   // online
  int affinity = 1;  // those that the process may run on; a cpuset has left out the others
  double quota = 0;  // time that the control groups allow, in processors; 0: no limit
  ProcessorBound bound = ProcessorBound::kMachine;

  // What bounds them below the machine: "control group quota 1.5"; empty where nothing does.
  std::string bound_text() const;
  // "2 of 64 (control group quota 1.5)", "64".
  std::string text() const;
};

// Asks the system. The affinity is the calling thread's: threads that it starts inherit it. The quota is the tightest
// of the process's control groups and those around them; one that cannot be read or understood is none. Files are
// read below `root`: "" is this machine, a test puts a folder there.
Processors ReadProcessors(const std::string& root);

// ReadProcessors of this machine when it was first called. Any thread.
const Processors& ThisMachine();
inline int ProcessorsAtHand() { return ThisMachine().count; }

// Threads to compute with where cpu_threads were asked for: 0 asks for as many as there are processors at hand.
inline int ThreadsFor(int cpu_threads) { return cpu_threads > 0 ? cpu_threads : ProcessorsAtHand(); }

// What is wrong with asking for so many threads; empty where nothing is.
std::string ThreadsWarning(int cpu_threads, const Processors& processors);

}  // namespace causeway

#endif  // CAUSEWAY_ENGINE_THREADS_PROCESSORS_H_
