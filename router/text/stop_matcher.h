#pragma once

// Stop strings found in a stream of text, whatever its pieces. Pure; bytes, so a piece may end
// inside a character.

#include <cstddef>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace deltaserve {

inline constexpr size_t kMaxStopStrings = 16;
inline constexpr size_t kMaxStopStringBytes = 1024;

// Why stop strings are refused, as OutOfRange() of proto/params_check.h takes it.
struct StopStringsFault {
  std::string field;  // "stop_strings" or "stop_strings[3]"
  std::string range;
  std::string value;
  std::string remedy;
};

// The first fault: more than kMaxStopStrings, an empty one, one longer than kMaxStopStringBytes.
std::optional<StopStringsFault> CheckStopStrings(std::span<const std::string> stop_strings);

// Holds back what may yet become a stop string and ends the text at the first that is whole. The
// stop string that ends earliest wins, as in vLLM where each token brings one character; of those
// that end together the longest, so that none of it reaches the client; of equal ones the first.
// All text returned, joined, does not depend on the pieces.
// Time: the number of stop strings, amortised, for each byte. Threads: one at a time. Owner: the
// stream.
class StopMatcher {
 public:
  // `stop_strings` must have passed CheckStopStrings; none is legal. include_stop: the stop string
  // is part of the text.
  StopMatcher(std::span<const std::string> stop_strings, bool include_stop);

  struct Result {
    std::string text;               // released by this call
    std::optional<size_t> matched;  // index of the stop string that ended the text
  };

  // The next piece. Bytes after a match are dropped, and so is every later piece. Where `active` is
  // false (inside reasoning) nothing is matched or held, and no match reaches across such a piece.
  Result Add(std::string_view piece, bool active = true);

  // The end of the stream: what was held.
  std::string Finish();

  // The index of the stop string that was matched.
  std::optional<size_t> matched() const { return matched_; }

 private:
  // One stop string and how many of its bytes the text ends with (Knuth, Morris, Pratt).
  struct Pattern {
    std::string text;
    std::vector<size_t> border;  // of each prefix: its longest proper prefix that is its suffix too
    size_t length = 0;
  };

  static void Advance(char byte, Pattern* pattern);

  std::vector<Pattern> patterns_;
  bool include_stop_;
  std::string held_;
  std::optional<size_t> matched_;
};

}  // namespace deltaserve
