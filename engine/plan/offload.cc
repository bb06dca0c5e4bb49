#include "engine/plan/offload.h"

#include <algorithm>
#include <numeric>

#include "engine/architecture/module.h"
#include "engine/architecture/units.h"

namespace causeway {
namespace {

// Of addresses and sizes of direct reads; what a linear's tensors are apart at most, in all.
constexpr int64_t kPage = 4096, kGaps = 320;

class Collector {
 public:
  explicit Collector(const ModelSpec& spec) : modules_(const_cast<Module&>(spec.modules)) {}  // only read

  OffloadPiece Piece(PieceKind kind, int unit, const std::vector<const LinearSpec*>& linears) {
    OffloadPiece piece{.kind = kind, .unit = unit};
    bool first = true;
    for (const LinearSpec* linear : linears) {
      int64_t bytes = 0;
      for (const LinearSpec::Part& part : linear->parts) {
        const std::string path = ModulePath(part.weight);
        bytes += ModuleBytes(path);
        piece.module = first ? path : Around(piece.module, path);
        first = false;
      }
      piece.bytes += bytes;
      piece.streamed.push_back((bytes + kGaps + kPage - 1) / kPage * kPage);
    }
    return piece;
  }

  OffloadPiece Table(const std::string& weight) {
    const std::string path = ModulePath(weight);
    return {.kind = PieceKind::kTable,
            .unit = Units::kEmbeddings,
            .module = path,
            .bytes = ModuleBytes(path),
            .streamed = {}};
  }

 private:
  int64_t ModuleBytes(const std::string& path) {
    int64_t bytes = 0;
    for (const Parameter& parameter : modules_.At(path).parameters) bytes += parameter.bytes();
    return bytes;
  }

  // The innermost module around both.
  static std::string Around(const std::string& a, const std::string& b) {
    size_t end = 0, i = 0;
    for (; i < a.size() && i < b.size() && a[i] == b[i]; ++i) {
      if (a[i] == '.') end = i;
    }
    if ((i == a.size() || a[i] == '.') && (i == b.size() || b[i] == '.')) end = i;
    return a.substr(0, end);
  }

  ModuleFinder modules_;
};

bool Alike(const OffloadPiece& a, const OffloadPiece& b) {
  return a.kind == b.kind && a.unit == b.unit && a.bytes == b.bytes && a.streamed == b.streamed;
}

// What it takes of the tier that it lies in: whole pages for each of its linears.
int64_t TakenBytes(const OffloadPiece& piece) {
  return std::max(piece.bytes, std::accumulate(piece.streamed.begin(), piece.streamed.end(), int64_t{0}));
}

int64_t CountOf(HeldPieces held, PieceKind kind) {
  int64_t count = 0;
  for (const PieceRun& run : held) count += run.piece->kind == kind ? run.count : 0;
  return count;
}

// `count` of `all` pieces spread evenly over them: how many of the `next` that come after `before` others.
int64_t Spread(int64_t before, int64_t next, int64_t count, int64_t all) {
  return (before + next) * count / all - before * count / all;
}

// Calls for every run with how many of it leave when all pieces of the kinds before `kind` do and `count` of its `all`,
// and with how many of its kind come before it.
template <class Visit>
void ForEachRun(HeldPieces held, PieceKind kind, int64_t count, int64_t all, const Visit& visit) {
  int64_t before = 0;
  for (const PieceRun& run : held) {
    if (run.piece->kind != kind) {
      visit(run, run.piece->kind < kind ? run.count : 0, 0);
      continue;
    }
    visit(run, Spread(before, run.count, count, all), before);
    before += run.count;
  }
}

// The buffer for pieces that are gone, added in the order of use.
class Staging {
 public:
  void Add(const OffloadPiece& piece, int64_t count) {
    if (count == 0) return;
    if (piece.kind == PieceKind::kExpert) {
      bytes_ = std::max(bytes_, 2 * std::accumulate(piece.streamed.begin(), piece.streamed.end(), int64_t{0}));
      return;
    }
    for (int64_t n = 0; n < std::min<int64_t>(count, 2); ++n) {  // a third of those alike has the second's neighbours
      for (const int64_t linear : piece.streamed) {
        linears_++ == 0 ? void(first_ = linear) : void(bytes_ = std::max(bytes_, last_ + linear));
        last_ = linear;
      }
    }
  }

