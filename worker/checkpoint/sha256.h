#pragma once

// SHA-256 of bytes fed in pieces.

#include <cstddef>
#include <memory>
#include <string>

namespace deltaserve {

// One thread. A value that cannot be copied.
class Sha256 {
 public:
  Sha256();
  ~Sha256();
  Sha256(const Sha256&) = delete;
  Sha256& operator=(const Sha256&) = delete;

  void Update(const void* data, size_t bytes);
  void Update(const std::string& text) { Update(text.data(), text.size()); }

  // 64 lower-case hexadecimal digits; call once.
  std::string Finish();

 private:
  struct Context;
  std::unique_ptr<Context> context_;
};

}  // namespace deltaserve
