#pragma once

// The bytes on a control link: what each side says, and a parser of it.

#include <cstddef>
#include <functional>
#include <string>

#include "worker/comm/last_words.h"

namespace deltaserve {

// One byte each, but for last words, which carry a PeerLoss without its host.
enum class LinkFrame : char {
  kHeartbeat = 'H',
  kWake = 'W',
  kGoodbye = 'B',    // the end of the link is no death
  kLastWords = 'X',  // i32 rank, i32 exit code, u32 bytes, cause
};

// kLastWords with its contents; long causes are cut.
std::string PackLastWords(const PeerLoss& root);

// Takes the bytes of one peer as they come, in pieces of any size. One thread.
class LinkFrameReader {
 public:
  struct Handler {
    std::function<void(LinkFrame)> on_frame;                  // of one byte
    std::function<void(const PeerLoss& root)> on_last_words;  // host is empty
  };

  // False where a byte is no frame's: the peer is not what it should be.
  bool Read(const char* bytes, size_t count, const Handler& handler);

 private:
  std::string partial_;  // last words that have not all come
};

}  // namespace deltaserve
