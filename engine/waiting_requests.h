// Requests that nothing computes yet, in the order in which they are to start: by their Rank.
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
#include "engine/schedule/rank.h"

namespace causeway {

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
  // Handles count up as requests arrive: they are the ranks' arrivals.
  absl::btree_map<Rank, std::unique_ptr<ActiveRequest>> by_rank_;
  absl::flat_hash_map<RequestHandle, Rank> ranks_;
  absl::btree_set<std::pair<absl::Time, RequestHandle>> deadlines_;  // of the requests that have one
};

}  // namespace causeway

#endif  // CAUSEWAY_ENGINE_WAITING_REQUESTS_H_
