#pragma once

// The byte-level alphabet of GPT-2: tokenizer files spell each byte as one printable character.

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace deltaserve {

// The byte that `code_point` spells, or nullopt. Printable bytes of Latin-1 spell themselves; the
// other 68 are U+0100 to U+0143, in order.
std::optional<uint8_t> ByteOfCharacter(char32_t code_point);

// The character that spells `byte`, as UTF-8.
std::string CharacterOfByte(uint8_t byte);

// The bytes that `token`, UTF-8, spells; nullopt where one of its characters spells none.
std::optional<std::string> SpelledBytes(std::string_view token);

// The bytes that `token` of a tokenizer file, UTF-8, stands for: those it spells, else its own (as
// `tokenizers`' ByteLevel decoder does).
std::string BytesOfToken(std::string_view token);

}  // namespace deltaserve
