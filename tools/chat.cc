// deltaserve-chat: a terminal client of a router.

#include <pthread.h>
#include <signal.h>
#include <unistd.h>

#include <atomic>
#include <cstdio>
#include <iostream>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "deltaserve/v1/inference.grpc.pb.h"
#include "grpcpp/grpcpp.h"
#include "kernels/base/flags.h"
#include "proto/error.h"
#include "proto/grpc_server.h"
#include "proto/grpc_status.h"

namespace deltaserve {
namespace {

constexpr int kExitFailed = 1;
constexpr int kExitInterrupted = 130;  // as shells say of SIGINT

struct ChatFlags {
  std::string router = "127.0.0.1:50051";
  std::optional<std::string> prompt;
  std::optional<uint32_t> max_tokens;
  std::optional<float> temperature;
  std::optional<int32_t> top_k;
  std::optional<float> top_p;
  std::optional<uint64_t> seed;
  bool raw = false;
};

// Takes Ctrl-C for the whole program: it cancels the answer that runs.
// Threads: its own waits for the signal; the others: main. Owner: Main, before any other thread.
class Interrupts {
 public:
  Interrupts() {
    sigemptyset(&signals_);
    sigaddset(&signals_, SIGINT);
    pthread_sigmask(SIG_BLOCK, &signals_, nullptr);
    thread_ = std::thread(&Interrupts::Wait, this);
  }
  ~Interrupts() {
    stopping_ = true;
    pthread_kill(thread_.native_handle(), SIGINT);
    thread_.join();
  }
  Interrupts(const Interrupts&) = delete;
  Interrupts& operator=(const Interrupts&) = delete;

  // The call that Ctrl-C cancels from now on; null for none.
  void Watch(grpc::ClientContext* context) {
    const std::lock_guard lock(mutex_);
    context_ = context;
  }

 private:
  void Wait() {
    int signal = 0;
    while (sigwait(&signals_, &signal) == 0 && !stopping_) {
      const std::lock_guard lock(mutex_);
      if (context_ != nullptr) {
        context_->TryCancel();
      } else {
        std::fputs("\n(Ctrl-D ends)\n> ", stderr);
      }
    }
  }

