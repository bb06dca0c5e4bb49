// Threads for what would hold up gRPC's: compiling grammars and tokenizing long texts.
#ifndef CAUSEWAY_SERVER_RPC_PREPARE_WORKERS_H_
#define CAUSEWAY_SERVER_RPC_PREPARE_WORKERS_H_

#include <atomic>
#include <cstddef>
#include <functional>
#include <thread>
#include <vector>

#include "absl/status/status.h"
#include "engine/base/bounded_queue.h"

namespace causeway {

// Thread-safe.
class PrepareWorkers {
 public:
  PrepareWorkers();
  ~PrepareWorkers();  // after the work that is queued
  PrepareWorkers(const PrepareWorkers&) = delete;

  // Does `work` later, for a message of so many bytes. ResourceExhausted: too many of them wait, and it is not done.
  absl::Status Push(size_t bytes, std::function<void()> work);

 private:
  struct Job {
    size_t bytes = 0;
    std::function<void()> work;
  };
  void Loop();

  BoundedQueue<Job> jobs_;
  std::atomic<size_t> waiting_bytes_{0};
  std::vector<std::thread> threads_;
};

}  // namespace causeway

#endif  // CAUSEWAY_SERVER_RPC_PREPARE_WORKERS_H_
