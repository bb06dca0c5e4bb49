// Streams that send the current value: the health status, the daemon's status. A slow reader misses values in between.
#ifndef CAUSEWAY_SERVER_RPC_WATCHERS_H_
#define CAUSEWAY_SERVER_RPC_WATCHERS_H_

#include <chrono>
#include <functional>
#include <memory>
#include <set>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "server/rpc/stream_writer.h"

namespace causeway {

// The open streams of one kind. Outlives the server they run on. Thread-safe.
class Watchers {
 public:
  // Makes the message to send. Any thread calls it, under a stream's lock.
  using Value = std::function<grpc::ByteBuffer()>;

  // Opens a stream. It sends its value at once, whenever it is poked and, unless `interval` is zero, that long after
  // the last time. After Stop it ends at once.
  StreamReactor* Open(Value value, std::chrono::milliseconds interval = {});

  // Makes every stream send its value again.
  void Poke();

  // Ends every stream as UNAVAILABLE after the value of its last poke, and every stream that is opened from now on.
  void Stop();

 private:
  class Stream;

  std::set<std::shared_ptr<Stream>> Streams();
  void Remove(const std::shared_ptr<Stream>& stream);

  absl::Mutex mutex_;
  bool stopped_ ABSL_GUARDED_BY(mutex_) = false;
  std::set<std::shared_ptr<Stream>> streams_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace causeway

#endif  // CAUSEWAY_SERVER_RPC_WATCHERS_H_
