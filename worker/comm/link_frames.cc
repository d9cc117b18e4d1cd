#include "worker/comm/link_frames.h"

#include <cstdint>
#include <cstring>

namespace deltaserve {
namespace {

constexpr size_t kMaxCauseBytes = 2000;

struct LastWordsHead {
  int32_t rank = 0;
  int32_t exit_code = 0;
  uint32_t bytes = 0;
};
constexpr size_t kHeadBytes = 1 + sizeof(LastWordsHead);

}  // namespace

std::string PackLastWords(const PeerLoss& root) {
  const std::string cause = root.cause.substr(0, kMaxCauseBytes);
  const LastWordsHead head = {
      .rank = root.rank, .exit_code = root.exit_code, .bytes = static_cast<uint32_t>(cause.size())};
  std::string packed(1, static_cast<char>(LinkFrame::kLastWords));
  packed.append(reinterpret_cast<const char*>(&head), sizeof(head));
  packed.append(cause);
  return packed;
}

bool LinkFrameReader::Read(const char* bytes, size_t count, const Handler& handler) {
  partial_.append(bytes, count);
  size_t at = 0;
  while (at < partial_.size()) {
    const auto frame = static_cast<LinkFrame>(partial_[at]);
    if (frame == LinkFrame::kLastWords) {
      LastWordsHead head;
      if (partial_.size() - at < kHeadBytes) break;
      std::memcpy(&head, partial_.data() + at + 1, sizeof(head));
      if (head.bytes > kMaxCauseBytes) return false;
      if (partial_.size() - at < kHeadBytes + head.bytes) break;
      handler.on_last_words({.rank = head.rank,
                             .host = {},
                             .cause = partial_.substr(at + kHeadBytes, head.bytes),
                             .exit_code = head.exit_code});
      at += kHeadBytes + head.bytes;
      continue;
    }
    if (frame != LinkFrame::kHeartbeat && frame != LinkFrame::kWake &&
        frame != LinkFrame::kGoodbye) {
      return false;
    }
    handler.on_frame(frame);
    ++at;
  }
  partial_.erase(0, at);
  return true;
}

}  // namespace deltaserve
