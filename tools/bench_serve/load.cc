#include "tools/bench_serve/load.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <thread>

#include "absl/strings/str_cat.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/clock.h"
#include "grpcpp/grpcpp.h"
#include "proto/error.h"
#include "proto/grpc_status.h"

namespace deltaserve::bench {
namespace {

double SecondsSince(absl::Time time) { return absl::ToDoubleSeconds(absl::Now() - time); }

std::string ErrorName(const grpc::Status& status) {
  const absl::Status error = FromGrpcStatus(status);
  const v1::ErrorDetail detail = DetailOf(error);
  if (detail.code() != v1::ERROR_CODE_UNSPECIFIED) return v1::ErrorCode_Name(detail.code());
  return absl::StatusCodeToString(error.code());
}

class Load {
 public:
  Load(v1::Inference::Stub& stub,
       const std::vector<Arrival>& arrivals,
       const Prompts& prompts,
       const LoadOptions& options)
      : stub_(stub), arrivals_(arrivals), prompts_(prompts), options_(options) {
    outcomes_.resize(arrivals.size());
  }

  // Requests in turn, until there are none left.
  void Work() {
    for (size_t index = next_++; index < arrivals_.size(); index = next_++) {
      const bool open = options_.concurrency == 0;
      const absl::Time planned = start_ + absl::Seconds(open ? arrivals_[index].seconds : 0);
      if (open) absl::SleepFor(planned - absl::Now());
      ++running_;
      Ask(index, open ? planned : absl::Now());
      --running_;
      if (!outcomes_[index].error.empty()) ++failed_;
      ++done_;
    }
  }

  std::vector<Outcome> Run(const Progress& progress) {
    const size_t most = options_.concurrency > 0 ? options_.concurrency : options_.max_in_flight;
    std::vector<std::thread> workers;
    start_ = absl::Now();
    for (size_t i = 0; i < std::min(most, arrivals_.size()); ++i) {
      workers.emplace_back(&Load::Work, this);
    }
    while (done_ < arrivals_.size()) {
      absl::SleepFor(absl::Milliseconds(done_ + running_ == 0 ? 50 : 500));
      progress(done_, running_, failed_);
    }
    for (std::thread& worker : workers) worker.join();
    progress(done_, 0, failed_);
    return std::move(outcomes_);
  }

 private:
  void Ask(size_t index, absl::Time planned) {
    const Arrival& arrival = arrivals_[index];
    Outcome& outcome = outcomes_[index];
    v1::GenerateRequest request;
    for (const uint32_t id : prompts_.Of(arrival, index)) request.mutable_tokens()->add_ids(id);
    v1::CallOptions* call = request.mutable_options();
    call->mutable_sampling()->set_temperature(static_cast<float>(options_.temperature));
    call->mutable_stop()->set_max_tokens(arrival.output_tokens);
    call->mutable_stop()->set_ignore_eos(true);
    call->set_return_token_ids(true);
    grpc::ClientContext context;
    context.set_deadline(
        std::chrono::system_clock::now() +
        std::chrono::milliseconds(static_cast<int64_t>(1000 * options_.timeout_seconds)));
    outcome.begin = absl::ToDoubleSeconds(planned - start_);
    const auto stream = stub_.Generate(&context, request);
    double last = 0;
    v1::GenerateEvent event;
    while (stream->Read(&event)) {
      const auto made = static_cast<uint32_t>(event.delta().tokens().ids_size());
      if (event.has_finished()) outcome.prompt_tokens = event.finished().usage().prompt_tokens();
      if (made == 0) continue;
      const double now = SecondsSince(planned);
      if (outcome.output_tokens == 0) {
        outcome.first = now;
        outcome.gaps.insert(outcome.gaps.end(), made - 1, 0.0);
      } else {
        outcome.gaps.insert(outcome.gaps.end(), made, (now - last) / made);
      }
      last = now;
      outcome.output_tokens += made;
    }
    const grpc::Status status = stream->Finish();
    outcome.total = SecondsSince(planned);
    outcome.end = SecondsSince(start_);
    if (!status.ok()) outcome.error = ErrorName(status);
  }

  v1::Inference::Stub& stub_;
  const std::vector<Arrival>& arrivals_;
  const Prompts& prompts_;
  const LoadOptions options_;
  absl::Time start_;
  std::vector<Outcome> outcomes_;  // each written by the thread that runs it
  std::atomic<size_t> next_{0}, done_{0}, running_{0}, failed_{0};
};

}  // namespace

std::vector<Outcome> RunLoad(v1::Inference::Stub& stub,
                             const std::vector<Arrival>& arrivals,
                             const Prompts& prompts,
                             const LoadOptions& options,
                             const Progress& progress) {
  return Load(stub, arrivals, prompts, options).Run(progress);
}

}  // namespace deltaserve::bench
