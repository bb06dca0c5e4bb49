// What a stream has yet to send, merged while it waits. However long the reader takes, only a few large deltas are
// pending, and their sum is bounded by what the request may generate.
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

// A delta is full once it has this many bytes, since clients refuse messages above 4 MiB by default.
inline constexpr size_t kMergedDeltaBytes = 256 << 10;

// Not thread-safe.
class StreamEvents {
 public:
  // First comes `accepted`, then the echo, where it was asked for.
  StreamEvents(const GenerationRequest& request, OutputShape shape);

  void Add(const GenerationDelta& delta);
  // This must be the last call.
  void End(const GenerationEnd& end);

  // Gives the next message to send, oldest choice first. Returns false when nothing is pending.
  bool Next(v1::GenerateStreamResponse* out);

 private:
  // The choice's last pending delta, while there is room in it.
  struct Open {
    v1::Delta* delta = nullptr;
    size_t bytes = 0;  // approximately
  };
  v1::Delta* Pending(int32_t index, size_t bytes);

  const std::string request_id_;
  const OutputShape shape_;
  std::optional<v1::Accepted> accepted_;
  std::deque<v1::Delta> deltas_;
  std::vector<Open> open_;  // one for each choice; points into deltas_
  std::optional<v1::Finished> finished_;
};

}  // namespace causeway

#endif  // CAUSEWAY_SERVER_RPC_STREAM_EVENTS_H_
