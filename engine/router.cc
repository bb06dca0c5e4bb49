#include "engine/router.h"

#include <algorithm>
#include <functional>
#include <utility>

#include "absl/hash/hash.h"
#include "engine/base/check.h"
#include "engine/base/limits.h"

namespace causeway {
namespace {

constexpr int kLoopsMax = 64;  // bits of a mask

// Calls `visit` with the hash of each prefix of whole blocks, the shortest first, until it returns false.
template <class Visit>
void ForEachPrefix(const Router::Request& request, const Visit& visit) {
  uint64_t hash = absl::HashOf(request.salt);
  for (size_t end = kBlockTokens; end <= request.prompt.size(); end += kBlockTokens) {
    hash = absl::HashOf(hash, request.prompt.subspan(end - kBlockTokens, kBlockTokens));
    if (!visit(hash)) return;
  }
}

}  // namespace

Router::Router(int loops, int64_t blocks)
    : blocks_max_(static_cast<size_t>(std::max<int64_t>(blocks, 1))), tokens_(loops) {
  CAUSEWAY_CHECK(loops >= 1 && loops <= kLoopsMax, "loops: ", loops);
}

std::vector<int64_t> Router::Cached(const Request& request) const {
  std::vector<int64_t> cached(tokens_.size(), 0);
  uint64_t all = ~uint64_t{0};  // loops that have every block so far
  ForEachPrefix(request, [&](uint64_t hash) {
    uint64_t here = 0;
    for (const Blocks* blocks : {&newer_, &older_}) {
      if (const auto found = blocks->find(hash); found != blocks->end()) here |= found->second;
    }
    all &= here;
    for (size_t loop = 0; loop < cached.size(); ++loop) cached[loop] += (all >> loop & 1) * kBlockTokens;
    return all != 0;
  });
  return cached;
}

int Router::Choose(const Request& request, const std::vector<bool>& open) const {
  const std::vector<int64_t> cached = Cached(request);
  int best = -1;
  for (size_t loop = 0; loop < tokens_.size(); ++loop) {
    if (!open[loop]) continue;
    if (best < 0 || tokens_[loop] - cached[loop] < tokens_[best] - cached[best]) best = static_cast<int>(loop);
  }
  CAUSEWAY_CHECK(best >= 0, "no loop is open");
  return best;
}

void Router::Started(const Request& request, int loop) {
  tokens_[loop] += request.tokens;
  started_[request.handle] = {loop, request.tokens};
  ForEachPrefix(request, [&](uint64_t hash) {
    if (newer_.size() >= blocks_max_) {
      older_ = std::exchange(newer_, {});
    }
    newer_[hash] |= uint64_t{1} << loop;
    return true;
  });
}

void Router::Ended(uint64_t handle) {
  const auto found = started_.find(handle);
  if (found == started_.end()) return;
  tokens_[found->second.loop] -= found->second.tokens;
  started_.erase(found);
}

}  // namespace causeway
