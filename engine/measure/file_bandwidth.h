// Measures how fast this machine brings files into memory when nothing is done with them, as a bound for loading. And
// it measures a folder's disk, for offload.
#ifndef CAUSEWAY_ENGINE_MEASURE_FILE_BANDWIDTH_H_
#define CAUSEWAY_ENGINE_MEASURE_FILE_BANDWIDTH_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"

namespace causeway {

// Bytes a second at which `threads` threads pread whole files, one file after the other. They read into fresh memory of
// the kind that holds weights: huge pages where there are some, each first touched by its reader. ResourceExhausted:
// there is no memory for all the files.
absl::StatusOr<double> MeasureFileBandwidth(const std::vector<std::string>& files, int threads);

// The speed of a folder's disk, in bytes a second, for one thread with 4 MiB at a time.
struct FolderBandwidth {
  double write = 0;  // until the disk has the bytes
  double read = 0;
  bool direct =
      false;  // read past the page cache; false: the file system does not offer that, and memory may have answered
};
// Writes `bytes`, a multiple of 4 MiB, to a file in `folder` and reads them back. The file has no name, and is gone
// afterwards in any case. Errors are the system's: PermissionDenied, NotFound, ResourceExhausted (the disk is full),
// ...
absl::StatusOr<FolderBandwidth> MeasureFolderBandwidth(const std::string& folder, int64_t bytes);

// Makes later reads of these files come from the disk, as far as the kernel agrees: it is only advice. Pages that are
// not yet written to disk stay.
absl::Status DropFromPageCache(const std::vector<std::string>& files);

}  // namespace causeway

#endif  // CAUSEWAY_ENGINE_MEASURE_FILE_BANDWIDTH_H_
