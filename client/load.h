// Decides when the requests of a load test are sent, and by how many threads.
#ifndef CAUSEWAY_CLIENT_LOAD_H_
#define CAUSEWAY_CLIENT_LOAD_H_

#include <functional>
#include <vector>

#include "absl/status/status.h"

namespace causeway {

// Both call send(i) once for each request, from several threads, and return when the last call has returned.
// ResourceExhausted: no thread could be started. Calls that were under way end, and the rest is not sent.

// Sends request i `arrivals_seconds[i]` (ascending) from now, however long the answers take. Threads are added when all
// are busy, up to `threads_max`.
absl::Status SendAtArrivals(const std::vector<double>& arrivals_seconds, int threads_max,
                            const std::function<void(int)>& send);
// Sends the next request as soon as one ends, with `concurrency` at a time.
absl::Status SendAtOnce(int requests, int concurrency, const std::function<void(int)>& send);

}  // namespace causeway

#endif  // CAUSEWAY_CLIENT_LOAD_H_
