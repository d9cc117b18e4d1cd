#pragma once

// The tokenizer of tests/data/tokenizer for fuzz targets, made once.

#include <fstream>
#include <iterator>
#include <memory>
#include <string>

#include "kernels/base/check.h"
#include "router/text/tokenizer.h"

namespace deltaserve {

inline const Tokenizer& FuzzTokenizer() {
  static const Tokenizer& tokenizer = *[] {
    const auto read = [](const std::string& name) {
      std::ifstream stream(std::string(DELTASERVE_SOURCE_DIR) + "/tests/data/tokenizer/" + name,
                           std::ios::binary);
      DS_CHECK(stream.good()) << name;
      return std::string(std::istreambuf_iterator<char>(stream), {});
    };
    auto made = Tokenizer::Create(read("tokenizer.json"), read("tokenizer_config.json"));
    DS_CHECK_OK(made.status());
    return made->release();
  }();
  return tokenizer;
}

}  // namespace deltaserve
