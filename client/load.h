// When the requests of a load test are sent, and by how many threads.
#ifndef CAUSEWAY_CLIENT_LOAD_H_
#define CAUSEWAY_CLIENT_LOAD_H_

#include <functional>
#include <vector>

#include "absl/status/status.h"

namespace causeway {

// Both call send(i) once for each request, from several threads, and return when the last call has. ResourceExhausted
// when no thread can be had: what was under way ends, and the rest is not sent.

// Request i `arrivals_seconds[i]` (ascending) from now, however long the answers take: threads are added when all are
// busy, up to `threads_max`.
absl::Status SendAtArrivals(const std::vector<double>& arrivals_seconds, int threads_max,
                            const std::function<void(int)>& send);
// The next as soon as one ends, `concurrency` at a time.
absl::Status SendAtOnce(int requests, int concurrency, const std::function<void(int)>& send);

}  // namespace causeway

#endif  // CAUSEWAY_CLIENT_LOAD_H_
