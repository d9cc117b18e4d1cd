#include "tests/system/served_model.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "absl/time/clock.h"
#include "grpcpp/grpcpp.h"
#include "kernels/base/check.h"
#include "proto/grpc_status.h"

namespace deltaserve::test {
namespace {

std::string AddressOf(Process& process, const std::string& file) {
  const auto address = WaitForFile(file, process, kStartTimeout);
  DS_CHECK(address.has_value()) << "no " << file << "; log:\n" << process.Log();
  return std::string(absl::StripSuffix(*address, "\n"));
}

std::shared_ptr<grpc::Channel> Connect(const std::string& address) {
  return grpc::CreateChannel(address, grpc::InsecureChannelCredentials());
}

}  // namespace

ServedModel::ServedModel(int ranks, std::vector<std::string> worker_flags, std::string model)
    : model_(std::move(model)) {
  if (model_.empty()) {
    model_ = folder_ / "model";
    const RunResult made = RunToEnd(
        {Binary("make_checkpoint"), "--shape", "tiny-moe", "--seed", "7", "--output", model_});
    DS_CHECK_EQ(made.code, 0) << made.output;
  }
  const std::string world_file = folder_ / "world.address";
  std::vector<std::string> command = {Binary("worker"), "--model",        model_,    "--listen",
                                      "127.0.0.1:0",    "--address-file", world_file};
  const std::vector<std::string> one_thread = OneThread();
  command.insert(command.end(), one_thread.begin(), one_thread.end());
  if (std::find(worker_flags.begin(), worker_flags.end(), "--kv-memory") == worker_flags.end()) {
    command.insert(command.end(), {"--kv-memory", "32M"});
  }
  command.insert(command.end(), worker_flags.begin(), worker_flags.end());
  world_ = std::make_unique<Process>(MpirunCommand(ranks, command), folder_ / "world.log",
                                     MpirunEnvironment(folder_.path()));
  const std::string world_address = AddressOf(*world_, world_file);
  const std::string router_file = folder_ / "router.address";
  router_ = std::make_unique<Process>(
      std::vector<std::string>{Binary("router"), "--world", world_address, "--listen",
                               "127.0.0.1:0", "--address-file", router_file},
      folder_ / "router.log");
  router_address_ = AddressOf(*router_, router_file);
  inference_ = v1::Inference::NewStub(Connect(router_address_));
  world_stub_ = v1::World::NewStub(Connect(world_address));
}

v1::WorldReport ServedModel::Report() {
  grpc::ClientContext context;
  v1::WatchRequest request;
  request.set_min_interval_ms(10);
  const auto stream = world_stub_->Watch(&context, request);
  v1::WorldReport report;
  stream->Read(&report);
  context.TryCancel();
  return report;
}

v1::WorldReport ServedModel::WaitUntilEmpty() {
  const absl::Time deadline = absl::Now() + absl::Minutes(1);
  v1::WorldReport report = Report();
  while ((report.load().running() > 0 || report.load().waiting() > 0) && absl::Now() < deadline) {
    absl::SleepFor(absl::Milliseconds(20));
    report = Report();
  }
  return report;
}

std::vector<int> ServedModel::RankPids() {
  grpc::ClientContext context;
  v1::WorldDescription description;
  const grpc::Status status = world_stub_->Describe(&context, {}, &description);
  DS_CHECK(status.ok()) << status.error_message();
  std::vector<int> pids;
  for (const v1::RankInfo& rank : description.ranks()) pids.push_back(rank.pid());
  return pids;
}

Answer Generate(v1::Inference::Stub& stub,
                const v1::GenerateRequest& request,
                grpc::ClientContext& context,
                const std::function<void(const Answer&)>& on_delta) {
  Answer answer;
  const auto stream = stub.Generate(&context, request);
  v1::GenerateEvent event;
  while (stream->Read(&event)) {
    if (event.has_finished()) answer.finished = event.finished();
    if (event.has_prompt_logprobs()) {
      const v1::PromptLogprobs& page = event.prompt_logprobs();
      answer.in_order &=
          answer.tokens.empty() && page.first_position() == answer.prompt_logprobs.size() + 1;
      answer.prompt_logprobs.insert(answer.prompt_logprobs.end(), page.tokens().begin(),
                                    page.tokens().end());
    }
    if (!event.has_delta()) continue;
    const v1::TextDelta& delta = event.delta();
    if (delta.first_index() != answer.tokens.size()) answer.in_order = false;
    answer.text += delta.text();
    for (const uint32_t id : delta.tokens().ids()) answer.tokens.push_back(id);
    answer.logprobs.insert(answer.logprobs.end(), delta.logprobs().begin(), delta.logprobs().end());
    if (on_delta) on_delta(answer);
  }
  answer.status = stream->Finish();
  return answer;
}

v1::GenerateRequest GreedyRequest(const std::string& text, uint32_t max_tokens) {
  v1::GenerateRequest request;
  request.set_text(text);
  v1::CallOptions& options = *request.mutable_options();
  options.mutable_sampling()->set_temperature(0);
  options.mutable_stop()->set_max_tokens(max_tokens);
  options.mutable_stop()->set_ignore_eos(true);
  options.set_return_token_ids(true);
  return request;
}

v1::ErrorDetail DetailOf(const grpc::Status& status) {
  return deltaserve::DetailOf(FromGrpcStatus(status));
}

std::string Middle(const std::string& text) {
  const auto border = [&](size_t at) {
    while (at < text.size() && (static_cast<unsigned char>(text[at]) & 0xC0) == 0x80) ++at;
    return at;
  };
  const size_t first = border(text.size() / 2);
  return text.substr(first, border(std::min(first + 6, text.size())) - first);
}

}  // namespace deltaserve::test
