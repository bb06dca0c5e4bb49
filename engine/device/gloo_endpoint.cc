#include <arpa/inet.h>
#include <netdb.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <chrono>
#include <set>
#include <thread>
#include <utility>

#define USE_C10D_GLOO 1  // the wheel has it
#include <torch/csrc/distributed/c10d/PrefixStore.hpp>
#include <torch/csrc/distributed/c10d/ProcessGroupGloo.hpp>
#include <torch/csrc/distributed/c10d/TCPStore.hpp>

#include "absl/base/thread_annotations.h"
#include "absl/cleanup/cleanup.h"
#include "absl/strings/str_cat.h"
#include "absl/synchronization/mutex.h"
#include "engine/base/status.h"
#include "engine/device/endpoint.h"

namespace causeway {
namespace {

// Gloo closes connections on which it has waited for longer. Whether a process is alive is not for it to find out.
constexpr std::chrono::milliseconds kNever = std::chrono::hours(24 * 365);

// What Gloo throws says where in its source it was thrown, in brackets before the rest.
std::string WithoutSource(std::string what) {
  if (const size_t end = what.find("] "); !what.empty() && what.front() == '[' && end != std::string::npos)
    what.erase(0, end + 2);
  return what;
}

template <class Work>
auto OrLost(const Work& work) {
  try {
    return work();
  } catch (const std::exception& error) {
    throw ConnectionLost(WithoutSource(error.what()));
  }
}

class GlooEndpoint final : public Endpoint {
 public:
  explicit GlooEndpoint(c10::intrusive_ptr<c10d::ProcessGroupGloo> group) : group_(std::move(group)) {}

  std::unique_ptr<Transfer> Send(int peer, int tag, at::Tensor bytes) override {
    std::vector<at::Tensor> tensors = {std::move(bytes)};
    return OrLost([&] { return std::make_unique<GlooTransfer>(*this, group_->send(tensors, peer, tag)); });
  }
  std::unique_ptr<Transfer> Receive(int peer, int tag, at::Tensor bytes) override {
    std::vector<at::Tensor> tensors = {std::move(bytes)};
    return OrLost([&] { return std::make_unique<GlooTransfer>(*this, group_->recv(tensors, peer, tag)); });
  }
  void Close() override {
    absl::MutexLock lock(&mutex_);
    closed_ = true;
    for (c10d::Work* work : waited_for_) work->abort();
  }

 private:
  class GlooTransfer final : public Transfer {
   public:
    GlooTransfer(GlooEndpoint& endpoint, c10::intrusive_ptr<c10d::Work> work)
        : endpoint_(endpoint), work_(std::move(work)) {}
    void Wait() override {
      endpoint_.BeginWait(work_.get());
      const auto end = absl::MakeCleanup([this] { endpoint_.EndWait(work_.get()); });
      if (!OrLost([this] { return work_->wait(); })) throw ConnectionLost("it was closed");
    }

   private:
    GlooEndpoint& endpoint_;
    const c10::intrusive_ptr<c10d::Work> work_;
  };

  void BeginWait(c10d::Work* work) {
    absl::MutexLock lock(&mutex_);
    if (closed_) throw ConnectionLost("it was closed");
    waited_for_.insert(work);
  }
  void EndWait(c10d::Work* work) {
    absl::MutexLock lock(&mutex_);
    waited_for_.erase(work);
  }

  const c10::intrusive_ptr<c10d::ProcessGroupGloo> group_;
  absl::Mutex mutex_;
  bool closed_ ABSL_GUARDED_BY(mutex_) = false;
  std::set<c10d::Work*> waited_for_ ABSL_GUARDED_BY(mutex_);
};

absl::Status StoreError(const std::string& what, const std::exception& error) {
  const auto* torch_error = dynamic_cast<const c10::Error*>(&error);
  std::string why = torch_error != nullptr ? torch_error->what_without_backtrace() : error.what();
  if (const size_t end = why.find("\nException raised from"); end != std::string::npos) why.resize(end);
  return absl::UnavailableError(absl::StrCat(what, ": ", why));
}

class TcpRendezvous final : public Rendezvous {
 public:
  TcpRendezvous(c10::intrusive_ptr<c10d::TCPStore> store, std::string where, absl::Duration timeout)
      : store_(std::move(store)), where_(std::move(where)), timeout_(timeout) {}

  absl::Status Set(const std::string& key, const std::string& value) override {
    try {
      store_->set(key, std::vector<uint8_t>(value.begin(), value.end()));
      return absl::OkStatus();
    } catch (const std::exception& error) {
      return StoreError(where_, error);
    }
  }

