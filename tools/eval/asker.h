#pragma once

// Asks a router: one call of Inference.Chat a question, several at once.

#include <cstdint>
#include <functional>
#include <vector>

#include "absl/time/time.h"
#include "deltaserve/v1/inference.grpc.pb.h"
#include "tools/eval/question.h"
#include "tools/eval/reply.h"

namespace deltaserve {

struct AskOptions {
  uint32_t concurrency = 4;                   // calls at once
  uint32_t max_tokens = 96;                   // of an answer
  absl::Duration timeout = absl::Minutes(2);  // of a call
};

// Greedy answers, replies[i] to questions[i]; a call that failed is a reply that says so. `done` is
// called after each reply with the number of replies so far, by one thread at a time. Starts
// options.concurrency threads and joins them.
std::vector<Reply> AskAll(v1::Inference::Stub& stub,
                          const std::vector<Question>& questions,
                          const AskOptions& options,
                          const std::function<void(size_t)>& done);

}  // namespace deltaserve
