// Messages between the devices of a replica that several processes drive: one endpoint a device, connected to those of
// all others by Gloo (TCP, no encryption). Hidden states and sums between ranks go through it, nothing else.
#ifndef CAUSEWAY_ENGINE_DEVICE_ENDPOINT_H_
#define CAUSEWAY_ENGINE_DEVICE_ENDPOINT_H_

#include <cstdint>
#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

#include <ATen/core/Tensor.h>

#include "absl/status/statusor.h"
#include "absl/time/time.h"

namespace causeway {

// Thrown where a connection to another process is broken or was closed.
class ConnectionLost final : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

// A message on its way. It may be dropped at any time where it is not waited for; a receiver's memory must then live
// until the connection is closed or a later message of the same peer has come.
class Transfer {
 public:
  virtual ~Transfer() = default;
  // Until the message is gone from, or has come into, its memory. Throws ConnectionLost. Never gives up by itself.
  virtual void Wait() = 0;
};

// Thread-safe. Peers are the indices that MakeEndpoints was given; a process may hold several of them.
class Endpoint {
 public:
  virtual ~Endpoint() = default;
  // `bytes` is contiguous memory of the CPU, kept alive by the transfer. Messages with the same peer and tag (at least
  // 0) come in the order in which they were sent. A message may be shorter than the memory that receives it, and fills
  // its beginning then; a longer one breaks the connection. They throw ConnectionLost, too.
  virtual std::unique_ptr<Transfer> Send(int peer, int tag, at::Tensor bytes) = 0;
  virtual std::unique_ptr<Transfer> Receive(int peer, int tag, at::Tensor bytes) = 0;
  // Every Wait, under way or to come, throws. Endpoints of other processes may notice or not.
  virtual void Close() = 0;
};

// Where processes find each other: a c10d TCPStore, which anyone who reaches it may read and write.
class Rendezvous {
 public:
  virtual ~Rendezvous() = default;
  // Unavailable: the store cannot be reached. DeadlineExceeded: no such key was set in time.
  virtual absl::Status Set(const std::string& key, const std::string& value) = 0;
  virtual absl::StatusOr<std::string> Get(const std::string& key, absl::Duration timeout) = 0;
  // The endpoints of `own` among `size` devices, connected to all others: waits until every process has called it with
  // the same name, up to the rendezvous's timeout. `address` is this process's, at which the others reach it; nothing
  // is listened to elsewhere.
  virtual absl::StatusOr<std::vector<std::unique_ptr<Endpoint>>> Connect(const std::string& name,
                                                                         const std::vector<int>& own, int size,
                                                                         const std::string& address) = 0;
  virtual int port() const = 0;
};

// `serve`: this process holds the store, and listens at `host` alone; port 0 takes a free one. Else it waits up to
// `timeout` for the store to be there. Unavailable says why not.
absl::StatusOr<std::unique_ptr<Rendezvous>> MakeRendezvous(const std::string& host, int port, bool serve,
                                                           absl::Duration timeout);

}  // namespace causeway

#endif  // CAUSEWAY_ENGINE_DEVICE_ENDPOINT_H_