  sigset_t signals_;
  std::atomic<bool> stopping_{false};
  std::mutex mutex_;
  grpc::ClientContext* context_ = nullptr;
  std::thread thread_;
};

void Show(const absl::Status& status) {
  const v1::ErrorDetail detail = DetailOf(status);
  std::fprintf(stderr, "error: %s\n", std::string(status.message()).c_str());
  if (!detail.field().empty()) std::fprintf(stderr, "  field:  %s\n", detail.field().c_str());
  if (!detail.remedy().empty()) std::fprintf(stderr, "  remedy: %s\n", detail.remedy().c_str());
}

v1::GenerateRequest MakeRequest(const ChatFlags& flags, const std::string& prompt) {
  v1::GenerateRequest request;
  request.set_text(prompt);
  v1::CallOptions* options = request.mutable_options();
  options->set_skip_special_tokens(!flags.raw);
  v1::SamplingParams* sampling = options->mutable_sampling();
  if (flags.max_tokens) options->mutable_stop()->set_max_tokens(*flags.max_tokens);
  if (flags.temperature) sampling->set_temperature(*flags.temperature);
  if (flags.top_k) sampling->set_top_k(*flags.top_k);
  if (flags.top_p) sampling->set_top_p(*flags.top_p);
  if (flags.seed) sampling->set_seed(*flags.seed);
  return request;
}

const char* ReasonName(const v1::Finished& finished) {
  switch (finished.reason()) {
    case v1::FINISH_REASON_STOP:
      return finished.match().has_eos_token_id() ? "end of answer" : "stop token";
    case v1::FINISH_REASON_LENGTH:
      return "longest answer reached";
    case v1::FINISH_REASON_CANCELLED:
      return "aborted";
    default:
      return "ended";
  }
}

void ShowSummary(const v1::Finished& finished,
                 absl::Time began,
                 absl::Time first,
                 absl::Time last) {
  const uint32_t tokens = finished.usage().completion_tokens();
  const double seconds = absl::ToDoubleSeconds(last - first);
  // The first token's time is the prompt's; the rate is that of the others.
  const double rate = tokens > 1 && seconds > 0 ? (tokens - 1) / seconds : 0;
  std::fprintf(stderr, "[%u tokens, %.1f tokens/s, first after %.2f s; prompt %u tokens; %s]\n",
               tokens, rate, absl::ToDoubleSeconds(first - began), finished.usage().prompt_tokens(),
               ReasonName(finished));
}

void EndLine(const std::string& answer) {
  if (answer.empty()) return;
  std::fputs("\n", stdout);
  std::fflush(stdout);
}

// Streams the answer to stdout and appends it to `answer`.
absl::Status Ask(v1::Inference::Stub& stub,
                 const v1::GenerateRequest& request,
                 Interrupts& interrupts,
                 std::string* answer) {
  grpc::ClientContext context;
  interrupts.Watch(&context);
  const absl::Time began = absl::Now();
  std::optional<absl::Time> first;
  const auto reader = stub.Generate(&context, request);
  v1::GenerateEvent event;
  while (reader->Read(&event)) {
    if (event.has_delta()) {
      if (!first) first = absl::Now();
      std::fputs(event.delta().text().c_str(), stdout);
      std::fflush(stdout);
      answer->append(event.delta().text());
    } else if (event.has_finished()) {
      const absl::Time last = absl::Now();
      EndLine(*answer);
      ShowSummary(event.finished(), began, first.value_or(last), last);
    }
  }
  const grpc::Status status = reader->Finish();
  interrupts.Watch(nullptr);
  if (!status.ok()) EndLine(*answer);
  return FromGrpcStatus(status);
}

// What the model's template makes of one turn; the answer follows.
std::string Turn(const std::string& text) {
  return absl::StrCat("<|im_start|>user\n", text, "<|im_end|>\n<|im_start|>assistant\n");
}

int AskOnce(v1::Inference::Stub& stub, const ChatFlags& flags, Interrupts& interrupts) {
  std::string answer;
  const std::string prompt = flags.raw ? *flags.prompt : Turn(*flags.prompt);
  const absl::Status status = Ask(stub, MakeRequest(flags, prompt), interrupts, &answer);
  if (status.ok()) return kExitOk;
  if (status.code() == absl::StatusCode::kCancelled) return kExitInterrupted;
  Show(status);
  return kExitFailed;
}

int Converse(v1::Inference::Stub& stub, const ChatFlags& flags, Interrupts& interrupts) {
  const bool terminal = isatty(STDIN_FILENO) != 0;
  std::string history;
  std::string line;
  while (true) {
    if (terminal) std::fputs("> ", stderr);
    if (!std::getline(std::cin, line)) break;
    if (line.empty()) continue;
    const std::string prompt = flags.raw ? line : history + Turn(line);
    std::string answer;
    const absl::Status status = Ask(stub, MakeRequest(flags, prompt), interrupts, &answer);
    if (status.ok() || status.code() == absl::StatusCode::kCancelled) {
      history = absl::StrCat(prompt, answer, "<|im_end|>\n");
    } else {
      Show(status);
    }
  }
  return kExitOk;
}

int Main(int argc, char** argv) {
  CommandLine line("chat",
                   "Sends prompts to a router and streams the answers. Without --prompt each line "
                   "of input is a turn of one conversation; Ctrl-C cancels an answer.");
  ChatFlags flags;
  line.Add("--router", &flags.router, "HOST:PORT of the router");
  line.Add("--prompt", &flags.prompt, "one prompt to answer");
  line.Add("--max-tokens", &flags.max_tokens, "longest answer, in tokens");
  line.Add("--temperature", &flags.temperature, "0 is greedy; the model's default if absent");
  line.Add("--top-k", &flags.top_k, "0 is off; the model's default if absent");
  line.Add("--top-p", &flags.top_p, "1 is off; the model's default if absent");
  line.Add("--seed", &flags.seed, "the same seed gives the same answer");
  line.Add("--raw", &flags.raw,
           "send prompts as they are, not as turns of a conversation, and show special tokens");
  if (const auto code = line.Parse(argc, argv)) return *code;
  Interrupts interrupts;
  const auto stub = v1::Inference::NewStub(grpc::CreateCustomChannel(
      flags.router, grpc::InsecureChannelCredentials(), ClientChannelArguments()));
  return flags.prompt.has_value() ? AskOnce(*stub, flags, interrupts)
                                  : Converse(*stub, flags, interrupts);
}

}  // namespace
}  // namespace deltaserve

int main(int argc, char** argv) { return deltaserve::Main(argc, argv); }
