#include "worker/checkpoint/sha256.h"

#include <openssl/evp.h>

#include <array>

#include "kernels/base/check.h"

namespace deltaserve {

struct Sha256::Context {
  EVP_MD_CTX* digest = nullptr;
};

Sha256::Sha256() : context_(std::make_unique<Context>()) {
  context_->digest = EVP_MD_CTX_new();
  DS_CHECK(context_->digest != nullptr);
  DS_CHECK_EQ(EVP_DigestInit_ex(context_->digest, EVP_sha256(), nullptr), 1);
}

Sha256::~Sha256() { EVP_MD_CTX_free(context_->digest); }

void Sha256::Update(const void* data, size_t bytes) {
  DS_CHECK_EQ(EVP_DigestUpdate(context_->digest, data, bytes), 1);
}

std::string Sha256::Finish() {
  std::array<unsigned char, EVP_MAX_MD_SIZE> digest;
  unsigned int size = 0;
  DS_CHECK_EQ(EVP_DigestFinal_ex(context_->digest, digest.data(), &size), 1);
  static constexpr char kDigits[] = "0123456789abcdef";
  std::string text;
  for (unsigned int i = 0; i < size; ++i) {
    text.push_back(kDigits[digest[i] >> 4]);
    text.push_back(kDigits[digest[i] & 15]);
  }
  return text;
}

}  // namespace deltaserve
