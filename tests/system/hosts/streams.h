#pragma once

// Many answers at once, through a router, by a thread each.

#include <atomic>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "absl/time/time.h"
#include "deltaserve/v1/inference.grpc.pb.h"
#include "tests/system/served_model.h"

namespace deltaserve::test {

// Starts them all; joins in the destructor. Threads: main.
class Streams {
 public:
  // Greedy answers of `max_tokens` to Prompt(0..count-1).
  Streams(v1::Inference::Stub& inference, int count, uint32_t max_tokens);
  ~Streams();
  Streams(const Streams&) = delete;
  Streams& operator=(const Streams&) = delete;

  static std::string Prompt(int index);

  // Until each has had `tokens` tokens, or has ended.
  void WaitForTokens(uint32_t tokens);
  // Until all have ended.
  const std::vector<Answer>& Finish();
  // When the last of them ended. After Finish().
  absl::Time last_end() const;

 private:
  void Run(v1::Inference::Stub& inference, int index, uint32_t max_tokens);

  std::vector<Answer> answers_;
  std::vector<absl::Time> ends_;
  std::vector<std::atomic<uint32_t>> progress_;  // tokens; the largest number at the end
  std::vector<std::thread> threads_;
};

}  // namespace deltaserve::test
