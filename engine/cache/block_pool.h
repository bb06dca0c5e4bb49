// Knows which blocks of the KV cache are in use, and which prefixes of tokens they hold. It knows ids only: the tensors
// live with the devices, and block i holds the same sixteen tokens on every one of them. It knows no sequences.
#ifndef CAUSEWAY_ENGINE_CACHE_BLOCK_POOL_H_
#define CAUSEWAY_ENGINE_CACHE_BLOCK_POOL_H_

#include <array>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/container/flat_hash_set.h"
#include "absl/types/span.h"
#include "engine/base/limits.h"

namespace causeway {

// A place in the tree of known prefixes: the end of the chain of full blocks that a sequence has registered or found.
struct PrefixCursor {
  std::shared_ptr<const std::string> salt;  // shared with the blocks that begin a prefix of this salt; not null
  uint64_t parent = 0;                      // identity of the last block of the chain; 0 at the root
  int64_t blocks = 0;                       // length of the chain
};

// Not thread-safe. Every operation takes constant time (per block handed in), and only salts and the first growth of
// the index allocate memory.
//
// A block is free, used (referenced), or cached. A cached block is registered as a known prefix and used by no one.
// Allocate evicts one when no block is free, the least recently used first. Whoever holds a block holds the blocks
// before it in its chain, and Release(table) goes from the tail. So a chain is evicted from its tail, and never has a
// hole.
//
// The index is exact. It identifies a registered block by the identity of the block before it (never used twice), or by
// the salt at the root, and by its own sixteen tokens. All of them are compared: equal hashes alone are no hit.
//
// A block may be registered as soon as the step that fills it has been issued: every stage runs steps in order, so the
// block is filled before any step planned later reads it. For the same reason a released block can be handed out at
// once, although steps in flight may still write to it: what its new owner writes comes after.
class BlockPool {
 public:
  // `hash_mask` is for tests: 0 makes all hashes collide.
  BlockPool(int64_t num_blocks, bool prefix_cache, uint64_t hash_mask = ~uint64_t{0});
  BlockPool(const BlockPool&) = delete;
  BlockPool& operator=(const BlockPool&) = delete;

  int64_t total() const { return static_cast<int64_t>(blocks_.size()); }
  int64_t cached() const { return cached_; }
  int64_t available() const { return static_cast<int64_t>(free_.size()) + cached_; }  // what Allocate can still give
  int64_t used() const { return total() - available(); }

  // Returns a block of unknown content, referenced once. CHECKs available() > 0.
  int32_t Allocate();
  void Release(int32_t block);
  void Release(absl::Span<const int32_t> table);  // all of a sequence's blocks
  int32_t references(int32_t block) const { return blocks_[block].references; }
  // A number that differs each time Allocate hands the block out. It tells whether a block still is what it was.
  uint64_t allocation(int32_t block) const { return blocks_[block].allocation; }

  // Looks up whole blocks of `tokens` from `cursor` on. It replaces `found` by those known, at most `blocks_max`, and
  // takes no reference. Returns how many of them are cached: taking them makes that many fewer available.
  int64_t Find(const PrefixCursor& cursor, absl::Span<const int32_t> tokens, int64_t blocks_max,
               std::vector<int32_t>& found) const;
  // References what Find found, and moves the cursor to its end. No other call may come between the two.
  void Take(absl::Span<const int32_t> found, PrefixCursor& cursor);

  // Registers `block` at the cursor, and moves the cursor past it. The caller holds the block, and `tokens` are its
  // kBlockTokens tokens. Where the same prefix is known already, the known block is referenced and returned instead,
  // and `block` is released: so equal prefixes that are computed at the same time end up shared.
  int32_t Register(PrefixCursor& cursor, absl::Span<const int32_t> tokens, int32_t block);
  // To be called when a block's content cannot be trusted: the block and those registered after it in its chain are no
  // longer found.
  void Forget(int32_t block);

 private:
  struct Block {
    int32_t references = 0;
    int32_t older = -1, newer = -1;  // neighbours in the list of cached blocks
    uint64_t allocation = 0;
    uint64_t identity = 0;  // 0: not registered. The next three are set for registered blocks only.
    uint64_t parent = 0;
    std::shared_ptr<const std::string> salt;  // only where parent is 0
    std::array<int32_t, kBlockTokens> tokens;
  };
  struct Key {
    uint64_t parent;
    const std::string* salt;
    const int32_t* tokens;
  };
  struct Hash {
    using is_transparent = void;
    const BlockPool* pool;
    size_t operator()(int32_t block) const { return (*this)(pool->KeyOf(block)); }
    size_t operator()(const Key& key) const;
  };
  struct Equal {
    using is_transparent = void;
    const BlockPool* pool;
    bool operator()(int32_t a, int32_t b) const { return a == b; }
    bool operator()(int32_t a, const Key& b) const { return (*this)(b, a); }
    bool operator()(const Key& a, int32_t b) const;
  };
  Key KeyOf(int32_t block) const;
  void Reference(int32_t block);
  void Unregister(int32_t block);
  void Link(int32_t block);  // puts it into the list of cached blocks, as the newest
  void Unlink(int32_t block);

  const bool prefix_cache_;
  const uint64_t hash_mask_;
  std::vector<Block> blocks_;
  std::vector<int32_t> free_;
  int32_t oldest_ = -1, newest_ = -1;
  int64_t cached_ = 0;
  uint64_t allocations_ = 0, identities_ = 0;
  absl::flat_hash_set<int32_t, Hash, Equal> index_;  // registered blocks, by KeyOf
};

}  // namespace causeway

#endif  // CAUSEWAY_ENGINE_CACHE_BLOCK_POOL_H_
