#include "engine/threads/team.h"

#include <sched.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstring>
#include <memory>
#include <mutex>
#include <set>
#include <thread>
#include <vector>

#include "engine/threads/pause.h"

namespace causeway {
namespace {

// A helper without work spins for this long before it sleeps. Regions of a step follow one another within a few
// microseconds, and steps within some hundred. Waking a sleeping thread takes tens of microseconds.
constexpr uint64_t kHelperSpin = 50'000;  // ns
// Once all tasks are begun, the owner spins for kOwnerSpin before it sleeps. It takes over a begun task when it has
// waited for longer than its own tasks took on average, and at least for kPatienceLeast.
constexpr uint64_t kOwnerSpin = 100'000;
constexpr uint64_t kPatienceLeast = 3'000;

std::atomic<void (*)()> delay{nullptr};
void MayBeStopped() {
  if (auto* call = delay.load(std::memory_order_relaxed); call != nullptr) call();
}

uint64_t Now() {
  return std::chrono::duration_cast<std::chrono::nanoseconds>(std::chrono::steady_clock::now().time_since_epoch())
      .count();
}

}  // namespace

// A slot holds one region at a time. A late helper holds on to its slot, so that the next region takes another.
struct TeamSlot {
  enum State : uint8_t { kOpen, kBegun, kOwned, kDone };

  RegionWork work = nullptr;
  std::unique_ptr<uint64_t[]> context;  // a copy of what RunRegion was given
  int64_t context_bytes = 0, context_words = 0;
  std::unique_ptr<std::atomic<uint8_t>[]> states;  // one for each task
  int64_t tasks = 0, capacity = 0;
  int threads = 1;
  bool take_over = false;
  bool late = false;                               // whether the owner has counted the slot in late_slots
  alignas(64) std::atomic<int64_t> claimed = 0;    // tasks below this one have been claimed
  alignas(64) std::atomic<uint32_t> inside = 0;    // helpers that may look at the region
  alignas(64) std::atomic<uint32_t> sleeping = 0;  // the owner waits to be woken

  void Fill(RegionWork region_work, const void* from, int64_t bytes, int64_t count) {
    const int64_t words = (bytes + 7) / 8;
    if (words > context_words) {
      context = std::make_unique<uint64_t[]>(words);
      context_words = words;
    }
    if (count > capacity) {
      states = std::make_unique<std::atomic<uint8_t>[]>(count);
      capacity = count;
    }
    if (bytes > 0) std::memcpy(context.get(), from, bytes);
    for (int64_t i = 0; i < count; ++i) states[i].store(kOpen, std::memory_order_relaxed);
    work = region_work;
    context_bytes = bytes;
    tasks = count;
    claimed.store(0, std::memory_order_relaxed);
  }

  bool Change(int64_t task, uint8_t from, State to) { return states[task].compare_exchange_strong(from, to); }
};

namespace {

std::atomic<int> late_slots = 0;  // slots that were closed with a helper inside, as far as their owners know

class Team {
 public:
  Team(int threads, TakeOver take_over) : slots_(threads), beds_(threads - 1) {
    CPU_ZERO(&allowed_);
    sched_getaffinity(0, sizeof(allowed_), &allowed_);
    for (TeamSlot& slot : slots_) {
      slot.threads = threads;
      slot.take_over = take_over == TakeOver::kAllowed;
    }
    for (std::atomic<uint64_t>& bed : beds_) helpers_.emplace_back([this, &bed] { Help(bed); });
    std::lock_guard lock(teams_mutex);
    teams.insert(this);
  }

  ~Team() {
    stop_ = true;
    Ring();
    for (std::thread& helper : helpers_) helper.join();
    std::lock_guard lock(teams_mutex);
    teams.erase(this);
    for (TeamSlot& slot : slots_) late_slots -= slot.late;
  }

  int threads() const { return static_cast<int>(slots_.size()); }

