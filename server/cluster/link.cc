#include "server/cluster/link.h"

#include <optional>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "engine/base/clock.h"
#include "server/cluster/wire.h"

namespace causeway {
namespace {

constexpr size_t kOutgoingMax = 4096;  // steps in flight are few; heartbeats are one a second

}  // namespace

FollowerLink::FollowerLink(v1::Join join, grpc::ServerContext& context, Stream& stream)
    : join_(std::move(join)),
      context_(context),
      stream_(stream),
      outgoing_(kOutgoingMax),
      heard_(Clock::Real()->Now()),
      writer_([this] { Write(); }) {}

FollowerLink::~FollowerLink() {
  outgoing_.Close();
  writer_.join();
}

absl::Status FollowerLink::Serve(const std::function<void(const v1::FollowerMessage&)>& on_message) {
  v1::FollowerMessage message;
  while (stream_.Read(&message)) {
    {
      absl::MutexLock lock(&mutex_);
      heard_ = Clock::Real()->Now();
    }
    on_message(message);
    if (!message.has_failed()) continue;
    return absl::UnavailableError(absl::StrCat(name(), ": ", message.failed().status().message()));
  }
  absl::MutexLock lock(&mutex_);
  if (!lost_.ok()) return lost_;
  if (left_) return absl::OkStatus();
  return absl::UnavailableError(absl::StrCat(name(), " is gone: its connection broke"));
}

void FollowerLink::Send(std::shared_ptr<const v1::LeaderMessage> message) { outgoing_.Push(std::move(message)); }

void FollowerLink::Leave(const absl::Status& why) {
  {
    absl::MutexLock lock(&mutex_);
    left_ = true;
  }
  auto message = std::make_shared<v1::LeaderMessage>();
  *message->mutable_leave()->mutable_why() = ToWire(why);
  Send(std::move(message));
}

void FollowerLink::CheckHeard(absl::Duration lost_after) {
  absl::MutexLock lock(&mutex_);
  const absl::Duration silent = Clock::Real()->Now() - heard_;
  if (silent < lost_after || !lost_.ok()) return;
  lost_ =
      absl::UnavailableError(absl::StrFormat("%s was not heard of for %.1f s", name(), absl::ToDoubleSeconds(silent)));
  outgoing_.Close();
  context_.TryCancel();
}

void FollowerLink::Write() {
  while (std::optional<std::shared_ptr<const v1::LeaderMessage>> message = outgoing_.Pop()) {
    if (!stream_.Write(**message)) return outgoing_.Close();
  }
}

}  // namespace causeway
