// deltaserve-eval: asks a router held-out questions and scores the answers.

#include <unistd.h>

#include <cstdio>
#include <optional>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "deltaserve/v1/inference.grpc.pb.h"
#include "grpcpp/grpcpp.h"
#include "kernels/base/flags.h"
#include "kernels/base/status_macros.h"
#include "proto/grpc_server.h"
#include "tools/eval/asker.h"
#include "tools/eval/question.h"
#include "tools/eval/reply.h"
#include "tools/eval/score.h"
#include "tools/json_lines.h"
#include "tools/output_file.h"

namespace deltaserve {
namespace {

constexpr int kExitFailed = 1;

struct EvalFlags {
  std::string router = "127.0.0.1:50051";
  std::string questions;
  std::string tasks;
  AskOptions ask;
  std::optional<std::string> json, answers, against;
};

void ShowProgress(size_t done, size_t all) {
  if (isatty(STDERR_FILENO) == 0) return;
  std::fprintf(stderr, "\r%zu/%zu%s", done, all, done == all ? "\n" : "");
}

void ShowFailures(const std::vector<Reply>& replies) {
  for (const Reply& reply : replies) {
    if (reply.end != ReplyEnd::kFailed) continue;
    std::fprintf(stderr, "%s failed: %s\n", reply.id.c_str(), reply.error.c_str());
    return;  // the others seldom say more
  }
}

// The whole evaluation; true where no call failed.
absl::StatusOr<bool> Evaluate(const EvalFlags& flags) {
  const std::vector<std::string> tasks = absl::StrSplit(flags.tasks, ',', absl::SkipEmpty());
  DS_ASSIGN_OR_RETURN(const auto questions, ReadQuestions(flags.questions, tasks));
  std::vector<Reply> others;
  if (flags.against) {
    DS_ASSIGN_OR_RETURN(others, ReadReplies(*flags.against));
  }
  const auto stub = v1::Inference::NewStub(grpc::CreateCustomChannel(
      flags.router, grpc::InsecureChannelCredentials(), ClientChannelArguments()));
  const std::vector<Reply> replies = AskAll(
      *stub, questions, flags.ask, [&](size_t done) { ShowProgress(done, questions.size()); });
  const Score score = ScoreReplies(questions, replies);
  std::fputs(ScoreTable(score).c_str(), stdout);
  ShowFailures(replies);
  nlohmann::ordered_json summary = ScoreJson(score);
  if (flags.against) {
    const Agreement agreement = Compare(replies, others);
    std::printf("against %s: %s", flags.against->c_str(), AgreementText(agreement).c_str());
    summary["against"] = AgreementJson(agreement);
  }
  if (flags.json) DS_RETURN_IF_ERROR(WriteOutput("--json", *flags.json, summary.dump(2) + "\n"));
  if (flags.answers) {
    std::string lines;
    for (const Reply& reply : replies) absl::StrAppend(&lines, ReplyLine(reply), "\n");
    DS_RETURN_IF_ERROR(WriteOutput("--answers", *flags.answers, lines));
  }
  return score.failed == 0;
}

int Main(int argc, char** argv) {
  CommandLine line("eval",
                   "Sends questions to a router, greedily answered, and prints how many answers of "
                   "each task are exactly right. Ends with 0 unless a call failed.");
  EvalFlags flags;
  line.Add("--router", &flags.router, "HOST:PORT of the router").HostPort(1);
  line.Add("--questions", &flags.questions, "JSON lines, such as tools/eval/questions.jsonl")
      .Required();
  line.Add("--task", &flags.tasks, "only these tasks, with commas between them");
  line.Add("--concurrency", &flags.ask.concurrency, "calls at once").In(1, 1024);
  line.Add("--max-tokens", &flags.ask.max_tokens, "longest answer, in tokens").In(1);
  line.Add("--json", &flags.json, "file that gets the scores");
  line.Add("--answers", &flags.answers, "file that gets the answers, as JSON lines");
  line.Add("--against", &flags.against,
           "answers of another run or of transformers_answers.py: prints how many are the same");
  if (const auto code = line.Parse(argc, argv)) return *code;
  const absl::StatusOr<bool> good = Evaluate(flags);
  if (!good.ok()) return line.Refuse(good.status());
  return *good ? kExitOk : kExitFailed;
}

}  // namespace
}  // namespace deltaserve

int main(int argc, char** argv) { return deltaserve::Main(argc, argv); }
