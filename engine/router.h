// Which loop a request starts on, where several compute the same model.
#ifndef CAUSEWAY_ENGINE_ROUTER_H_
#define CAUSEWAY_ENGINE_ROUTER_H_

#include <cstdint>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"

namespace causeway {

// Sends a request to where the fewest tokens are left to compute: those of the requests that a loop has, and those of
// the prompt that it does not have in its cache. What a cache has is guessed from the prompts that were sent there: a
// prefix may have left it since, which costs time and changes no result.
//
// Not thread-safe; constant time for each block of a prompt.
class Router {
 public:
  // Remembers the blocks of at least the last `blocks` blocks of prompts.
  Router(int loops, int64_t blocks);

  struct Request {
    uint64_t handle = 0;
    absl::Span<const int32_t> prompt;
    absl::string_view salt;
    int64_t tokens = 0;  // that it will take, prompt and answers together
  };
  // One of the loops that are `open`, at least one of which is.
  int Choose(const Request& request, const std::vector<bool>& open) const;
  void Started(const Request& request, int loop);
  void Ended(uint64_t handle);  // does nothing for a request that was not started

 private:
  using Blocks = absl::flat_hash_map<uint64_t, uint64_t>;  // a prefix's hash -> a bit for each loop that computed it

  // Tokens of the prompt that each loop has, by whole blocks.
  std::vector<int64_t> Cached(const Request& request) const;

  struct Load {
    int loop = 0;
    int64_t tokens = 0;
  };
  const size_t blocks_max_;
  std::vector<int64_t> tokens_;  // of each loop's requests
  absl::flat_hash_map<uint64_t, Load> started_;
  Blocks newer_, older_;  // when newer_ is full it becomes older_, whose blocks are forgotten
};

}  // namespace causeway

#endif  // CAUSEWAY_ENGINE_ROUTER_H_
