// What the ranks of a tensor-parallel group tell each other while they compute a step.
#ifndef CAUSEWAY_ENGINE_DEVICE_COMMUNICATOR_H_
#define CAUSEWAY_ENGINE_DEVICE_COMMUNICATOR_H_

#include <cstdint>
#include <exception>
#include <memory>
#include <string>
#include <vector>

#include <ATen/core/Tensor.h>

#include "absl/types/span.h"

namespace causeway {

// Thrown where another rank has failed in this step, and says why.
class OtherRankFailed final : public std::exception {
 public:
  const char* what() const noexcept override { return "another rank of the group failed in this step"; }
};

// What a rank has told the others since the start.
struct CollectiveStats {
  int64_t calls = 0, bytes = 0;
  double seconds = 0;  // from each call to its return: waiting for the others, and copying
};

// One rank's end. Its DeviceWorker's thread makes all calls, and all ranks make the same ones in the same order. The
// results are there for work started later on the rank's device. Errors are c10::Error and OtherRankFailed.
class Communicator {
 public:
  virtual ~Communicator() = default;
  virtual int rank() const = 0;
  virtual int size() const = 0;
  virtual bool share_memory() const = 0;  // whether all ranks are threads of this process

  // First in each step. A rank that failed in the one before takes part again.
  virtual void BeginStep() = 0;
  // This rank does not go on with the step. The others' calls in it throw and do not wait for this one.
  virtual void Fail() = 0;

  virtual CollectiveStats stats() const = 0;  // any thread

  // In place: the ranks' x, of one shape, added up in the order of ranks in fp32. All ranks get the same bits.
  virtual void AllReduce(at::Tensor& x) = 0;
  // x [rows, widths[rank]] of each rank, side by side: [rows, their sum] on rank 0, undefined on the others.
  virtual at::Tensor GatherColumns(const at::Tensor& x, absl::Span<const int64_t> widths) = 0;
  // In place: rank 0's x, of one shape, on the CPU.
  virtual void Broadcast(at::Tensor& x) = 0;
};

// For ranks that are threads of one process and compute from its memory. They wait for each other by spinning and then
// sleeping.
std::vector<std::unique_ptr<Communicator>> MakeHostCommunicators(int size);

class Endpoint;
// A rank as the others reach it.
struct PeerRank {
  int peer = 0;      // the number of its endpoint
  std::string name;  // in errors
};
// For ranks on CPUs, some of which other processes drive. `endpoint` is this rank's and must outlive the result;
// `peers` are those of all ranks, this one included. Its calls also throw ConnectionLost, which names the rank.
std::unique_ptr<Communicator> MakeLinkCommunicator(Endpoint& endpoint, std::vector<PeerRank> peers, int rank);

}  // namespace causeway

#endif  // CAUSEWAY_ENGINE_DEVICE_COMMUNICATOR_H_
