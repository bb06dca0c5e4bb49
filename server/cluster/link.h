// The leader's end of a follower's stream.
#ifndef CAUSEWAY_SERVER_CLUSTER_LINK_H_
#define CAUSEWAY_SERVER_CLUSTER_LINK_H_

#include <functional>
#include <memory>
#include <string>
#include <thread>

#include <grpcpp/server_context.h>
#include <grpcpp/support/sync_stream.h>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "causeway/v1/cluster.pb.h"
#include "engine/base/bounded_queue.h"
#include "server/cluster/admission.h"

namespace causeway {

// Thread-safe. A thread of its own writes what is sent; the call's thread reads.
class FollowerLink {
 public:
  using Stream = grpc::ServerReaderWriter<v1::LeaderMessage, v1::FollowerMessage>;

  // `stream` and `context` are the call's and outlive Serve.
  FollowerLink(v1::Join join, grpc::ServerContext& context, Stream& stream);
  ~FollowerLink();

  int rank() const { return join_.rank(); }
  const v1::Join& join() const { return join_; }
  std::string name() const { return NameOf(join_); }

  // Reads until the stream ends, on the call's thread, and returns why it did: OK after Leave, Unavailable where the
  // follower is gone or hangs, or said that it failed.
  absl::Status Serve(const std::function<void(const v1::FollowerMessage&)>& on_message);

  // Returns at once. Messages go out in order, until the stream ends.
  void Send(std::shared_ptr<const v1::LeaderMessage> message);
  // The last message: the follower ends by itself, as failed where `why` is an error.
  void Leave(const absl::Status& why);
  // Ends the stream where nothing was heard of the follower for so long. Any thread, now and then.
  void CheckHeard(absl::Duration lost_after);

 private:
  void Write();

  const v1::Join join_;
  grpc::ServerContext& context_;
  Stream& stream_;
  BoundedQueue<std::shared_ptr<const v1::LeaderMessage>> outgoing_;
  mutable absl::Mutex mutex_;
  absl::Time heard_ ABSL_GUARDED_BY(mutex_);
  absl::Status lost_ ABSL_GUARDED_BY(mutex_);  // why it was ended here
  bool left_ ABSL_GUARDED_BY(mutex_) = false;
  std::thread writer_;  // last, since it uses the others
};

}  // namespace causeway

#endif  // CAUSEWAY_SERVER_CLUSTER_LINK_H_
