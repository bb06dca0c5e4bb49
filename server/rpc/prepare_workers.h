// Threads for work that would hold up gRPC's threads: compiling grammars, tokenizing long texts, making plans.
#ifndef CAUSEWAY_SERVER_RPC_PREPARE_WORKERS_H_
#define CAUSEWAY_SERVER_RPC_PREPARE_WORKERS_H_

#include <atomic>
#include <cstddef>
#include <functional>
#include <string>
#include <thread>
#include <vector>

#include "absl/status/status.h"
#include "engine/base/bounded_queue.h"

namespace causeway {

// Thread-safe.
class PrepareWorkers {
 public:
  // `what` names in messages what waits for the workers: "grammars and long texts".
  PrepareWorkers(int threads, std::string what);
  ~PrepareWorkers();  // returns after the work that is queued
  PrepareWorkers(const PrepareWorkers&) = delete;

  // Does `work` later, for a message of `bytes` bytes. ResourceExhausted: too many bytes wait already, and `work` is
  // not done.
  absl::Status Push(size_t bytes, std::function<void()> work);

 private:
  struct Job {
    size_t bytes = 0;
    std::function<void()> work;
  };
  void Loop();

  const std::string what_;
  BoundedQueue<Job> jobs_;
  std::atomic<size_t> waiting_bytes_{0};
  std::vector<std::thread> threads_;
};

}  // namespace causeway

#endif  // CAUSEWAY_SERVER_RPC_PREPARE_WORKERS_H_
