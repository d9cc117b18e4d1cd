// deltaserve-chat: a terminal client of a router.

#include <pthread.h>
#include <signal.h>
#include <unistd.h>

#include <atomic>
#include <cstdio>
#include <fstream>
#include <iostream>
#include <memory>
#include <mutex>
#include <optional>
#include <sstream>
#include <string>
#include <thread>

#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "deltaserve/v1/inference.grpc.pb.h"
#include "grpcpp/grpcpp.h"
#include "kernels/base/flags.h"
#include "kernels/base/status_macros.h"
#include "nlohmann/json.hpp"
#include "proto/error.h"
#include "proto/grpc_server.h"
#include "proto/grpc_status.h"
#include "router/text/client_json.h"
#include "tools/chat_answer_view.h"

namespace deltaserve {
namespace {

constexpr int kExitFailed = 1;
constexpr int kExitInterrupted = 130;  // as shells say of SIGINT

struct ChatFlags {
  std::string router = "127.0.0.1:50051";
  std::optional<std::string> prompt;
  std::optional<std::string> system;
  std::string tools;
  std::optional<std::string> thinking;
  std::optional<uint32_t> thinking_budget;
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

void SetOptions(const ChatFlags& flags, v1::CallOptions* options) {
  v1::SamplingParams* sampling = options->mutable_sampling();
  if (flags.max_tokens) options->mutable_stop()->set_max_tokens(*flags.max_tokens);
  if (flags.temperature) sampling->set_temperature(*flags.temperature);
  if (flags.top_k) sampling->set_top_k(*flags.top_k);
  if (flags.top_p) sampling->set_top_p(*flags.top_p);
  if (flags.seed) sampling->set_seed(*flags.seed);
}

// The tools of a file: one JSON object, or a list of them.
absl::Status ReadTools(const std::string& path, v1::ChatRequest* request) {
  std::ifstream file(path);
  std::stringstream text;
  text << file.rdbuf();
  constexpr char kRemedy[] =
      "name a file with a JSON list of tools, each {\"type\": \"function\", \"function\": "
      "{\"name\": ..., ...}}";
  if (!file) return InvalidField("--tools", path, "it cannot be read", kRemedy);
  DS_ASSIGN_OR_RETURN(
      auto tools,
      ReadClientJson(text.str(), {.field = absl::StrCat("--tools ", path), .remedy = kRemedy}));
  if (tools.is_object()) tools = nlohmann::ordered_json::array({tools});
  if (!tools.is_array()) return InvalidField("--tools", path, "it holds no list", kRemedy);
  for (const auto& tool : tools) request->add_tools_json(DumpJson(tool));
  return absl::OkStatus();
}

// What every turn begins with.
absl::StatusOr<v1::ChatRequest> FirstRequest(const ChatFlags& flags) {
  v1::ChatRequest request;
  SetOptions(flags, request.mutable_options());
  if (flags.thinking) {
    request.set_template_args_json(
        absl::StrCat("{\"enable_thinking\": ", *flags.thinking == "on" ? "true" : "false", "}"));
  }
  if (flags.thinking_budget) request.set_thinking_budget(*flags.thinking_budget);
  if (!flags.tools.empty()) DS_RETURN_IF_ERROR(ReadTools(flags.tools, &request));
  if (flags.system) {
    v1::Message* message = request.add_messages();
    message->set_role("system");
    message->add_content()->set_text(*flags.system);
  }
  return request;
}

// Reads one answer into `view`, until its end or Ctrl-C.
template <typename Event, typename AddDelta>
absl::Status Read(grpc::ClientReader<Event>& reader, AnswerView& view, const AddDelta& add) {
  Event event;
  bool ended = false;
  while (reader.Read(&event)) {
    if (event.has_delta()) add(event.delta());
    if (event.has_finished()) {
      ended = true;
      view.End(event.finished());
    }
  }
  absl::Status status = FromGrpcStatus(reader.Finish());
  if (ended) return status;
  if (status.code() == absl::StatusCode::kCancelled) {
    view.Cancelled();
  } else {
    view.Close();
  }
  return status;
}

// One turn: appends the answer to the conversation in `request`, as far as it came.
absl::Status Ask(v1::Inference::Stub& stub, Interrupts& interrupts, v1::ChatRequest* request) {
  grpc::ClientContext context;
  interrupts.Watch(&context);
  AnswerView view(isatty(STDOUT_FILENO) != 0);
  const auto reader = stub.Chat(&context, *request);
  absl::Status status =
      Read(*reader, view, [&view](const v1::ChatDelta& delta) { view.Add(delta); });
  interrupts.Watch(nullptr);
  *request->add_messages() = view.message();
  return status;
}

absl::Status AskRaw(v1::Inference::Stub& stub,
                    Interrupts& interrupts,
                    const ChatFlags& flags,
                    const std::string& prompt) {
  v1::GenerateRequest request;
  request.set_text(prompt);
  SetOptions(flags, request.mutable_options());
  request.mutable_options()->set_skip_special_tokens(false);
  grpc::ClientContext context;
  interrupts.Watch(&context);
  AnswerView view(isatty(STDOUT_FILENO) != 0);
  const auto reader = stub.Generate(&context, request);
  absl::Status status =
      Read(*reader, view, [&view](const v1::TextDelta& delta) { view.Add(delta.text()); });
  interrupts.Watch(nullptr);
  return status;
}

void AddUser(const std::string& text, v1::ChatRequest* request) {
  v1::Message* message = request->add_messages();
  message->set_role("user");
  message->add_content()->set_text(text);
}

int AskOnce(v1::Inference::Stub& stub,
            const ChatFlags& flags,
            v1::ChatRequest request,
            Interrupts& interrupts) {
  AddUser(*flags.prompt, &request);
  const absl::Status status =
      flags.raw ? AskRaw(stub, interrupts, flags, *flags.prompt) : Ask(stub, interrupts, &request);
  if (status.ok()) return kExitOk;
  if (status.code() == absl::StatusCode::kCancelled) return kExitInterrupted;
  ShowError(status);
  return kExitFailed;
}

int Converse(v1::Inference::Stub& stub,
             const ChatFlags& flags,
             const v1::ChatRequest& first,
             Interrupts& interrupts) {
  const bool terminal = isatty(STDIN_FILENO) != 0;
  if (terminal) std::fputs("(/new forgets the conversation, Ctrl-D ends)\n", stderr);
  v1::ChatRequest request = first;
  std::string line;
  while (true) {
    if (terminal) std::fputs("> ", stderr);
    if (!std::getline(std::cin, line)) break;
    if (line.empty()) continue;
    if (line == "/new") {
      request = first;
      continue;
    }
    if (flags.raw) {
      const absl::Status status = AskRaw(stub, interrupts, flags, line);
      if (!status.ok() && status.code() != absl::StatusCode::kCancelled) ShowError(status);
      continue;
    }
    const v1::ChatRequest before = request;
    AddUser(line, &request);
    const absl::Status status = Ask(stub, interrupts, &request);
    if (!status.ok() && status.code() != absl::StatusCode::kCancelled) {
      ShowError(status);
      request = before;
    }
  }
  return kExitOk;
}

int Main(int argc, char** argv) {
  CommandLine line("chat",
                   "Talks to a model through a router and streams its answers. Without --prompt "
                   "each line of input is a turn of one conversation; Ctrl-C cancels an answer, "
                   "and what came of it stays part of the conversation.");
  ChatFlags flags;
  line.Add("--router", &flags.router, "HOST:PORT of the router").HostPort(1);
  line.Add("--prompt", &flags.prompt, "one prompt to answer");
  line.Add("--system", &flags.system, "what the conversation begins with");
  line.Add("--tools", &flags.tools, "file of tools that the model may call: a JSON list");
  line.Add("--thinking", &flags.thinking, "on or off; the template's default if absent")
      .OneOf({"on", "off"});
  line.Add("--thinking-budget", &flags.thinking_budget, "most tokens of reasoning");
  line.Add("--max-tokens", &flags.max_tokens, "longest answer, in tokens");
  line.Add("--temperature", &flags.temperature, "0 is greedy; the model's default if absent");
  line.Add("--top-k", &flags.top_k, "0 is off; the model's default if absent");
  line.Add("--top-p", &flags.top_p, "1 is off; the model's default if absent");
  line.Add("--seed", &flags.seed, "the same seed gives the same answer");
  line.Add("--raw", &flags.raw,
           "send prompts as they are, not as turns of a conversation, and show special tokens");
  if (const auto code = line.Parse(argc, argv)) return *code;
  const auto first = FirstRequest(flags);
  if (!first.ok()) return line.Refuse(first.status());
  Interrupts interrupts;
  const auto stub = v1::Inference::NewStub(grpc::CreateCustomChannel(
      flags.router, grpc::InsecureChannelCredentials(), ClientChannelArguments()));
  return flags.prompt.has_value() ? AskOnce(*stub, flags, *first, interrupts)
                                  : Converse(*stub, flags, *first, interrupts);
}

}  // namespace
}  // namespace deltaserve

int main(int argc, char** argv) { return deltaserve::Main(argc, argv); }