  bool Run(RegionWork work, const void* context, int64_t context_bytes, int64_t tasks) {
    if (running_) return false;
    running_ = true;
    TeamSlot& slot = FreeSlot();
    slot.Fill(work, context, context_bytes, tasks);
    if (const int cpu = sched_getcpu(); cpu != owner_cpu_) owner_cpu_ = cpu;
    open_ = &slot;
    Ring();
    RegionTasks mine{.slot = &slot, .tasks = tasks, .stolen = tasks, .began = Now(), .owner = true};
    work(slot.context.get(), context_bytes, mine);
    open_ = nullptr;
    if (slot.inside != 0) {
      slot.late = true;
      ++late_slots;
    }
    running_ = false;
    return true;
  }

  static void AwaitLate() {
    std::lock_guard lock(teams_mutex);
    for (Team* team : teams) {
      for (TeamSlot& slot : team->slots_) {
        while (slot.inside != 0 && team->open_ != &slot) std::this_thread::yield();
      }
    }
  }

 private:
  // There are as many slots as threads, of which the helpers can hold all but one.
  TeamSlot& FreeSlot() {
    for (;;) {
      for (TeamSlot& slot : slots_) {
        if (slot.inside != 0) continue;  // a helper that comes now finds that the slot is not the open one, and goes
        if (slot.late) --late_slots;
        slot.late = false;
        return slot;
      }
    }
  }

  // Wakes the helpers that sleep on an earlier bell, each once: a helper that the system keeps from waking costs no
  // more calls. A helper that sleeps on this bell already must be left for the next one.
  void Ring() {
    const uint64_t now = SleepsOn(++bell_);
    bool wake = false;
    for (std::atomic<uint64_t>& bed : beds_) {
      uint64_t sleeper = bed;
      if (sleeper == 0 || sleeper == now) continue;
      MayBeStopped();
      wake |= bed.compare_exchange_strong(sleeper, 0);
    }
    if (wake) bell_.notify_all();
  }

  void Help(std::atomic<uint64_t>& bed) {
    for (uint32_t heard = 0; !stop_;) {
      heard = AwaitBell(heard, bed);
      KeepOffOwner();
      TeamSlot* slot = open_;
      if (slot == nullptr) continue;
      ++slot->inside;
      MayBeStopped();
      if (open_ == slot) {
        RegionTasks mine{.slot = slot, .tasks = slot->tasks, .stolen = slot->tasks, .owner = false};
        slot->work(slot->context.get(), slot->context_bytes, mine);
      }
      MayBeStopped();
      --slot->inside;
    }
  }

  // The system likes to wake a thread on the processor of the thread that woke it. There a helper would take the
  // owner's time, so it moves elsewhere.
  void KeepOffOwner() {
    const int cpu = owner_cpu_;
    if (sched_getcpu() != cpu) return;
    cpu_set_t others = allowed_;
    CPU_CLR(cpu, &others);
    if (CPU_COUNT(&others) > 0) sched_setaffinity(0, sizeof(others), &others);
  }

  // What a helper writes into its bed: the bell that it sleeps on. It is never 0.
  static uint64_t SleepsOn(uint32_t heard) { return uint64_t{heard} << 1 | 1; }

  uint32_t AwaitBell(uint32_t heard, std::atomic<uint64_t>& bed) {
    const uint64_t began = Now();
    for (int i = 1;; ++i) {
      if (const uint32_t now = bell_; now != heard) return now;
      Pause();
      if (i % 32 != 0) continue;
      KeepOffOwner();
      if (Now() - began > kHelperSpin) break;
    }
    bed = SleepsOn(heard);
    MayBeStopped();
    bell_.wait(heard);
    bed = 0;
    return bell_;
  }

  std::vector<TeamSlot> slots_;
  cpu_set_t allowed_;     // processors that the owner may run on
  bool running_ = false;  // whether the owner is inside a region
  std::atomic<bool> stop_ = false;
  alignas(64) std::atomic<TeamSlot*> open_ = nullptr;
  alignas(64) std::atomic<uint32_t> bell_ = 0;   // rung for each region
  alignas(64) std::atomic<int> owner_cpu_ = -1;  // the processor on which the owner opened the last region
  std::vector<std::atomic<uint64_t>> beds_;      // one for each helper; 0: the helper is awake, or woken
  std::vector<std::thread> helpers_;

