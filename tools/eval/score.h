#pragma once

// What a set of replies is worth: right answers a task, answers that did not end well, and how many
// are the answers of another set. Pure; any thread.

#include <cstdint>
#include <string>
#include <vector>

#include "tools/eval/question.h"
#include "tools/eval/reply.h"

namespace deltaserve {

// Content and tool calls are exactly those wanted, reasoning is there where thinking is on and
// nowhere else, and the answer ended by itself.
bool IsRight(const Question& question, const Reply& reply);

// Content or reasoning shows a token that has its meaning in the template: <|im_end|>, <think>, ...
bool LeaksSpecialToken(const Reply& reply);

struct TaskScore {
  std::string task;
  int questions = 0;
  int right = 0;
  uint32_t median_tokens = 0;  // of an answer
};

struct Score {
  std::vector<TaskScore> tasks;  // in the order of the questions
  TaskScore all;
  int by_length = 0;
  int leaked = 0;
  int failed = 0;
};

// replies[i] answers questions[i].
Score ScoreReplies(const std::vector<Question>& questions, const std::vector<Reply>& replies);

// How two sets of replies agree, question by question: the same means the same prompt, the same
// tokens and the same kind of end.
struct Agreement {
  int compared = 0;
  int same = 0;
  std::vector<std::string> other_prompts;  // ids of questions that were rendered in two ways
  std::vector<std::string> different;      // ids of the others that are not the same
  std::vector<std::string> missing;        // ids that `theirs` has no reply to
};
Agreement Compare(const std::vector<Reply>& ours, const std::vector<Reply>& theirs);

double Percent(int part, int whole);

// A line a task, the sum, and what did not end well.
std::string ScoreTable(const Score& score);
// One line, and the ids that differ.
std::string AgreementText(const Agreement& agreement);

// {"tasks": [{"task", "questions", "right", "percent", "median_tokens"}], "all": {...},
//  "ended_by_length", "leaked", "failed"}
nlohmann::ordered_json ScoreJson(const Score& score);
// {"compared", "same", "percent", "other_prompts", "different", "missing"}
nlohmann::ordered_json AgreementJson(const Agreement& agreement);

}  // namespace deltaserve
