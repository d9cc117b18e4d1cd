#include "tests/system/hosts/streams.h"

#include <algorithm>
#include <limits>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "grpcpp/grpcpp.h"

namespace deltaserve::test {

Streams::Streams(v1::Inference::Stub& inference, int count, uint32_t max_tokens)
    : answers_(static_cast<size_t>(count)),
      ends_(static_cast<size_t>(count)),
      progress_(static_cast<size_t>(count)) {
  for (int i = 0; i < count; ++i) {
    threads_.emplace_back([this, &inference, i, max_tokens] { Run(inference, i, max_tokens); });
  }
}

Streams::~Streams() { Finish(); }

std::string Streams::Prompt(int index) { return absl::StrCat("story number ", index, " begins"); }

void Streams::WaitForTokens(uint32_t tokens) {
  for (const auto& progress : progress_) {
    while (progress < tokens) absl::SleepFor(absl::Milliseconds(5));
  }
}

const std::vector<Answer>& Streams::Finish() {
  for (std::thread& thread : threads_) thread.join();
  threads_.clear();
  return answers_;
}

absl::Time Streams::last_end() const { return *std::max_element(ends_.begin(), ends_.end()); }

void Streams::Run(v1::Inference::Stub& inference, int index, uint32_t max_tokens) {
  const auto at = static_cast<size_t>(index);
  grpc::ClientContext context;
  context.set_deadline(std::chrono::system_clock::now() + std::chrono::minutes(2));
  answers_[at] = Generate(
      inference, GreedyRequest(Prompt(index), max_tokens), context,
      [&](const Answer& so_far) { progress_[at] = static_cast<uint32_t>(so_far.tokens.size()); });
  ends_[at] = absl::Now();
  progress_[at] = std::numeric_limits<uint32_t>::max();
}

}  // namespace deltaserve::test
