#include "engine/waiting_requests.h"

namespace causeway {

void WaitingRequests::Add(std::unique_ptr<ActiveRequest> request) {
  const Rank rank{request->priority(), request->handle()};
  ranks_[rank.arrival] = rank;
  if (request->deadline() < absl::InfiniteFuture()) deadlines_.emplace(request->deadline(), rank.arrival);
  by_rank_.emplace(rank, std::move(request));
}

std::unique_ptr<ActiveRequest> WaitingRequests::TakeFirst() { return Take(by_rank_.begin()->first.arrival); }

std::unique_ptr<ActiveRequest> WaitingRequests::Take(RequestHandle handle) {
  const auto rank = ranks_.find(handle);
  if (rank == ranks_.end()) return nullptr;
  const auto found = by_rank_.find(rank->second);
  std::unique_ptr<ActiveRequest> request = std::move(found->second);
  deadlines_.erase({request->deadline(), handle});
  by_rank_.erase(found);
  ranks_.erase(rank);
  return request;
}

std::unique_ptr<ActiveRequest> WaitingRequests::TakeExpired(absl::Time now) {
  return NextDeadline() <= now ? Take(deadlines_.begin()->second) : nullptr;
}

}  // namespace causeway
