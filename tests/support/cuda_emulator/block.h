// One block of a launch: its threads run one at a time, in an order that is drawn at random wherever one of them waits.
#ifndef CAUSEWAY_TESTS_SUPPORT_CUDA_EMULATOR_BLOCK_H_
#define CAUSEWAY_TESTS_SUPPORT_CUDA_EMULATOR_BLOCK_H_

#include <cstdint>
#include <functional>
#include <random>
#include <string>
#include <vector>

#include "tests/support/cuda_emulator/fibers.h"

namespace causeway::cuda_emulator {

inline constexpr int kLanes = 32;
inline constexpr int kBlockThreadsMax = 1024;

class Block {
 public:
  // Makes a block of `threads` threads. In about half of all blocks a warp runs on until it waits, so that warps drift
  // far apart; in the others they advance side by side.
  Block(Fibers& fibers, std::minstd_rand& random, int threads);

  // Runs `kernel` once for each thread; `enter` is called before a thread runs on. Returns what went wrong first, or
  // nothing.
  std::string Run(const std::function<void(int thread)>& enter, const std::function<void()>& kernel);

  // What threads call. Those that wait for others return once these are there.
  //
  // All threads of the block have to come to the same line, whereas CUDA spares those that have ended: a kernel that
  // counts on that says so with a barrier for fewer threads.
  void Barrier(int line);
  // A call of those lanes of the caller's warp that `mask` names: all of them, with the same call, mask and line. Gives
  // the value of the lane `source`, which has to be one of them.
  uint64_t Exchange(const char* call, uint32_t mask, uint64_t value, int source, int line);
  // Sometimes lets other threads run.
  void MayYield();
  // Ends the block with an error. Also from a signal handler.
  [[noreturn]] void Fail(std::string what);

  int lane() const { return current_ % kLanes; }
  int current() const { return current_; }
  int64_t barriers() const { return barriers_; }
  int64_t exchanges() const { return exchanges_; }

 private:
  struct Thread {
    const char* waits_at = nullptr;  // null: it can run, or has ended
    int line = 0;
    bool ended = false;
    uint64_t value = 0;
    int source = 0;
  };
  // Lanes of a warp that wait for each other.
  struct Group {
    const char* call;
    uint32_t mask, arrived;
    int line;
  };
  struct Warp {
    uint32_t lanes = 0, runnable = 0, ended = 0;
    std::vector<Group> groups;  // no lane is named by two of them
  };

  int Next();
  void Release(int thread);
  void Wait(const char* call, int line);
  void End();
  void Complete(Warp& warp, size_t group);
  std::string Deadlock() const;
  std::string Whereabouts(int thread) const;

  Fibers& fibers_;
  std::minstd_rand& random_;
  const bool side_by_side_;
  std::vector<Thread> threads_;
  std::vector<Warp> warps_;
  uint32_t runnable_warps_ = 0;
  int current_ = 0, ended_ = 0;
  int at_barrier_ = 0, barrier_line_ = 0;
  int64_t barriers_ = 0, exchanges_ = 0;
  std::string error_;
};

}  // namespace causeway::cuda_emulator

#endif  // CAUSEWAY_TESTS_SUPPORT_CUDA_EMULATOR_BLOCK_H_
