// A team of threads that shares the work of one thread, its owner: the owner opens a region of numbered tasks, helpers
// join in, and the owner goes on when every task is done.
//
// A team is made for processors that other programs use as well. Helpers spin for a bounded time and then sleep. A
// helper that is late costs nothing: the others take its tasks. A helper that the system stops in the middle of a task
// costs little: the owner does the task again, and the late helper's result is dropped. So tasks that compute into
// memory of their own and then write out are best.
//
// Kernel files include this header, so that it defines no function: see engine/ops/cpu/kernels.h.
#ifndef CAUSEWAY_ENGINE_THREADS_TEAM_H_
#define CAUSEWAY_ENGINE_THREADS_TEAM_H_

#include <cstddef>
#include <cstdint>

namespace causeway {

struct TeamSlot;

// The tasks of one region, as one thread sees them. The thread does the tasks that Next() gives it:
//
//   while (tasks.Next()) {
//     ... compute task tasks.task into memory of this thread's own; read only what the region's context says ...
//     if (!tasks.Own()) continue;  // another thread has done it meanwhile
//     ... write the result to memory that others read ...
//   }
struct RegionTasks {
  // Moves on to the next task of this thread. The task before it is then done, if this thread owned it. Returns false
  // when none is left. The owner of the team then finds all tasks done, and sees what they wrote.
  bool Next();
  // Returns true to one thread for each task; that thread has to write the result. A task that owns first and computes
  // then is never done twice.
  bool Own();

  int64_t task = -1;
  int64_t following = -1;  // most likely this thread's next task, or -1

  // The rest belongs to the team.
  TeamSlot* slot = nullptr;  // null: this thread does all tasks alone
  int64_t tasks = 0;
  int64_t end = 0;               // this thread has claimed the tasks [task + 1, end)
  int64_t stolen = 0, done = 0;  // no task from `stolen` on is open, and all tasks below `done` are done
  int64_t finished = 0;          // how many tasks this thread has done since `began`
  uint64_t began = 0;
  bool owner = false, owned = false, took_over = false;
};

// `context` is a copy of the `context_bytes` given to RunRegion, because a helper may look at them for a while after
// the region is over. What they point to may be read before Own() only after Next() has returned true.
using RegionWork = void (*)(const void* context, int64_t context_bytes, RegionTasks& tasks);

// Does `tasks` tasks with the calling thread's team. It does them on the calling thread where that has no team, is
// inside a region already, or has one task. Which thread does a task is left to chance, so that no result may depend on
// it. An exception from a task ends the process.
void RunRegion(RegionWork work, const void* context, int64_t context_bytes, int64_t tasks) noexcept;
// Does the tasks on the calling thread, whatever its team.
void RunAlone(RegionWork work, const void* context, int64_t context_bytes, int64_t tasks);

enum class TakeOver {
  kNever,  // the owner waits for every task that a helper has begun
  // The owner takes over such a task after a while. A late helper then reads memory of a region that is over. Whoever
  // frees what a region reads calls WaitForLateHelpers first, unless the memory stays mapped until the team ends.
  kAllowed,
};

// Gives the calling thread a team of `threads`, itself included, in place of the one that it has; 1 means no team. The
// team ends with the thread.
void SetTeam(int threads, TakeOver take_over = TakeOver::kNever);
int TeamThreads();  // in the calling thread's team

// Returns when no helper of any team is in a region that is over. Any thread may call it. It costs one load when there
// is no such helper.
void WaitForLateHelpers();

// Tests set a function that every thread calls wherever it may be stopped for long. With null nothing is called.
void SetTeamDelay(void (*delay)());

}  // namespace causeway

#endif  // CAUSEWAY_ENGINE_THREADS_TEAM_H_
