#include <algorithm>
#include <atomic>
#include <cstring>
#include <numeric>
#include <utility>

#include <ATen/ops/empty.h>
#include <c10/util/Exception.h>

#include "engine/device/collectives.h"
#include "engine/device/communicator.h"
#include "engine/threads/pause.h"

namespace causeway {
namespace {

constexpr int kSpins = 2000;            // looks at another rank before sleeping: some tens of microseconds
constexpr int64_t kAlignElements = 64;  // shares of a sum begin at whole lines of the cache

// Where the ranks meet. A meeting is a step's number and the count of meetings in it, so that a rank which has failed
// and gone on to the next step is past every meeting of the last one.
class Room {
 public:
  explicit Room(int size) : seats_(size) {}

  int size() const { return static_cast<int>(seats_.size()); }

  // What a rank shows the others, from one meeting until the next.
  void Show(int rank, char* data) { seats_[rank].shown = data; }
  char* shown(int rank) const { return seats_[rank].shown; }

  void Meet(int rank, uint64_t step, uint64_t count) {
    const uint64_t meeting = step << 32 | count;
    seats_[rank].reached.store(meeting);
    Wake();
    for (int other = 0; other < size(); ++other) {
      Seat& seat = seats_[other];
      for (int spins = 0; seat.reached.load(std::memory_order_acquire) < meeting; ++spins) {
        if (Failed(step)) break;
        Pause();
        if (spins >= kSpins) Sleep([&] { return seat.reached.load() >= meeting || Failed(step); });
      }
    }
    if (Failed(step)) throw OtherRankFailed();
  }
  void Fail(uint64_t step) {
    uint64_t before = failed_.load();
    while (before < step && !failed_.compare_exchange_weak(before, step)) {
    }
    Wake();
  }

 private:
  struct alignas(64) Seat {
    std::atomic<uint64_t> reached = 0;
    char* shown = nullptr;
  };

  bool Failed(uint64_t step) const { return failed_.load(std::memory_order_acquire) == step; }

  // Sleepers wait for `changes_` to change. Who changes something counts it only where someone may sleep.
  template <class Done>
  void Sleep(const Done& done) {
    ++sleepers_;
    for (uint32_t seen = changes_.load(); !done(); seen = changes_.load()) changes_.wait(seen);
    --sleepers_;
  }
  void Wake() {
    if (sleepers_.load() == 0) return;
    ++changes_;
    changes_.notify_all();
  }

  std::vector<Seat> seats_;
  std::atomic<uint64_t> failed_ = 0;  // the last step in which a rank failed
  std::atomic<uint32_t> changes_ = 0;
  std::atomic<int> sleepers_ = 0;
};

class HostCommunicator final : public Communicator {
 public:
  HostCommunicator(std::shared_ptr<Room> room, int rank) : room_(std::move(room)), rank_(rank) {}

  int rank() const override { return rank_; }
  int size() const override { return room_->size(); }
  bool share_memory() const override { return true; }
  void BeginStep() override {
    ++step_;
    meetings_ = 0;
    Meet();  // no rank is in the step before any more, so that its failure is known to all
  }
  void Fail() override { room_->Fail(step_); }

  CollectiveStats stats() const override { return counter_.stats(); }

  void AllReduce(at::Tensor& x) override {
    TORCH_CHECK(x.is_contiguous(), "a sum over ranks is of contiguous tensors");
    const CollectiveCounter::Call call(counter_, "all-reduce", static_cast<int64_t>(x.nbytes()));
    Show(x);
    // Each rank adds up a part, for all.
    const int64_t shares = (x.numel() + kAlignElements - 1) / kAlignElements;
    const int64_t first = shares * rank_ / size() * kAlignElements,
                  end = std::min(x.numel(), shares * (rank_ + 1) / size() * kAlignElements);
    std::vector<char*> shown;
    for (int rank = 0; rank < size(); ++rank) shown.push_back(room_->shown(rank));
    SumInRankOrder(x.scalar_type(), shown, shown, first, end);
    Meet();
  }

  at::Tensor GatherColumns(const at::Tensor& x, absl::Span<const int64_t> widths) override {
    const int64_t rows = x.size(0), element = static_cast<int64_t>(x.element_size()),
                  pitch = std::accumulate(widths.begin(), widths.end(), int64_t{0}) * element,
                  left = std::accumulate(widths.begin(), widths.begin() + rank_, int64_t{0}) * element,
                  bytes = widths[rank_] * element;
    const CollectiveCounter::Call call(counter_, "gather", rows * bytes);
    at::Tensor all;
    if (rank_ == 0) all = at::empty({rows, pitch / element}, x.options());
    Show(rank_ == 0 ? all : x);
    const char* from = static_cast<const char*>(x.const_data_ptr());
    char* to = room_->shown(0) + left;
    for (int64_t row = 0; row < rows; ++row) std::memcpy(to + row * pitch, from + row * bytes, bytes);
    Meet();
    return all;
  }

  void Broadcast(at::Tensor& x) override {
    const CollectiveCounter::Call call(counter_, "broadcast", static_cast<int64_t>(x.nbytes()));
    Show(x);
    if (rank_ != 0) std::memcpy(x.mutable_data_ptr(), room_->shown(0), x.nbytes());
    Meet();
  }

 private:
  // Until the next meeting, all ranks see what each shows.
  void Show(const at::Tensor& x) {
    room_->Show(rank_, static_cast<char*>(x.data_ptr()));
    Meet();
  }
  void Meet() { room_->Meet(rank_, step_, ++meetings_); }

  const std::shared_ptr<Room> room_;
  const int rank_;
  uint64_t step_ = 0, meetings_ = 0;
  CollectiveCounter counter_;
};

}  // namespace

std::vector<std::unique_ptr<Communicator>> MakeHostCommunicators(int size) {
  const auto room = std::make_shared<Room>(size);
  std::vector<std::unique_ptr<Communicator>> ranks;
  for (int rank = 0; rank < size; ++rank) ranks.push_back(std::make_unique<HostCommunicator>(room, rank));
  return ranks;
}

}  // namespace causeway
