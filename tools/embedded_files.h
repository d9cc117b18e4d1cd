#pragma once

// Files of the repository whose bytes are part of a binary, put there when it is built
// (tools/cmake/embed_files.cmake).

#include <string>
#include <vector>

namespace deltaserve {

struct EmbeddedFile {
  std::string name;  // without folder
  std::string bytes;
};

// tests/data/tokenizer: a tokenizer of 1,000 tokens for models with random weights.
std::vector<EmbeddedFile> FixtureTokenizer();

}  // namespace deltaserve
