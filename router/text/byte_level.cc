#include "router/text/byte_level.h"

#include "kernels/base/utf8.h"

namespace deltaserve {
namespace {

constexpr char32_t kFirstMoved = 0x100;

constexpr bool SpellsItself(uint32_t byte) {
  return (byte >= 0x21 && byte <= 0x7E) || (byte >= 0xA1 && byte <= 0xAC) || byte >= 0xAE;
}

}  // namespace

std::optional<uint8_t> ByteOfCharacter(char32_t code_point) {
  if (code_point < kFirstMoved) {
    if (!SpellsItself(code_point)) return std::nullopt;
    return static_cast<uint8_t>(code_point);
  }
  char32_t moved = kFirstMoved;
  for (uint32_t byte = 0; byte < 0x100; ++byte) {
    if (SpellsItself(byte)) continue;
    if (moved++ == code_point) return static_cast<uint8_t>(byte);
  }
  return std::nullopt;
}

std::string CharacterOfByte(uint8_t byte) {
  char32_t spelled = byte;
  if (!SpellsItself(byte)) {
    spelled = kFirstMoved;
    for (uint32_t other = 0; other < byte; ++other) spelled += SpellsItself(other) ? 0u : 1u;
  }
  std::string text;
  AppendUtf8(spelled, &text);
  return text;
}

std::optional<std::string> SpelledBytes(std::string_view token) {
  std::string bytes;
  for (const char32_t code_point : ToCodePoints(token)) {
    const std::optional<uint8_t> byte = ByteOfCharacter(code_point);
    if (!byte.has_value()) return std::nullopt;
    bytes.push_back(static_cast<char>(*byte));
  }
  return bytes;
}

std::string BytesOfToken(std::string_view token) {
  return SpelledBytes(token).value_or(std::string(token));
}

}  // namespace deltaserve
