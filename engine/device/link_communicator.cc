#include <algorithm>
#include <cstring>
#include <deque>
#include <numeric>
#include <optional>
#include <utility>

#include <ATen/ops/empty.h>
#include <c10/util/Exception.h>

#include "absl/strings/str_cat.h"
#include "engine/device/collectives.h"
#include "engine/device/communicator.h"
#include "engine/device/device_memory.h"
#include "engine/device/endpoint.h"

namespace causeway {
namespace {

// Up to here every rank sends all it has to all others, and each adds up for itself: one message's time. Above, each
// adds up a share for all, which moves less and takes two.
constexpr int64_t kWholeBytesMax = 64 << 10;

// Before the data of a message, in whole lines of the cache.
struct alignas(64) Head {
  uint64_t step = 0;
  bool failed = false;  // and nothing follows
};

// A step's messages have a tag of their own, so that those of a step that some ranks have left are taken for no
// other's.
int TagOf(uint64_t step) { return 1 << 30 | static_cast<int>(step % (1 << 30)); }

class LinkCommunicator final : public Communicator {
 public:
  LinkCommunicator(Endpoint& endpoint, std::vector<PeerRank> peers, int rank)
      : endpoint_(endpoint), rank_(rank), ranks_(peers.size()) {
    for (size_t i = 0; i < peers.size(); ++i) ranks_[i].peer = std::move(peers[i]);
  }

  int rank() const override { return rank_; }
  int size() const override { return static_cast<int>(ranks_.size()); }
  bool share_memory() const override { return false; }

  void BeginStep() override { ++step_; }
  void Fail() override {
    for (int other = 0; other < size(); ++other) {
      if (other == rank_) continue;
      try {
        Send(other, nullptr, 0, /*failed=*/true);
      } catch (const ConnectionLost&) {  // who is gone waits for nobody
      }
    }
  }

  CollectiveStats stats() const override { return counter_.stats(); }

  void AllReduce(at::Tensor& x) override {
    TORCH_CHECK(x.is_contiguous(), "a sum over ranks is of contiguous tensors");
    const auto bytes = static_cast<int64_t>(x.nbytes());
    const CollectiveCounter::Call call(counter_, "all-reduce", bytes);
    char* const own = static_cast<char*>(x.mutable_data_ptr());
    if (size() == 2 || bytes <= kWholeBytesMax) {
      Exchange([&](int) { return Part{own, bytes}; }, [&](int) { return bytes; });
      SumInRankOrder(x.scalar_type(), Shown(own), {&own, 1}, 0, x.numel());
      return Recycle();
    }
    const auto element = static_cast<int64_t>(x.element_size());
    const auto first = [&](int rank) { return x.numel() * rank / size(); };
    const auto share = [&](int rank) {
      return Part{own + first(rank) * element, (first(rank + 1) - first(rank)) * element};
    };
    Exchange(share, [&](int) { return share(rank_).bytes; });
    char* const sum = share(rank_).data;
    SumInRankOrder(x.scalar_type(), Shown(sum), {&sum, 1}, 0, first(rank_ + 1) - first(rank_));
    Recycle();
    Exchange([&](int) { return share(rank_); }, [&](int from) { return share(from).bytes; });
    for (int other = 0; other < size(); ++other)
      if (other != rank_) std::memcpy(share(other).data, DataOf(ranks_[other]), share(other).bytes);
    Recycle();
  }

  at::Tensor GatherColumns(const at::Tensor& x, absl::Span<const int64_t> widths) override {
    const int64_t rows = x.size(0), element = static_cast<int64_t>(x.element_size());
    const CollectiveCounter::Call call(counter_, "gather", static_cast<int64_t>(x.nbytes()));
    const at::Tensor dense = x.contiguous();
    if (rank_ != 0) {
      Send(0, static_cast<const char*>(dense.const_data_ptr()), static_cast<int64_t>(dense.nbytes()));
      return {};
    }
    at::Tensor all = at::empty({rows, std::accumulate(widths.begin(), widths.end(), int64_t{0})}, x.options());
    const int64_t pitch = all.size(1) * element;
    Receive([&](int from) { return rows * widths[from] * element; });
    char* to = static_cast<char*>(all.mutable_data_ptr());
    for (int other = 0; other < size(); ++other) {
      const char* from = other == 0 ? static_cast<const char*>(dense.const_data_ptr()) : DataOf(ranks_[other]);
      const int64_t width = widths[other] * element;
      for (int64_t row = 0; row < rows; ++row) std::memcpy(to + row * pitch, from + row * width, width);
      to += width;
    }
    Recycle();
    return all;
  }

  void Broadcast(at::Tensor& x) override {
    TORCH_CHECK(x.is_contiguous(), "what is told to all ranks is contiguous");
    const auto bytes = static_cast<int64_t>(x.nbytes());
    const CollectiveCounter::Call call(counter_, "broadcast", bytes);
    if (rank_ == 0) {
      for (int other = 1; other < size(); ++other) Send(other, static_cast<const char*>(x.const_data_ptr()), bytes);
      return;
    }
    ranks_[0].incoming = Post(0, bytes);
    TakeIncoming(ranks_[0]);
    std::memcpy(x.mutable_data_ptr(), DataOf(ranks_[0]), bytes);
    Recycle();
  }

