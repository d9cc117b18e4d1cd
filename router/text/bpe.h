#pragma once

// Byte-level byte-pair encoding of one piece of text: merges by rank, as `tokenizers` does them.

#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "absl/container/flat_hash_map.h"

namespace deltaserve {

// "left, right -> merged" as ids; the index in the list of merges is the rank, and the lowest rank
// goes first.
struct MergeRule {
  int32_t left;
  int32_t right;
  int32_t merged;
};

// The merges of a vocabulary. Threads: immutable after construction. Owner: Tokenizer.
class BpeModel {
 public:
  // Memory of a call to Encode, kept between calls so that pieces cost no allocation.
  struct Scratch {
    struct Symbol {
      int32_t id;
      int32_t previous;  // index, -1 at the start
      int32_t next;      // index, -1 at the end
      bool is_alive;
    };
    struct Candidate {
      uint32_t rank;
      int32_t position;
      int32_t merged;
    };
    std::vector<Symbol> symbols;
    std::vector<Candidate> heap;
  };

  // `byte_ids`: the id of every single byte. `merges`: in order of rank; of two rules for one pair
  // the later counts. `whole_pieces`: ids by bytes, for files with ignore_merges (a piece that is a
  // token is that token, unmerged); empty otherwise.
  BpeModel(const std::array<int32_t, 256>& byte_ids,
           const std::vector<MergeRule>& merges,
           absl::flat_hash_map<std::string, int32_t> whole_pieces);

  // Appends the ids of `piece`, at most 2^31 - 1 bytes. Time n log n in its bytes.
  void Encode(std::string_view piece, Scratch* scratch, std::vector<int32_t>* ids) const;

 private:
  struct Merge {
    uint32_t rank;
    int32_t merged;
  };
  const Merge* Find(int32_t left, int32_t right) const;
  void PushPair(int32_t position, Scratch* scratch) const;
  void ApplyMerges(Scratch* scratch) const;

  std::array<int32_t, 256> byte_ids_;
  absl::flat_hash_map<uint64_t, Merge> merges_;  // key: left << 32 | right
  absl::flat_hash_map<std::string, int32_t> whole_pieces_;
};

}  // namespace deltaserve