  static inline std::mutex teams_mutex;
  static inline std::set<Team*> teams;
};

thread_local std::unique_ptr<Team> team;

// Claims a part of the tasks that nobody has claimed yet, and a smaller part each time: processors that are shared with
// other programs are not equally fast.
bool Claim(TeamSlot& slot, RegionTasks& mine) {
  int64_t first = slot.claimed.load(std::memory_order_relaxed);
  while (first < slot.tasks) {
    const int64_t last = first + std::max<int64_t>(1, (slot.tasks - first) / (2 * slot.threads));
    if (!slot.claimed.compare_exchange_weak(first, last)) continue;
    mine.task = first - 1;
    mine.end = last;
    return true;
  }
  return false;
}

// The owner calls this once all tasks are begun. It waits until all are done (and returns false), or until there is one
// to take over.
bool AwaitOthers(TeamSlot& slot, RegionTasks& mine) {
  const uint64_t began = Now();
  uint64_t patience = kPatienceLeast;
  if (mine.finished > 0) patience = std::max(patience, (began - mine.began) / mine.finished);
  if (mine.took_over) patience = 0;  // other tasks were begun as long ago as the one that was taken over
  for (int i = 1;; ++i) {
    while (mine.done < slot.tasks && slot.states[mine.done] == TeamSlot::kDone) ++mine.done;
    if (mine.done == slot.tasks) return false;
    Pause();
    if (i % 16 != 0) continue;
    const uint64_t waited = Now() - began;
    if (slot.take_over) {
      if (waited <= patience) continue;
      for (int64_t t = slot.tasks - 1; t >= mine.done; --t) {
        if (slot.states[t] != TeamSlot::kBegun) continue;
        mine.task = t;
        mine.following = -1;
        mine.took_over = true;
        return true;
      }
    }
    if (waited <= kOwnerSpin) continue;
    slot.sleeping = 1;
    if (slot.states[mine.done] != TeamSlot::kDone) slot.sleeping.wait(1);
    slot.sleeping = 0;
  }
}

}  // namespace

bool RegionTasks::Next() {
  if (slot == nullptr) {
    following = task + 2 < tasks ? task + 2 : -1;
    return ++task < tasks;
  }
  MayBeStopped();
  if (owned) {
    owned = false;
    ++finished;
    slot->states[task] = TeamSlot::kDone;
    if (slot->sleeping != 0) {
      slot->sleeping = 0;
      slot->sleeping.notify_all();
    }
  }
  do {
    while (end > 0 && ++task < end) {
      following = task + 1 < end ? task + 1 : -1;
      if (slot->Change(task, TeamSlot::kOpen, TeamSlot::kBegun)) return true;
    }
    end = 0;
  } while (Claim(*slot, *this));
  while (stolen > 0) {
    task = --stolen;
    following = stolen - 1;
    if (slot->states[task] == TeamSlot::kOpen && slot->Change(task, TeamSlot::kOpen, TeamSlot::kBegun)) return true;
  }
  return owner && AwaitOthers(*slot, *this);
}

bool RegionTasks::Own() {
  if (slot == nullptr) return true;
  MayBeStopped();
  owned = slot->Change(task, TeamSlot::kBegun, TeamSlot::kOwned);
  MayBeStopped();
  return owned;
}

void RunRegion(RegionWork work, const void* context, int64_t context_bytes, int64_t tasks) noexcept {
  if (tasks > 1 && team != nullptr && team->Run(work, context, context_bytes, tasks)) return;
  RunAlone(work, context, context_bytes, tasks);
}

void RunAlone(RegionWork work, const void* context, int64_t context_bytes, int64_t tasks) {
  RegionTasks all{.tasks = tasks};
  work(context, context_bytes, all);
}

void SetTeam(int threads, TakeOver take_over) {
  team.reset();
  if (threads > 1) team = std::make_unique<Team>(threads, take_over);
}

int TeamThreads() { return team == nullptr ? 1 : team->threads(); }

void WaitForLateHelpers() {
  if (late_slots.load() != 0) Team::AwaitLate();
}

void SetTeamDelay(void (*call)()) { delay = call; }

}  // namespace causeway
