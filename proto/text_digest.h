#pragma once

// The digest by which a router knows a model's text files: SHA-256 over name, size and bytes of
// each file, in name order. A world gives it in Describe; a router checks what it fetched.

#include <map>
#include <string>

namespace deltaserve {

// Hexadecimal, 64 digits. `files`: bytes by name.
std::string TextDigest(const std::map<std::string, std::string>& files);

}  // namespace deltaserve
