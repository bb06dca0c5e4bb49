#include "engine/cache/block_pool.h"

#include <algorithm>
#include <cstring>

#include "absl/hash/hash.h"
#include "absl/strings/string_view.h"
#include "engine/base/check.h"

namespace causeway {

BlockPool::BlockPool(int64_t num_blocks, bool prefix_cache, uint64_t hash_mask)
    : prefix_cache_(prefix_cache), hash_mask_(hash_mask), blocks_(num_blocks), index_(0, Hash{this}, Equal{this}) {
  free_.reserve(num_blocks);
  for (int64_t block = num_blocks - 1; block >= 0; --block) free_.push_back(static_cast<int32_t>(block));
}

int32_t BlockPool::Allocate() {
  CAUSEWAY_CHECK(available() > 0, "all ", total(), " blocks are used");
  int32_t block;
  if (!free_.empty()) {
    block = free_.back();
    free_.pop_back();
  } else {
    block = oldest_;
    Unlink(block);
    Unregister(block);
  }
  blocks_[block].references = 1;
  blocks_[block].allocation = ++allocations_;
  return block;
}

void BlockPool::Reference(int32_t block) {
  if (blocks_[block].references++ == 0) Unlink(block);
}

void BlockPool::Release(int32_t block) {
  Block& b = blocks_[block];
  CAUSEWAY_CHECK(b.references > 0, "block ", block, " is released once too often");
  if (--b.references > 0) return;
  if (b.identity != 0) {
    Link(block);
  } else {
    free_.push_back(block);
  }
}

void BlockPool::Release(absl::Span<const int32_t> table) {
  for (auto it = table.rbegin(); it != table.rend(); ++it) Release(*it);
}

int64_t BlockPool::Find(const PrefixCursor& cursor, absl::Span<const int32_t> tokens, int64_t blocks_max,
                        std::vector<int32_t>& found) const {
  found.clear();
  if (index_.empty()) return 0;
  int64_t cached = 0;
  uint64_t parent = cursor.parent;
  const int64_t limit = std::min<int64_t>(blocks_max, tokens.size() / kBlockTokens);
  for (int64_t i = 0; i < limit; ++i) {
    const auto it = index_.find(Key{parent, cursor.salt.get(), tokens.data() + i * kBlockTokens});
    if (it == index_.end()) break;
    found.push_back(*it);
    cached += blocks_[*it].references == 0;
    parent = blocks_[*it].identity;
  }
  return cached;
}

void BlockPool::Take(absl::Span<const int32_t> found, PrefixCursor& cursor) {
  for (int32_t block : found) Reference(block);
  if (found.empty()) return;
  cursor.parent = blocks_[found.back()].identity;
  cursor.blocks += static_cast<int64_t>(found.size());
}

int32_t BlockPool::Register(PrefixCursor& cursor, absl::Span<const int32_t> tokens, int32_t block) {
  CAUSEWAY_CHECK(static_cast<int64_t>(tokens.size()) == kBlockTokens, tokens.size(), " tokens, expected ",
                 kBlockTokens);
  if (!prefix_cache_) return block;
  Block& b = blocks_[block];
  CAUSEWAY_CHECK(b.references > 0 && b.identity == 0, "block ", block, " has ", b.references, " references and is ",
                 b.identity == 0 ? "not " : "", "registered");
  const auto known = index_.find(Key{cursor.parent, cursor.salt.get(), tokens.data()});
  if (known != index_.end()) {
    Reference(*known);
    Release(block);
    block = *known;
  } else {
    b.identity = ++identities_;
    b.parent = cursor.parent;
    if (b.parent == 0) b.salt = cursor.salt;
    std::copy(tokens.begin(), tokens.end(), b.tokens.begin());
    index_.insert(block);
  }
  cursor.parent = blocks_[block].identity;
  ++cursor.blocks;
  return block;
}

void BlockPool::Forget(int32_t block) {
  Block& b = blocks_[block];
  if (b.identity == 0) return;
  if (b.references == 0) {
    Unlink(block);
    free_.push_back(block);
  }
  Unregister(block);
}

void BlockPool::Unregister(int32_t block) {
  Block& b = blocks_[block];
  index_.erase(block);
  b.identity = 0;
  b.salt.reset();
}

void BlockPool::Link(int32_t block) {
  blocks_[block].older = newest_;
  blocks_[block].newer = -1;
  (newest_ < 0 ? oldest_ : blocks_[newest_].newer) = block;
  newest_ = block;
  ++cached_;
}

void BlockPool::Unlink(int32_t block) {
  const Block& b = blocks_[block];
  (b.older < 0 ? oldest_ : blocks_[b.older].newer) = b.newer;
  (b.newer < 0 ? newest_ : blocks_[b.newer].older) = b.older;
  --cached_;
}

BlockPool::Key BlockPool::KeyOf(int32_t block) const {
  const Block& b = blocks_[block];
  return Key{b.parent, b.salt.get(), b.tokens.data()};
}

size_t BlockPool::Hash::operator()(const Key& key) const {
  const absl::string_view tokens(reinterpret_cast<const char*>(key.tokens), kBlockTokens * sizeof(int32_t));
  const size_t hash =
      key.parent != 0 ? absl::HashOf(key.parent, tokens) : absl::HashOf(absl::string_view(*key.salt), tokens);
  return hash & pool->hash_mask_;
}

bool BlockPool::Equal::operator()(const Key& a, int32_t b) const {
  const Block& block = pool->blocks_[b];
  return a.parent == block.parent && (a.parent != 0 || *a.salt == *block.salt) &&
         std::memcmp(a.tokens, block.tokens.data(), kBlockTokens * sizeof(int32_t)) == 0;
}

}  // namespace causeway
