// What a stream has yet to send, merged while it waits: however long the reader takes, at most one delta a choice is pending, and
// all that is pending is bounded by what the request may generate.
#ifndef CAUSEWAY_SERVER_RPC_STREAM_EVENTS_H_
#define CAUSEWAY_SERVER_RPC_STREAM_EVENTS_H_

#include <deque>
#include <optional>
#include <string>
#include <vector>

#include "causeway/v1/generation.pb.h"
#include "engine/engine.h"
#include "server/rpc/prepare_request.h"

namespace causeway {

// Not thread-safe.
class StreamEvents {
 public:
  // First comes `accepted`, then the echo, where asked for.
  StreamEvents(const GenerationRequest& request, OutputShape shape);

  void Add(const GenerationDelta& delta);
  // The last call.
  void End(const GenerationEnd& end);

  // The next message to send, oldest choice first; false when nothing is pending.
  bool Next(v1::GenerateStreamResponse* out);

 private:
  v1::Delta* Pending(int32_t index);

  const std::string request_id_;
  const OutputShape shape_;
  std::optional<v1::Accepted> accepted_;
  std::vector<std::optional<v1::Delta>> deltas_;  // by choice
  std::deque<int32_t> order_;                     // choices with a pending delta, in the order of its oldest piece
  std::optional<v1::Finished> finished_;
};

}  // namespace causeway

#endif  // CAUSEWAY_SERVER_RPC_STREAM_EVENTS_H_
