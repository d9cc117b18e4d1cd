#pragma once

// A whole deployment of a test: a model, a world under mpirun and a router, as a user starts them.

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/time/time.h"
#include "deltaserve/v1/inference.grpc.pb.h"
#include "deltaserve/v1/world.grpc.pb.h"
#include "tests/system/process.h"

namespace deltaserve::test {

// How long a start may take: three times what was seen on a loaded machine.
inline constexpr absl::Duration kStartTimeout = absl::Seconds(60);

class ServedModel {
 public:
  // Starts a world of `ranks` on the folder `model` and a router before it; failed checks carry the
  // logs. An empty `model` is a tiny MoE one with random weights, made first.
  explicit ServedModel(int ranks,
                       std::vector<std::string> worker_flags = {},
                       std::string model = "");

  v1::Inference::Stub& inference() { return *inference_; }
  v1::World::Stub& world_stub() { return *world_stub_; }
  const std::string& router_address() const { return router_address_; }
  const std::string& model() const { return model_; }
  Process& world() { return *world_; }
  Process& router() { return *router_; }
  // What Watch reports next.
  v1::WorldReport Report();
  // Polls Report() until nothing runs or waits, or a minute is over; the last report.
  v1::WorldReport WaitUntilEmpty();
  // Process ids of the ranks, in rank order.
  std::vector<int> RankPids();

 private:
  TempDir folder_;
  std::string model_, router_address_;
  std::unique_ptr<Process> world_, router_;
  std::unique_ptr<v1::Inference::Stub> inference_;
  std::unique_ptr<v1::World::Stub> world_stub_;
};

// A streamed answer, read to its end.
struct Answer {
  grpc::Status status;
  std::string text;
  std::vector<uint32_t> tokens;
  std::vector<v1::TokenLogprob> logprobs, prompt_logprobs;
  v1::Finished finished;  // empty where status is not OK
  // Every delta's first_index follows the tokens before it, every page of the prompt's scores the
  // one before, and they come before all tokens.
  bool in_order = true;
};
// `on_delta`: hears the answer so far after each part of it.
Answer Generate(v1::Inference::Stub& stub,
                const v1::GenerateRequest& request,
                grpc::ClientContext& context,
                const std::function<void(const Answer&)>& on_delta = {});

// A greedy request for `max_tokens` tokens, EOS ignored, ids returned.
v1::GenerateRequest GreedyRequest(const std::string& text, uint32_t max_tokens);

// The ErrorDetail of a failed call.
v1::ErrorDetail DetailOf(const grpc::Status& status);

// Some whole characters from the middle of `text`.
std::string Middle(const std::string& text);

}  // namespace deltaserve::test