 private:
  struct Part {
    char* data;
    int64_t bytes;
  };
  // A message under way, with its memory.
  struct Message {
    uint64_t step = 0;
    at::Tensor memory;
    std::unique_ptr<Transfer> transfer;
  };
  struct Rank {
    PeerRank peer;
    std::optional<Message> incoming;
    // Messages of one step that were not waited for. Once a message of a later step has come from the rank, it has left
    // that step, and they have arrived or never will.
    std::deque<Message> outgoing, left;
  };

  static char* DataOf(const Rank& rank) { return static_cast<char*>(rank.incoming->memory.data_ptr()) + sizeof(Head); }

  // Memory for a message; no device's.
  at::Tensor Take(int64_t bytes) {
    const int64_t wanted = bytes + static_cast<int64_t>(sizeof(Head));
    const auto fits = [wanted](const at::Tensor& memory) { return memory.numel() >= wanted; };
    if (const auto found = std::find_if(spare_.begin(), spare_.end(), fits); found != spare_.end()) {
      at::Tensor memory = std::move(*found);
      spare_.erase(found);
      return memory;
    }
    if (!spare_.empty()) spare_.pop_back();  // too small, and would only become more
    const UncountedScope uncounted;
    return at::empty({wanted}, at::kByte);
  }

  void Send(int to, const char* data, int64_t bytes, bool failed = false) {
    at::Tensor memory = Take(bytes);
    Head head;
    head.step = step_;
    head.failed = failed;
    std::memcpy(memory.data_ptr(), &head, sizeof(head));
    if (bytes > 0) std::memcpy(static_cast<char*>(memory.data_ptr()) + sizeof(head), data, bytes);
    Rank& rank = ranks_[to];
    std::unique_ptr<Transfer> sent =
        endpoint_.Send(rank.peer.peer, TagOf(step_), memory.narrow(0, 0, bytes + static_cast<int64_t>(sizeof(head))));
    rank.outgoing.push_back({step_, std::move(memory), std::move(sent)});
  }

  Message Post(int from, int64_t bytes) {
    at::Tensor memory = Take(bytes);
    std::unique_ptr<Transfer> received = endpoint_.Receive(
        ranks_[from].peer.peer, TagOf(step_), memory.narrow(0, 0, bytes + static_cast<int64_t>(sizeof(Head))));
    return {step_, std::move(memory), std::move(received)};
  }

  static void Wait(const Rank& rank, Transfer& transfer) {
    try {
      transfer.Wait();
    } catch (const ConnectionLost& error) {
      throw ConnectionLost(absl::StrCat("the connection to ", rank.peer.name, " is lost: ", error.what()));
    }
  }

  // Waits for the posted message.
  void TakeIncoming(Rank& rank) {
    Wait(rank, *rank.incoming->transfer);
    for (std::deque<Message>* messages : {&rank.outgoing, &rank.left})
      while (!messages->empty() && messages->front().step < step_) messages->pop_front();
    if (static_cast<const Head*>(rank.incoming->memory.const_data_ptr())->failed) throw OtherRankFailed();
  }

  // Messages of all other ranks, of so many bytes.
  template <class Bytes>
  void Receive(const Bytes& bytes) {
    for (int other = 0; other < size(); ++other)
      if (other != rank_) ranks_[other].incoming = Post(other, bytes(other));
    try {
      for (int other = 0; other < size(); ++other)
        if (other != rank_) TakeIncoming(ranks_[other]);
    } catch (...) {
      for (Rank& rank : ranks_) {
        if (!rank.incoming.has_value()) continue;
        rank.left.push_back(*std::exchange(rank.incoming, std::nullopt));
      }
      throw;
    }
  }

  // To all other ranks what `part` says, and as much from each as `bytes` says.
  template <class PartOf, class Bytes>
  void Exchange(const PartOf& part, const Bytes& bytes) {
    for (int other = 0; other < size(); ++other)
      if (other != rank_) Send(other, part(other).data, part(other).bytes);
    Receive(bytes);
    // All have come so far, and so have taken what was sent to them before, or do now.
    for (Rank& rank : ranks_) {
      for (; !rank.outgoing.empty(); rank.outgoing.pop_front()) {
        Wait(rank, *rank.outgoing.front().transfer);
        spare_.push_back(std::move(rank.outgoing.front().memory));
      }
    }
  }

  // The arrays of all ranks, where this one's is `own`.
  std::vector<char*> Shown(char* own) const {
    std::vector<char*> shown;
    for (int rank = 0; rank < size(); ++rank) shown.push_back(rank == rank_ ? own : DataOf(ranks_[rank]));
    return shown;
  }

  // The incoming messages have been read.
  void Recycle() {
    for (Rank& rank : ranks_)
      if (rank.incoming.has_value()) spare_.push_back(std::move(std::exchange(rank.incoming, std::nullopt)->memory));
  }

  Endpoint& endpoint_;
  const int rank_;
  std::vector<Rank> ranks_;
  std::vector<at::Tensor> spare_;
  uint64_t step_ = 0;
  CollectiveCounter counter_;
};

}  // namespace

std::unique_ptr<Communicator> MakeLinkCommunicator(Endpoint& endpoint, std::vector<PeerRank> peers, int rank) {
  return std::make_unique<LinkCommunicator>(endpoint, std::move(peers), rank);
}

}  // namespace causeway
