#include "server/rpc/prepare_workers.h"

#include <algorithm>
#include <optional>
#include <utility>

#include "absl/strings/str_cat.h"

namespace causeway {
namespace {

// The bytes of the messages that may wait. A small one counts as kMessageBytesMin, so that not too many wait.
constexpr size_t kWaitingBytesMax = 64 << 20, kMessageBytesMin = 64 << 10;

}  // namespace

PrepareWorkers::PrepareWorkers(int threads, std::string what)
    : what_(std::move(what)), jobs_(kWaitingBytesMax / kMessageBytesMin) {
  for (int i = 0; i < threads; ++i) threads_.emplace_back([this] { Loop(); });
}

PrepareWorkers::~PrepareWorkers() {
  jobs_.Close();
  for (std::thread& thread : threads_) thread.join();
}

absl::Status PrepareWorkers::Push(size_t bytes, std::function<void()> work) {
  bytes = std::max(bytes, kMessageBytesMin);
  if (waiting_bytes_.fetch_add(bytes) >= kWaitingBytesMax) {
    waiting_bytes_ -= bytes;
    return absl::ResourceExhaustedError(absl::StrCat("the queue of ", what_, " is full: messages of ",
                                                     kWaitingBytesMax >> 20, " MiB wait to be prepared"));
  }
  jobs_.Push({bytes, std::move(work)});
  return absl::OkStatus();
}

void PrepareWorkers::Loop() {
  while (std::optional<Job> job = jobs_.Pop()) {
    waiting_bytes_ -= job->bytes;
    job->work();
  }
}

}  // namespace causeway
