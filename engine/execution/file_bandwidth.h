// What loading is measured against: how fast this machine brings files into memory when nothing is done with them.
#ifndef CAUSEWAY_ENGINE_EXECUTION_FILE_BANDWIDTH_H_
#define CAUSEWAY_ENGINE_EXECUTION_FILE_BANDWIDTH_H_

#include <string>
#include <vector>

#include "absl/status/statusor.h"

namespace causeway {

// Bytes a second at which `threads` threads pread whole files, one file after the other, into fresh memory of the kind that holds
// weights (huge pages where there are some, each first touched by its reader). ResourceExhausted: there is no memory for them all.
absl::StatusOr<double> MeasureFileBandwidth(const std::vector<std::string>& files, int threads);

// Files read next come from the disk, as far as the kernel agrees. Only advice; what nobody has written to disk yet stays.
absl::Status DropFromPageCache(const std::vector<std::string>& files);

}  // namespace causeway

#endif  // CAUSEWAY_ENGINE_EXECUTION_FILE_BANDWIDTH_H_
