#include "worker/engine/admission.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "kernels/ops.h"
#include "proto/error.h"

namespace deltaserve {
namespace {

constexpr absl::Duration kShortestRetry = absl::Seconds(1);
constexpr absl::Duration kLongestRetry = absl::Seconds(60);

absl::Status DeadlineError(const std::string& request_id,
                           const std::string& value,
                           const std::string& remedy,
                           const std::string& problem) {
  v1::ErrorDetail detail;
  detail.set_code(v1::ERROR_CODE_DEADLINE);
  detail.set_field("deadline");
  detail.set_value(value);
  detail.set_remedy(remedy);
  detail.set_request_id(request_id);
  return MakeError(std::move(detail), absl::StrCat(problem, "; ", remedy));
}

absl::Duration ShownUnit(absl::Duration duration) {
  return duration < absl::Seconds(1) ? absl::Milliseconds(1) : absl::Milliseconds(100);
}

}  // namespace

void QueueRoom::Reset(int64_t requests, int64_t tokens, int64_t free_slots, int64_t free_blocks) {
  requests_ = requests;
  tokens_ = tokens;
  free_slots_ = free_slots;
  free_blocks_ = free_blocks;
}

QueueRoom::Full QueueRoom::FullFor(const Need& need) const {
  if (IsTakenAtOnce(need)) return Full::kNo;
  if (requests_ >= bounds_.requests) return Full::kRequests;
  return requests_ > 0 && tokens_ + need.tokens > bounds_.tokens ? Full::kTokens : Full::kNo;
}

void QueueRoom::Add(const Need& need) {
  if (IsTakenAtOnce(need)) {
    --free_slots_;
    free_blocks_ -= need.blocks;
    return;
  }
  ++requests_;
  tokens_ += need.tokens;
}

absl::Status QueueRoom::Refusal(const Need& need, absl::Duration retry_after) const {
  const bool by_tokens = FullFor(need) == Full::kTokens;
  const absl::Duration retry =
      std::clamp(absl::Ceil(retry_after, absl::Seconds(1)), kShortestRetry, kLongestRetry);
  v1::ErrorDetail detail;
  detail.set_code(v1::ERROR_CODE_QUEUE_FULL);
  detail.set_field(by_tokens ? "max_queue_tokens" : "max_queue");
  detail.set_value(absl::StrCat(by_tokens ? bounds_.tokens : bounds_.requests));
  detail.set_remedy("try again later or on another world");
  detail.mutable_retry_after()->set_seconds(absl::ToInt64Seconds(retry));
  const std::string full =
      by_tokens ? absl::StrCat(tokens_, " prompt tokens wait and the queue holds ", bounds_.tokens,
                               ": ", need.tokens, " more have no place")
                : absl::StrCat(requests_, " requests wait and the queue holds ", bounds_.requests);
  return MakeError(
      std::move(detail),
      absl::StrCat(full, "; try again in ", absl::FormatDuration(retry), " or on another world"));
}

int64_t TokensAhead(int64_t own, const Ahead& ahead, int64_t slots) {
  // While it gets a whole chunk, each earlier prompt gets one. What it gets in one step beyond a
  // chunk is left over by earlier prompts that end there.
  const int64_t shared = own / kBlockTokens * kBlockTokens;
  int64_t tokens = 0;
  std::vector<int64_t> rest;  // what each has beyond that
  for (const int64_t left : ahead.earlier) {
    tokens += std::min(left, shared);
    rest.push_back(left - std::min(left, shared));
  }
  rest.insert(rest.end(), ahead.later.begin(), ahead.later.end());
  // All but slots - 1 have ended when it has a slot; at best those with the least left.
  const int64_t ends = static_cast<int64_t>(rest.size()) - (slots - 1);
  if (ends <= 0) return tokens;
  std::nth_element(rest.begin(), rest.begin() + (ends - 1), rest.end());
  for (int64_t i = 0; i < ends; ++i) tokens += rest[static_cast<size_t>(i)];
  return tokens;
}

absl::Duration LeastTime(int64_t prompt_tokens, int64_t new_tokens, const Speed& speed) {
  // Even a short prompt takes a step.
  const absl::Duration prompt = std::max(prompt_tokens * speed.prompt_token, speed.decode_step);
  return prompt + std::max<int64_t>(new_tokens - 1, 0) * speed.decode_step;
}

absl::Duration TimeToRoom(const std::vector<Remaining>& running,
                          int64_t free_slots,
                          int64_t free_blocks,
                          int64_t blocks,
                          const Speed& speed) {
  absl::Duration prompts;
  for (const Remaining& sequence : running) {
    prompts += sequence.prompt_tokens * speed.prompt_token;
  }
  std::vector<std::pair<absl::Duration, int64_t>> ends;  // when, blocks
  ends.reserve(running.size());
  for (const Remaining& sequence : running) {
    ends.emplace_back(prompts + sequence.new_tokens * speed.decode_step, sequence.blocks);
  }
  std::sort(ends.begin(), ends.end());
  absl::Duration when;
  for (const auto& [end, held] : ends) {
    if (free_slots > 0 && free_blocks >= blocks) break;
    when = end;
    ++free_slots;
    free_blocks += held;
  }
  return when;
}

absl::Status DeadlineHadPassed(const std::string& request_id) {
  return DeadlineError(request_id, "in the past", "allow more time",
                       "the deadline had passed when the request came");
}

absl::Status DeadlineTooSoon(const std::string& request_id,
                             absl::Duration left,
                             absl::Duration least,
                             int64_t own,
                             int64_t ahead) {
  const std::string has = absl::FormatDuration(absl::Trunc(left, ShownUnit(left)));
  // Rounded up, so that whoever allows more than that is not refused again.
  const std::string needs = absl::FormatDuration(absl::Ceil(least, ShownUnit(least)));
  return DeadlineError(
      request_id, absl::StrCat("in ", has),
      absl::StrCat("allow more than ", needs, " or try another world"),
      absl::StrCat("the deadline is in ", has, " and at the measured speed this takes ", needs,
                   " at least: ", own, " prompt tokens after ", ahead, " of others"));
}

}  // namespace deltaserve
