// deltaserve-bench_serve: puts load on a router and tells what its clients see.

#include <unistd.h>

#include <cstdio>
#include <optional>
#include <string>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_split.h"
#include "deltaserve/v1/inference.grpc.pb.h"
#include "grpcpp/grpcpp.h"
#include "kernels/base/flags.h"
#include "kernels/base/status_macros.h"
#include "proto/grpc_server.h"
#include "tools/bench_serve/load.h"
#include "tools/bench_serve/report.h"
#include "tools/bench_serve/workload.h"
#include "tools/output_file.h"

namespace deltaserve::bench {
namespace {

constexpr int kExitFailed = 1;

struct BenchFlags {
  std::string router = "127.0.0.1:50051";
  std::optional<std::string> rates, concurrency, trace;
  std::string prompt_tokens = "128", output_tokens = "64";
  uint32_t groups = 0, requests = 100, long_prompt = 0;
  uint64_t seed = 1;
  double first_ms = 0, gap_ms = 0;
  LoadOptions load;
  std::optional<std::string> json, plot;
};

// A load to run: its name, what it offers, and its requests.
struct Planned {
  std::string name;
  double offered = 0;
  uint32_t concurrency = 0;
  std::vector<Arrival> arrivals = {};
};

absl::StatusOr<std::vector<double>> Numbers(const char* flag, const std::string& text) {
  std::vector<double> numbers;
  for (const auto part : absl::StrSplit(text, ',')) {
    double number = 0;
    if (!absl::SimpleAtod(part, &number) || !(number > 0) || number > 1e6) {
      return absl::InvalidArgumentError(absl::StrCat(
          flag, " is ", text, ": write numbers above 0 with commas between them, such as 1,2,4"));
    }
    numbers.push_back(number);
  }
  return numbers;
}

absl::StatusOr<std::vector<Planned>> Plan(const BenchFlags& flags) {
  const int given = (flags.rates ? 1 : 0) + (flags.concurrency ? 1 : 0) + (flags.trace ? 1 : 0);
  if (given != 1) {
    return absl::InvalidArgumentError(
        absl::StrCat("--rates, --concurrency and --trace: ", given,
                     " of them are given; give one: an open loop, a closed one or a trace"));
  }
  if (flags.trace) {
    DS_ASSIGN_OR_RETURN(std::vector<Arrival> arrivals, ReadTrace(*flags.trace));
    const double span = std::max(arrivals.back().seconds, 1e-9);
    const double rate = static_cast<double>(arrivals.size()) / span;
    return std::vector<Planned>{
        {.name = "trace", .offered = rate, .arrivals = std::move(arrivals)}};
  }
  Shape shape{.groups = flags.groups};
  DS_ASSIGN_OR_RETURN(shape.prompt, Length::Parse("--prompt-tokens", flags.prompt_tokens));
  DS_ASSIGN_OR_RETURN(shape.output, Length::Parse("--output-tokens", flags.output_tokens));
  const char* flag = flags.rates ? "--rates" : "--concurrency";
  DS_ASSIGN_OR_RETURN(const std::vector<double> numbers,
                      Numbers(flag, flags.rates ? *flags.rates : *flags.concurrency));
  std::vector<Planned> loads;
  for (const double number : numbers) {
    if (flags.rates) {
      loads.push_back({.name = absl::StrFormat("%g/s", number),
                       .offered = number,
                       .arrivals = DrawArrivals(shape, number, flags.requests, flags.seed)});
    } else {
      const auto at_once = static_cast<uint32_t>(number);
      if (at_once != number || at_once > 4096) {
        return absl::InvalidArgumentError(absl::StrCat("--concurrency is ", *flags.concurrency,
                                                       ": use whole numbers from 1 to 4096"));
      }
      loads.push_back({.name = absl::StrCat(at_once, " at once"),
                       .offered = number,
                       .concurrency = at_once,
                       .arrivals = DrawArrivals(shape, 0, flags.requests, flags.seed)});
    }
  }
  return loads;
}

// Ids of a text of many words, as the model's tokenizer has them.
absl::StatusOr<std::vector<uint32_t>> SomeIds(v1::Inference::Stub& stub,
                                              const std::string& router) {
  v1::TokenizeRequest request;
  std::string text;
  for (int i = 0; i < 400; ++i)
    absl::StrAppend(&text, "The ", i, " ships of line ", i * i, " sail on. ");
  request.set_text(text);
  v1::TokenizeResponse response;
  grpc::ClientContext context;
  if (const grpc::Status status = stub.Tokenize(&context, request, &response); !status.ok()) {
    return absl::UnavailableError(
        absl::StrCat("--router is ", router, ": ", status.error_message()));
  }
  return std::vector<uint32_t>(response.tokens().ids().begin(), response.tokens().ids().end());
}

void ShowProgress(const std::string& name, size_t all, size_t done, size_t running, size_t failed) {
  if (isatty(STDERR_FILENO) == 0) return;
  const size_t bar = all == 0 ? 20 : 20 * done / all;
  std::fprintf(stderr, "\r%-12s [%s%s] %zu/%zu, %zu running, %zu failed   %s", name.c_str(),
               std::string(bar, '#').c_str(), std::string(20 - bar, '.').c_str(), done, all,
               running, failed, done == all ? "\n" : "");
}

// True where every request was answered.
absl::StatusOr<bool> Bench(const BenchFlags& flags) {
  DS_ASSIGN_OR_RETURN(const std::vector<Planned> loads, Plan(flags));
  const auto stub = v1::Inference::NewStub(grpc::CreateCustomChannel(
      flags.router, grpc::InsecureChannelCredentials(), ClientChannelArguments()));
  DS_ASSIGN_OR_RETURN(std::vector<uint32_t> ids, SomeIds(*stub, flags.router));
  const Prompts prompts(std::move(ids), flags.seed);
  const Objective objective{.first = flags.first_ms / 1e3, .gap = flags.gap_ms / 1e3};
  std::vector<Report> reports;
  bool all_answered = true;
  for (const Planned& load : loads) {
    LoadOptions options = flags.load;
    options.concurrency = load.concurrency;
    const auto outcomes = RunLoad(
        *stub, load.arrivals, prompts, options, [&](size_t done, size_t running, size_t failed) {
          ShowProgress(load.name, load.arrivals.size(), done, running, failed);
        });
    reports.push_back(Summarize(load.name, load.offered, outcomes, objective, flags.long_prompt));
    all_answered &= reports.back().answered == reports.back().requests;
  }
  std::fputs(ReportTable(reports).c_str(), stdout);
  if (flags.json)
    DS_RETURN_IF_ERROR(WriteOutput("--json", *flags.json, ReportJson(reports).dump(2) + "\n"));
  if (flags.plot) {
    const char* axis = flags.concurrency ? "requests at once" : "requests a second";
    DS_RETURN_IF_ERROR(WriteOutput("--plot", *flags.plot, ReportPlot(reports, axis)));
  }
  return all_answered;
}

int Main(int argc, char** argv) {
  CommandLine line("bench_serve",
                   "Puts load on a router and prints throughput, percentiles of latency, goodput "
                   "and errors. Times of an open loop count from the planned arrival. Ends with 0 "
                   "unless a request failed.");
  BenchFlags flags;
  line.Add("--router", &flags.router, "HOST:PORT of the router").HostPort(1);
  line.Add("--rates", &flags.rates, "open loop: requests a second (Poisson), such as 1,2,4");
  line.Add("--concurrency", &flags.concurrency, "closed loop: requests at once, such as 1,8,32");
  line.Add("--trace", &flags.trace,
           "open loop: JSON lines {\"arrival\", \"prompt_tokens\", \"output_tokens\", \"group\"}");
  line.Add("--requests", &flags.requests, "of each load").In(1, 1000000);
  line.Add("--prompt-tokens", &flags.prompt_tokens, "N, A..B (uniform) or exp:MEAN");
  line.Add("--output-tokens", &flags.output_tokens, "the same, of answers");
  line.Add("--groups", &flags.groups, "groups whose prompts share their first half; 0: none");
  line.Add("--slo-first-ms", &flags.first_ms, "good answers: most until the first token; 0: any");
  line.Add("--slo-gap-ms", &flags.gap_ms, "good answers: most between tokens, in the mean; 0: any");
  line.Add("--long-prompt", &flags.long_prompt,
           "also tell the time between tokens while another's prompt of so many runs; 0: do not");
  line.Add("--temperature", &flags.load.temperature, "0 is greedy").In(0, 2);
  line.Add("--timeout", &flags.load.timeout_seconds, "seconds of one request").In(1);
  line.Add("--max-in-flight", &flags.load.max_in_flight, "most requests at once of an open loop")
      .In(1, 4096);
  line.Add("--seed", &flags.seed, "of lengths, arrivals and prompts");
  line.Add("--json", &flags.json, "file that gets the numbers");
  line.Add("--plot", &flags.plot, "file that gets latency against rate, as SVG");
  if (const auto code = line.Parse(argc, argv)) return *code;
  const absl::StatusOr<bool> good = Bench(flags);
  if (!good.ok()) return line.Refuse(good.status());
  return *good ? kExitOk : kExitFailed;
}

}  // namespace
}  // namespace deltaserve::bench

int main(int argc, char** argv) { return deltaserve::bench::Main(argc, argv); }
