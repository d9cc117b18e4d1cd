#include "tools/eval/score.h"

#include <algorithm>
#include <map>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "kernels/base/check.h"

namespace deltaserve {
namespace {

using Json = nlohmann::ordered_json;

constexpr const char* kSpecialTokens[] = {"<|im_start|>", "<|im_end|>",      "<|endoftext|>",
                                          "<think>",      "</think>",        "<tool_call>",
                                          "</tool_call>", "<tool_response>", "</tool_response>"};

uint32_t Median(std::vector<uint32_t> values) {
  if (values.empty()) return 0;
  const auto middle = values.begin() + static_cast<std::ptrdiff_t>(values.size() / 2);
  std::nth_element(values.begin(), middle, values.end());
  return *middle;
}

// A score and the lengths that its median is made of.
struct Tally {
  TaskScore score;
  std::vector<uint32_t> lengths;

  void Add(bool right, const Reply& reply) {
    ++score.questions;
    score.right += right ? 1 : 0;
    lengths.push_back(static_cast<uint32_t>(reply.tokens.size()));
  }
  TaskScore Sum() && {
    score.median_tokens = Median(std::move(lengths));
    return std::move(score);
  }
};

Json TaskJson(const TaskScore& score) {
  return {{"task", score.task},
          {"questions", score.questions},
          {"right", score.right},
          {"percent", Percent(score.right, score.questions)},
          {"median_tokens", score.median_tokens}};
}

std::string Row(const TaskScore& score) {
  return absl::StrFormat("%-18s %9d %6d %6.1f %14d\n", score.task, score.questions, score.right,
                         Percent(score.right, score.questions), score.median_tokens);
}

}  // namespace

double Percent(int part, int whole) { return whole == 0 ? 0 : 100.0 * part / whole; }

bool IsRight(const Question& question, const Reply& reply) {
  return reply.end == ReplyEnd::kStop && reply.content == question.content &&
         reply.calls == question.calls && question.thinking == !reply.reasoning.empty();
}

bool LeaksSpecialToken(const Reply& reply) {
  return std::ranges::any_of(kSpecialTokens, [&reply](const char* token) {
    return reply.content.find(token) != std::string::npos ||
           reply.reasoning.find(token) != std::string::npos;
  });
}

Score ScoreReplies(const std::vector<Question>& questions, const std::vector<Reply>& replies) {
  DS_CHECK_EQ(questions.size(), replies.size());
  Score score;
  std::vector<Tally> tallies;
  Tally all;
  all.score.task = "all";
  for (size_t i = 0; i < questions.size(); ++i) {
    const Question& question = questions[i];
    const Reply& reply = replies[i];
    auto tally = std::ranges::find_if(
        tallies, [&question](const Tally& one) { return one.score.task == question.task; });
    if (tally == tallies.end()) {
      tallies.emplace_back().score.task = question.task;
      tally = tallies.end() - 1;
    }
    const bool right = IsRight(question, reply);
    tally->Add(right, reply);
    all.Add(right, reply);
    score.by_length += reply.end == ReplyEnd::kLength ? 1 : 0;
    score.failed += reply.end == ReplyEnd::kFailed ? 1 : 0;
    score.leaked += LeaksSpecialToken(reply) ? 1 : 0;
  }
  for (Tally& tally : tallies) score.tasks.push_back(std::move(tally).Sum());
  score.all = std::move(all).Sum();
  return score;
}

Agreement Compare(const std::vector<Reply>& ours, const std::vector<Reply>& theirs) {
  std::map<std::string, const Reply*> by_id;
  for (const Reply& reply : theirs) by_id[reply.id] = &reply;
  Agreement agreement;
  for (const Reply& reply : ours) {
    const auto found = by_id.find(reply.id);
    if (found == by_id.end()) {
      agreement.missing.push_back(reply.id);
      continue;
    }
    ++agreement.compared;
    const Reply& other = *found->second;
    if (reply.prompt != other.prompt) {
      agreement.other_prompts.push_back(reply.id);
    } else if (reply.tokens != other.tokens || reply.end != other.end) {
      agreement.different.push_back(reply.id);
    } else {
      ++agreement.same;
    }
  }
  return agreement;
}

std::string ScoreTable(const Score& score) {
  std::string text = absl::StrFormat("%-18s %9s %6s %6s %14s\n", "task", "questions", "right", "%",
                                     "median tokens");
  for (const TaskScore& task : score.tasks) text += Row(task);
  text += Row(score.all);
  absl::StrAppend(&text, "ended by length: ", score.by_length,
                  "; a special token leaked: ", score.leaked, "; calls failed: ", score.failed,
                  "\n");
  return text;
}

std::string AgreementText(const Agreement& agreement) {
  std::string text =
      absl::StrFormat("the same answer: %d of %d (%.2f %%)\n", agreement.same, agreement.compared,
                      Percent(agreement.same, agreement.compared));
  const auto list = [&text](const char* what, const std::vector<std::string>& ids) {
    if (!ids.empty()) absl::StrAppend(&text, what, ": ", absl::StrJoin(ids, ", "), "\n");
  };
  list("other answers", agreement.different);
  list("other prompts", agreement.other_prompts);
  list("no answer to compare with", agreement.missing);
  return text;
}

Json ScoreJson(const Score& score) {
  Json tasks = Json::array();
  for (const TaskScore& task : score.tasks) tasks.push_back(TaskJson(task));
  return {{"tasks", std::move(tasks)},
          {"all", TaskJson(score.all)},
          {"ended_by_length", score.by_length},
          {"leaked", score.leaked},
          {"failed", score.failed}};
}

Json AgreementJson(const Agreement& agreement) {
  return {{"compared", agreement.compared},
          {"same", agreement.same},
          {"percent", Percent(agreement.same, agreement.compared)},
          {"other_prompts", agreement.other_prompts},
          {"different", agreement.different},
          {"missing", agreement.missing}};
}

}  // namespace deltaserve
