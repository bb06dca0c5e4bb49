// Whether a process may join a group.
#ifndef CAUSEWAY_SERVER_CLUSTER_ADMISSION_H_
#define CAUSEWAY_SERVER_CLUSTER_ADMISSION_H_

#include <string>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "causeway/v1/cluster.pb.h"

namespace causeway {

std::string NameOf(const v1::Join& join);  // "rank 1 (host-b)"

// Compared in a time that does not tell how much of them is alike.
bool SameSecret(absl::string_view shown, absl::string_view secret);

// InvalidArgument: a rank that the group of `size` does not have. FailedPrecondition: another version or model than the
// leader's, named on both sides.
absl::Status CheckJoin(const v1::Join& leader, const v1::Join& joining, int size);

// Whether it may take the place that `before` had, with devices of so many replicas, all of them lost.
// FailedPrecondition: those are several, or its devices are others now.
absl::Status CheckReturn(const v1::Join& before, const v1::Join& joining, int replicas);

}  // namespace causeway

#endif  // CAUSEWAY_SERVER_CLUSTER_ADMISSION_H_
