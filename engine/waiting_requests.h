// Requests that nothing computes yet, in the order in which they are to start.
#ifndef CAUSEWAY_ENGINE_WAITING_REQUESTS_H_
#define CAUSEWAY_ENGINE_WAITING_REQUESTS_H_

#include <cstdint>
#include <memory>
#include <utility>
#include <vector>

#include "absl/container/btree_map.h"
#include "absl/container/btree_set.h"
#include "absl/container/flat_hash_map.h"
#include "absl/time/time.h"
#include "engine/engine.h"
#include "engine/request.h"

namespace causeway {

struct StartRank {
  int32_t priority = 0;
  RequestHandle handle = 0;  // counts up as requests arrive
};
// Whether `a` starts before `b`: this is the one place that knows the order. The request of a higher priority comes
// first, then the one that arrived first, as the scheduler ranks its sequences.
bool StartsBefore(const StartRank& a, const StartRank& b);

// Not thread-safe.
class WaitingRequests {
 public:
  void Add(std::unique_ptr<ActiveRequest> request);

  const ActiveRequest* first() const { return by_rank_.empty() ? nullptr : by_rank_.begin()->second.get(); }
  std::unique_ptr<ActiveRequest> TakeFirst();                  // REQUIRES: there is one
  std::unique_ptr<ActiveRequest> Take(RequestHandle handle);   // null when it does not wait here
  std::unique_ptr<ActiveRequest> TakeExpired(absl::Time now);  // one that is past its deadline; null when none is
  absl::Time NextDeadline() const { return deadlines_.empty() ? absl::InfiniteFuture() : deadlines_.begin()->first; }

 private:
  struct Order {
    bool operator()(const StartRank& a, const StartRank& b) const { return StartsBefore(a, b); }
  };

  absl::btree_map<StartRank, std::unique_ptr<ActiveRequest>, Order> by_rank_;
  absl::flat_hash_map<RequestHandle, StartRank> ranks_;
  absl::btree_set<std::pair<absl::Time, RequestHandle>> deadlines_;  // of the requests that have one
};

}  // namespace causeway

#endif  // CAUSEWAY_ENGINE_WAITING_REQUESTS_H_
