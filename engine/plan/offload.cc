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

  OffloadPiece Piece(OffloadPiece::Kind kind, int unit, const std::vector<const LinearSpec*>& linears) {
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
    return {.kind = OffloadPiece::Kind::kTable,
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

}  // namespace

std::vector<OffloadPiece> OffloadPieces(const ModelSpec& spec, bool head_shares) {
  using Kind = OffloadPiece::Kind;
  Collector collector(spec);
  std::vector<OffloadPiece> pieces;
  if (!head_shares) pieces.push_back(collector.Table(spec.embedding_weight));
  if (!spec.position_weight.empty()) pieces.push_back(collector.Table(spec.position_weight));
  const Units units = UnitsOf(spec);
  for (int i = 0; i < units.layers; ++i) {
    const LayerSpec& layer = spec.layers[i];
    const int unit = Units::OfLayer(i);
    pieces.push_back(collector.Piece(Kind::kAttention, unit, {&layer.attention.qkv, &layer.attention.output}));
    if (!layer.moe.has_value()) {
      pieces.push_back(collector.Piece(Kind::kMlp, unit, {&layer.mlp.up, &layer.mlp.down}));
      continue;
    }
    for (const MlpSpec& expert : layer.moe->experts)
      pieces.push_back(collector.Piece(Kind::kExpert, unit, {&expert.up, &expert.down}));
  }
  pieces.push_back(collector.Piece(Kind::kHead, units.head(), {&spec.head}));
  // A tied head elsewhere has a copy of the weight, which goes by the head's name.
  if (spec.tied_head && !head_shares) pieces.back().module = spec.head_path;
  return pieces;
}

const std::vector<OffloadPiece>& PieceTable::Of(bool head_shares) const {
  std::vector<OffloadPiece>& pieces = pieces_[head_shares ? 1 : 0];
  if (pieces.empty()) pieces = OffloadPieces(spec_, head_shares);
  return pieces;
}

int64_t StagingBytes(const PieceList& pieces, const std::vector<bool>& gone) {
  std::vector<int64_t> in_order;
  int64_t bytes = 0;
  for (size_t i = 0; i < pieces.size(); ++i) {
    if (!gone[i]) continue;
    if (pieces[i]->kind == OffloadPiece::Kind::kExpert) {
      int64_t expert = 0;
      for (const int64_t linear : pieces[i]->streamed) expert += linear;
      bytes = std::max(bytes, 2 * expert);
    } else {
      in_order.insert(in_order.end(), pieces[i]->streamed.begin(), pieces[i]->streamed.end());
    }
  }
  if (in_order.size() == 1) bytes = std::max(bytes, in_order.front());
  // The last one of a step is followed by the first one of the next.
  for (size_t i = 0; in_order.size() > 1 && i < in_order.size(); ++i) {
    bytes = std::max(bytes, in_order[i] + in_order[(i + 1) % in_order.size()]);
  }
  return bytes == 0 ? 0 : bytes + kPage;
}

int64_t FreedBytes(const PieceList& pieces, const std::vector<bool>& gone) {
  int64_t bytes = -StagingBytes(pieces, gone);
  for (size_t i = 0; i < pieces.size(); ++i) bytes += gone[i] ? pieces[i]->bytes : 0;
  return bytes;
}

bool Evict(const PieceList& pieces, int64_t wanted, std::vector<bool>& gone) {
  if (FreedBytes(pieces, gone) >= wanted) return true;
  using Kind = OffloadPiece::Kind;
  for (const Kind kind : {Kind::kTable, Kind::kExpert, Kind::kMlp, Kind::kAttention, Kind::kHead}) {
    std::vector<size_t> candidates;
    for (size_t i = 0; i < pieces.size(); ++i) {
      if (pieces[i]->kind == kind && !gone[i]) candidates.push_back(i);
    }
    const auto without = [&](size_t count) {
      std::vector<bool> tried = gone;
      for (size_t n = 0; n < candidates.size(); ++n) {
        if ((n + 1) * count / candidates.size() > n * count / candidates.size()) tried[candidates[n]] = true;
      }
      return tried;
    };
    if (std::vector<bool> all = without(candidates.size()); FreedBytes(pieces, all) < wanted) {
      gone = std::move(all);
      continue;
    }
    size_t too_few = 0, enough = candidates.size();
    while (enough - too_few > 1) {
      const size_t middle = too_few + (enough - too_few) / 2;
      (FreedBytes(pieces, without(middle)) >= wanted ? enough : too_few) = middle;
    }
    gone = without(enough);
    return true;
  }
  return false;
}

Tier TierFiller::Place(const OffloadPiece& piece, std::optional<Tier> given) {
  // As it lies there: in whole pages for each linear.
  const int64_t bytes =
      std::max(piece.bytes, std::accumulate(piece.streamed.begin(), piece.streamed.end(), int64_t{0}));
  const Tier tier = given.value_or(bytes <= cpu_left_ ? Tier::kCpu : Tier::kDisk);
  if (tier == Tier::kCpu) cpu_left_ -= bytes;
  return tier;
}

}  // namespace causeway
