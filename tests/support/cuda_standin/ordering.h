// Whether the calls that a program made order its work: what GPUs may do at once must not touch the same memory.
#ifndef CAUSEWAY_TESTS_SUPPORT_CUDA_STANDIN_ORDERING_H_
#define CAUSEWAY_TESTS_SUPPORT_CUDA_STANDIN_ORDERING_H_

#include <string>
#include <vector>

#include "tests/support/cuda_standin/standin.h"

namespace causeway::standin {

// The first two touches of the same memory, one of them a write, that nothing orders; or nothing.
//
// Work is ordered behind what its stream was given before, behind events that the stream waits for, and behind all that
// the host has waited for (events, streams, devices, events that it found done) when it queued the work. The host
// counts as one thread, since nobody sees how its threads wait for each other: so a missing wait among them is not
// found. Nor is what the host itself reads and writes.
std::string FirstUnordered(const std::vector<Call>& calls);

}  // namespace causeway::standin

#endif  // CAUSEWAY_TESTS_SUPPORT_CUDA_STANDIN_ORDERING_H_
