#pragma once

// The fixture tokenizer of tests/data/tokenizer, as the tests of this folder use it.

#include <fstream>
#include <memory>
#include <sstream>
#include <string>
#include <vector>

#include "kernels/base/check.h"
#include "nlohmann/json.hpp"
#include "router/text/tokenizer.h"

namespace deltaserve {

inline std::string FixtureBytes(const std::string& name) {
  std::ifstream stream(std::string(DELTASERVE_SOURCE_DIR) + "/tests/data/tokenizer/" + name,
                       std::ios::binary);
  std::ostringstream bytes;
  bytes << stream.rdbuf();
  DS_CHECK(stream.good()) << name;
  return std::move(bytes).str();
}

// One JSON value a line.
inline std::vector<nlohmann::json> FixtureLines(const std::string& name) {
  std::istringstream stream(FixtureBytes(name));
  std::vector<nlohmann::json> lines;
  for (std::string line; std::getline(stream, line);) lines.push_back(nlohmann::json::parse(line));
  return lines;
}

inline std::unique_ptr<Tokenizer> FixtureTokenizer() {
  auto tokenizer =
      Tokenizer::Create(FixtureBytes("tokenizer.json"), FixtureBytes("tokenizer_config.json"));
  DS_CHECK_OK(tokenizer.status());
  return *std::move(tokenizer);
}

}  // namespace deltaserve