  int64_t bytes() const {
    // The last linear of a step is followed by the first one of the next.
    const int64_t bytes = std::max(bytes_, linears_ > 1 ? last_ + first_ : last_);
    return bytes == 0 ? 0 : bytes + kPage;
  }

 private:
  int64_t bytes_ = 0;
  int64_t linears_ = 0, first_ = 0, last_ = 0;  // how many so far; what the first and the last of them take
};

Eviction Leaving(HeldPieces held, PieceKind kind, int64_t count, int64_t all) {
  int64_t bytes = 0;
  Staging staging;
  ForEachRun(held, kind, count, all, [&](const PieceRun& run, int64_t gone, int64_t before) {
    bytes += gone * run.piece->bytes;
    staging.Add(*run.piece, gone);
  });
  return {.kind = kind, .count = count, .freed = bytes - staging.bytes()};
}

}  // namespace

std::vector<OffloadPiece> OffloadPieces(const ModelSpec& spec, bool head_shares) {
  Collector collector(spec);
  std::vector<OffloadPiece> pieces;
  if (!head_shares) pieces.push_back(collector.Table(spec.embedding_weight));
  if (!spec.position_weight.empty()) pieces.push_back(collector.Table(spec.position_weight));
  const Units units = UnitsOf(spec);
  for (int i = 0; i < units.layers; ++i) {
    const LayerSpec& layer = spec.layers[i];
    const int unit = Units::OfLayer(i);
    pieces.push_back(collector.Piece(PieceKind::kAttention, unit, {&layer.attention.qkv, &layer.attention.output}));
    if (!layer.moe.has_value()) {
      pieces.push_back(collector.Piece(PieceKind::kMlp, unit, {&layer.mlp.up, &layer.mlp.down}));
      continue;
    }
    for (const MlpSpec& expert : layer.moe->experts)
      pieces.push_back(collector.Piece(PieceKind::kExpert, unit, {&expert.up, &expert.down}));
  }
  pieces.push_back(collector.Piece(PieceKind::kHead, units.head(), {&spec.head}));
  // A tied head elsewhere has a copy of the weight, which goes by the head's name.
  if (spec.tied_head && !head_shares) pieces.back().module = spec.head_path;
  return pieces;
}

const PieceTable::Pieces& PieceTable::Of(bool head_shares) const {
  Pieces& pieces = pieces_[head_shares ? 1 : 0];
  if (!pieces.all.empty()) return pieces;
  pieces.all = OffloadPieces(spec_, head_shares);
  pieces.runs = RunsOf(pieces.all);
  return pieces;
}

std::vector<PieceRun> RunsOf(const std::vector<OffloadPiece>& pieces) {
  std::vector<PieceRun> runs;
  for (const OffloadPiece& piece : pieces) {
    if (!runs.empty() && Alike(*runs.back().piece, piece)) {
      ++runs.back().count;
    } else {
      runs.push_back({&piece, 1});
    }
  }
  return runs;
}

HeldPieces PiecesWithin(HeldPieces all, UnitRange units) {
  const auto first =
      std::partition_point(all.begin(), all.end(), [&](const PieceRun& run) { return run.piece->unit < units.first; });
  const auto end =
      std::partition_point(first, all.end(), [&](const PieceRun& run) { return run.piece->unit <= units.last; });
  return all.subspan(first - all.begin(), end - first);
}

int64_t StagingBytes(const PieceList& gone) {
  Staging staging;
  for (const OffloadPiece* piece : gone) staging.Add(*piece, 1);
  return staging.bytes();
}

Eviction Evict(HeldPieces held, int64_t wanted) {
  Eviction eviction;
  for (const PieceKind kind : kPieceKinds) {
    if (eviction.freed >= wanted) break;
    const int64_t all = CountOf(held, kind);
    if (all == 0) continue;
    const int64_t freed_before = eviction.freed;
    eviction = Leaving(held, kind, all, all);
    if (eviction.freed < wanted) continue;
    // Pieces of a kind are mostly alike, so that a guess and its neighbour mostly settle it.
    int64_t too_few = 0, spare = (eviction.freed - wanted) * all / (eviction.freed - freed_before);
    int64_t next = all - spare;
    for (int tries = 0; eviction.count - too_few > 1; ++tries) {
      if (tries > 2) next = too_few + (eviction.count - too_few) / 2;
      next = std::clamp(next, too_few + 1, eviction.count - 1);
      const Eviction fewer = Leaving(held, kind, next, all);
      if (fewer.freed >= wanted) {
        eviction = fewer;
        next -= 1;
      } else {
        too_few = next;
        next += 1;
      }
    }
  }
  return eviction;
}

PieceList Gone(HeldPieces held, const Eviction& eviction) {
  PieceList gone;
  const int64_t all = CountOf(held, eviction.kind);
  ForEachRun(held, eviction.kind, eviction.count, all, [&](const PieceRun& run, int64_t count, int64_t before) {
    for (int64_t i = 0; i < run.count; ++i) {
      if (count == run.count || (count > 0 && Spread(before + i, 1, eviction.count, all) > 0))
        gone.push_back(run.piece + i);
    }
  });
  return gone;
}

Tier TierFiller::Place(const OffloadPiece& piece, std::optional<Tier> given) {
  const Tier tier = given.value_or(TakenBytes(piece) <= cpu_left_ ? Tier::kCpu : Tier::kDisk);
  if (tier == Tier::kCpu) cpu_left_ -= TakenBytes(piece);
  return tier;
}

int64_t TierFiller::PlaceAlike(const OffloadPiece& piece, int64_t count) {
  const int64_t placed = std::min(count, std::max<int64_t>(0, cpu_left_) / std::max<int64_t>(1, TakenBytes(piece)));
  cpu_left_ -= placed * TakenBytes(piece);
  return placed;
}

Offloaded SumOf(HeldPieces held, const Eviction& eviction, TierFiller& tiers) {
  Offloaded sum{.eviction = eviction};
  Staging staging;
  const int64_t all = CountOf(held, eviction.kind);
  ForEachRun(held, eviction.kind, eviction.count, all, [&](const PieceRun& run, int64_t count, int64_t before) {
    const OffloadPiece& piece = *run.piece;
    sum.bytes += count * piece.bytes;
    if (piece.kind == PieceKind::kExpert) sum.experts += count * piece.bytes;
    if (piece.kind > PieceKind::kExpert) sum.linears += count * piece.bytes;
    sum.on_disk += (count - tiers.PlaceAlike(piece, count)) * piece.bytes;
    staging.Add(piece, count);
  });
  sum.staging = staging.bytes();
  return sum;
}

int64_t MostFreed(HeldPieces held, int64_t cpu_bytes) {
  int64_t most = 0;
  for (const PieceKind kind : kPieceKinds) {
    const int64_t all = CountOf(held, kind);
    if (all == 0) continue;
    const auto taken = [&](int64_t count) {
      int64_t bytes = 0;
      ForEachRun(held, kind, count, all, [&bytes](const PieceRun& run, int64_t gone, int64_t before) {
        bytes += gone * TakenBytes(*run.piece);
      });
      return bytes;
    };
    int64_t room = taken(all) <= cpu_bytes ? all : 0;  // pieces
    for (int64_t too_many = all; room < all && too_many - room > 1;) {
      const int64_t middle = room + (too_many - room) / 2;
      (taken(middle) <= cpu_bytes ? room : too_many) = middle;
    }
    most = std::max(most, Leaving(held, kind, room, all).freed);
    if (room < all) break;
  }
  return most;
}

}  // namespace causeway
