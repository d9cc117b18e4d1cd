#include "router/text/bpe.h"

#include <algorithm>
#include <utility>

#include "absl/strings/string_view.h"
#include "kernels/base/check.h"

namespace deltaserve {
namespace {

uint64_t PairKey(int32_t left, int32_t right) {
  return static_cast<uint64_t>(static_cast<uint32_t>(left)) << 32 | static_cast<uint32_t>(right);
}

// Order of a max-heap whose top is the lowest rank, and of equal ranks the leftmost.
bool GoesLater(const BpeModel::Scratch::Candidate& a, const BpeModel::Scratch::Candidate& b) {
  return a.rank != b.rank ? a.rank > b.rank : a.position > b.position;
}

}  // namespace

BpeModel::BpeModel(const std::array<int32_t, 256>& byte_ids,
                   const std::vector<MergeRule>& merges,
                   absl::flat_hash_map<std::string, int32_t> whole_pieces)
    : byte_ids_(byte_ids), whole_pieces_(std::move(whole_pieces)) {
  merges_.reserve(merges.size());
  uint32_t rank = 0;
  for (const MergeRule& rule : merges) {
    merges_.insert_or_assign(PairKey(rule.left, rule.right), Merge{rank++, rule.merged});
  }
}

const BpeModel::Merge* BpeModel::Find(int32_t left, int32_t right) const {
  const auto found = merges_.find(PairKey(left, right));
  return found == merges_.end() ? nullptr : &found->second;
}

void BpeModel::PushPair(int32_t position, Scratch* scratch) const {
  const auto& symbols = scratch->symbols;
  const auto& left = symbols[static_cast<size_t>(position)];
  const Merge* merge = Find(left.id, symbols[static_cast<size_t>(left.next)].id);
  if (merge != nullptr) scratch->heap.push_back({merge->rank, position, merge->merged});
}

void BpeModel::Encode(std::string_view piece, Scratch* scratch, std::vector<int32_t>* ids) const {
  DS_CHECK_LE(piece.size(), static_cast<size_t>(INT32_MAX));
  if (!whole_pieces_.empty()) {
    const auto found = whole_pieces_.find(absl::string_view(piece.data(), piece.size()));
    if (found != whole_pieces_.end()) {
      ids->push_back(found->second);
      return;
    }
  }
  auto& symbols = scratch->symbols;
  symbols.clear();
  const auto size = static_cast<int32_t>(piece.size());
  for (int32_t i = 0; i < size; ++i) {
    const auto byte = static_cast<uint8_t>(piece[static_cast<size_t>(i)]);
    symbols.push_back({byte_ids_[byte], i - 1, i + 1 < size ? i + 1 : -1, true});
  }
  if (size > 1) ApplyMerges(scratch);
  for (const auto& symbol : symbols) {
    if (symbol.is_alive) ids->push_back(symbol.id);
  }
}

void BpeModel::ApplyMerges(Scratch* scratch) const {
  auto& symbols = scratch->symbols;
  auto& heap = scratch->heap;
  const auto at = [&symbols](int32_t index) -> Scratch::Symbol& {
    return symbols[static_cast<size_t>(index)];
  };
  heap.clear();
  for (int32_t i = 0; at(i).next != -1; ++i) PushPair(i, scratch);
  std::make_heap(heap.begin(), heap.end(), GoesLater);
  const auto push = [&](int32_t position) {
    const size_t before = heap.size();
    PushPair(position, scratch);
    if (heap.size() != before) std::push_heap(heap.begin(), heap.end(), GoesLater);
  };
  while (!heap.empty()) {
    std::pop_heap(heap.begin(), heap.end(), GoesLater);
    const Scratch::Candidate top = heap.back();
    heap.pop_back();
    Scratch::Symbol& left = at(top.position);
    if (!left.is_alive || left.next == -1) continue;
    Scratch::Symbol& right = at(left.next);
    // Old candidates stay in the heap. One is void unless its pair still gives the same token; that
    // a different pair may give it too is `tokenizers`' own rule.
    const Merge* merge = Find(left.id, right.id);
    if (merge == nullptr || merge->merged != top.merged) continue;
    left.id = top.merged;
    left.next = right.next;
    right.is_alive = false;
    if (left.next != -1) {
      at(left.next).previous = top.position;
      push(top.position);
    }
    if (left.previous != -1) push(left.previous);
  }
}

}  // namespace deltaserve