  absl::StatusOr<std::string> Get(const std::string& key, absl::Duration timeout) override {
    try {
      // The store's own way of waiting breaks its connection when time is up.
      for (const absl::Time end = absl::Now() + timeout; !store_->check({key});) {
        if (absl::Now() >= end) return absl::DeadlineExceededError(absl::StrCat(where_, ": nobody has set ", key));
        absl::SleepFor(absl::Milliseconds(50));
      }
      const std::vector<uint8_t> value = store_->get(key);
      return std::string(value.begin(), value.end());
    } catch (const std::exception& error) {
      return StoreError(where_, error);
    }
  }

  absl::StatusOr<std::vector<std::unique_ptr<Endpoint>>> Connect(const std::string& name, const std::vector<int>& own,
                                                                 int size, const std::string& address) override {
    // Each waits for the others, those of this process included.
    std::vector<std::unique_ptr<Endpoint>> endpoints(own.size());
    std::vector<absl::Status> statuses(own.size());
    std::vector<std::thread> threads;
    for (size_t i = 0; i < own.size(); ++i) {
      threads.emplace_back([&, i] {
        try {
          auto options = c10d::ProcessGroupGloo::Options::create(absl::ToChronoMilliseconds(timeout_));
          options->devices.push_back(c10d::ProcessGroupGloo::createDeviceForHostname(address));
          options->threads = 1;
          auto store = c10::make_intrusive<c10d::PrefixStore>(name, store_->clone());
          auto group = c10::make_intrusive<c10d::ProcessGroupGloo>(store, own[i], size, std::move(options));
          group->setTimeout(kNever);
          endpoints[i] = std::make_unique<GlooEndpoint>(std::move(group));
        } catch (const std::exception& error) {
          statuses[i] = StoreError(absl::StrCat("connecting device ", own[i], " of ", size, " at ", address), error);
        }
      });
    }
    for (std::thread& thread : threads) thread.join();
    for (const absl::Status& status : statuses) CAUSEWAY_RETURN_IF_ERROR(status);
    return endpoints;
  }

  int port() const override { return store_->getPort(); }

 private:
  const c10::intrusive_ptr<c10d::TCPStore> store_;
  const std::string where_;
  const absl::Duration timeout_;
};

// A socket that is bound to this address and no other, and listens.
absl::StatusOr<int> Bind(const std::string& host, int port) {
  addrinfo hints = {};
  hints.ai_socktype = SOCK_STREAM;
  hints.ai_flags = AI_PASSIVE;
  addrinfo* found = nullptr;
  if (const int error = getaddrinfo(host.c_str(), std::to_string(port).c_str(), &hints, &found); error != 0)
    return absl::InvalidArgumentError(absl::StrCat("the host is not known: ", gai_strerror(error)));
  const auto release = absl::MakeCleanup([found] { freeaddrinfo(found); });
  const int fd = socket(found->ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
  const int on = 1;
  if (fd >= 0 && setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)) == 0 &&
      bind(fd, found->ai_addr, found->ai_addrlen) == 0 && listen(fd, SOMAXCONN) == 0) {
    return fd;
  }
  const absl::Status status = absl::ErrnoToStatus(errno, "listening");
  if (fd >= 0) close(fd);
  return absl::UnavailableError(status.message());
}

absl::StatusOr<int> PortOf(int fd) {
  sockaddr_storage address = {};
  socklen_t length = sizeof(address);
  if (getsockname(fd, reinterpret_cast<sockaddr*>(&address), &length) != 0)
    return absl::ErrnoToStatus(errno, "getsockname");
  return ntohs(address.ss_family == AF_INET6 ? reinterpret_cast<sockaddr_in6&>(address).sin6_port
                                             : reinterpret_cast<sockaddr_in&>(address).sin_port);
}

}  // namespace

absl::StatusOr<std::unique_ptr<Rendezvous>> MakeRendezvous(const std::string& host, int port, bool serve,
                                                           absl::Duration timeout) {
  const std::string where = absl::StrCat("the rendezvous at ", host, ":", port);
  c10d::TCPStoreOptions options;
  options.waitWorkers = false;
  options.isServer = serve;
  options.timeout = absl::ToChronoMilliseconds(timeout);
  if (serve) {
    absl::StatusOr<int> fd = Bind(host, port);
    if (!fd.ok()) return absl::Status(fd.status().code(), absl::StrCat(where, ": ", fd.status().message()));
    CAUSEWAY_ASSIGN_OR_RETURN(port, PortOf(*fd));
    options.masterListenFd = *fd;
    options.useLibUV = false;  // the other server takes a socket as it is and does not listen on it
  }
  options.port = static_cast<uint16_t>(port);
  try {
    return std::make_unique<TcpRendezvous>(c10::make_intrusive<c10d::TCPStore>(host, options), where, timeout);
  } catch (const std::exception& error) {
    return StoreError(where, error);
  }
}

}  // namespace causeway
