// A team of threads that shares the work of one thread, its owner: the owner opens a region of numbered tasks, helpers
// join in, and the owner goes on when every task is done.
//
// Made for processors that others use as well. Helpers spin for a bounded time and then sleep. A helper that is late
// costs nothing: the others take its tasks. A helper that the system stops in the middle of a task costs little: the
// owner does the task again, and what the late one makes of it is dropped. So tasks that compute into memory of their
// own and then write out are best.
//
// Kernel files include this header, so that it defines no function: see engine/ops/cpu/kernels.h.
#ifndef CAUSEWAY_ENGINE_THREADS_TEAM_H_
#define CAUSEWAY_ENGINE_THREADS_TEAM_H_

#include <cstddef>
#include <cstdint>

namespace causeway {

struct TeamSlot;

// The tasks of one region, as one thread sees them. The thread works off what Next() gives it:
//
//   while (tasks.Next()) {
//     ... compute task tasks.task into memory of this thread's own; read only what the region's context says ...
//     if (!tasks.Own()) continue;  // another thread has done it meanwhile
//     ... write the result to memory that others read ...
//   }
struct RegionTasks {
  // Moves on to the next task that this thread is to do; the one before it is done, if it was owned. False: none is
  // left. The owner of the team then finds all tasks done, and sees what they wrote.
  bool Next();
  // True for one thread a task, which has to write the result. A task that owns first and computes then is never done
  // twice.
  bool Own();

  int64_t task = -1;
  int64_t following = -1;  // the task that most likely is this thread's next, or -1

  // What follows is the team's.
  TeamSlot* slot = nullptr;  // null: this thread does all tasks alone
  int64_t tasks = 0;
  int64_t end = 0;               // the claimed tasks are [task + 1, end)
  int64_t stolen = 0, done = 0;  // no task from `stolen` on is open; all tasks below `done` are done
  int64_t finished = 0;          // how many this thread has done, since `began`
  uint64_t began = 0;
  bool owner = false, owned = false, took_over = false;
};

// `context` are the `context_bytes` given to RunRegion, copied: a helper may look at them for a while after the region
// is over. What they point to may be read before Own() only after Next() has returned true.
using RegionWork = void (*)(const void* context, int64_t context_bytes, RegionTasks& tasks);

// Does `tasks` tasks with the calling thread's team, and alone where it has none, is inside a region already, or there
// is one task. Which thread does a task is left to chance, so that no result may depend on it. What a task throws ends
// the process.
void RunRegion(RegionWork work, const void* context, int64_t context_bytes, int64_t tasks) noexcept;
// On the calling thread, whatever its team.
void RunAlone(RegionWork work, const void* context, int64_t context_bytes, int64_t tasks);

enum class TakeOver {
  kNever,  // the owner waits for every task that a helper has begun
  // It takes such a task over after a while. A late helper then reads memory of a region that is over: who frees what a
  // region reads calls WaitForLateHelpers first, unless the memory stays mapped until the team ends.
  kAllowed,
};

// Gives the calling thread a team of `threads`, itself included, in place of the one that it has; 1: none. It ends with
// the thread.
void SetTeam(int threads, TakeOver take_over = TakeOver::kNever);
int TeamThreads();  // of the calling thread's team

// Returns when no helper of any team is in a region that is over. Any thread; costs a load when there is none.
void WaitForLateHelpers();

// For tests: called by every thread wherever it may be stopped for long. Null: nothing is called.
void SetTeamDelay(void (*delay)());

}  // namespace causeway

#endif  // CAUSEWAY_ENGINE_THREADS_TEAM_H_
