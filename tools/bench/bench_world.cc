// deltaserve-bench_world: times the steps of a world, alone or under mpirun, without a network in
// between, and says how close they come to the machine.

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <iterator>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_split.h"
#include "kernels/base/build_info.h"
#include "kernels/base/flags.h"
#include "kernels/base/log.h"
#include "kernels/base/status_macros.h"
#include "tools/bench/limits.h"
#include "tools/bench/measurement.h"
#include "tools/bench/resident_memory.h"
#include "tools/bench/roofline.h"
#include "tools/bench/world_cases.h"
#include "tools/output_file.h"
#include "worker/engine/follower.h"
#include "worker/rank.h"

namespace deltaserve::bench {
namespace {

struct BenchFlags {
  RankOptions rank;
  std::string prompts = "128,512,4096", depths = "0,4096", batches = "1,2,4,8,16,32";
  WorldCases cases;
  int64_t read_bytes = kReadBytes;
  std::optional<std::string> json, svg;
};

void AddFlags(CommandLine& line, BenchFlags* flags) {
  // What a server would choose by itself, so that runs can be compared.
  flags->rank.slots = 32;
  flags->rank.token_budget = 512;
  flags->rank.kv_memory = int64_t{4} << 30;
  flags->rank.log_level = "warn";
  AddRankFlags(line, &flags->rank);
  line.Add("--prompts", &flags->prompts, "tokens of prompts to time; empty: none");
  line.Add("--depths", &flags->depths, "tokens before decodes to time; empty: no decodes");
  line.Add("--batches", &flags->batches, "decodes at once, at each depth, ascending");
  line.Add("--seconds", &flags->cases.seconds, "for each prompt and batch").In(0, 3600);
  line.Add("--fill-seconds", &flags->cases.fill_seconds,
           "most for the prompts before decodes at a depth; batches that take more are left out")
      .In(0, 86400);
  line.AddBytes("--read-bytes", &flags->read_bytes,
                "bytes that the ranks of a host together measure the limit of reads with (default "
                "1G); caches hold less");
  line.Add("--json", &flags->json, "file of rank 0 that gets the numbers");
  line.Add("--svg", &flags->svg, "file of rank 0 that gets them as a roofline");
}

absl::StatusOr<std::vector<int64_t>> Numbers(const char* flag,
                                             const std::string& text,
                                             int64_t least) {
  std::vector<int64_t> numbers;
  for (const auto part : absl::StrSplit(text, ',', absl::SkipEmpty())) {
    int64_t number = 0;
    if (!absl::SimpleAtoi(part, &number) || number < least || number > 1 << 20 ||
        (!numbers.empty() && number <= numbers.back())) {
      return absl::InvalidArgumentError(absl::StrCat(
          flag, " is ", text, ": write whole numbers from ", least, " on, ascending, such as 1,8"));
    }
    numbers.push_back(number);
  }
  return numbers;
}

absl::Status ReadCases(BenchFlags& flags) {
  DS_ASSIGN_OR_RETURN(flags.cases.prompts, Numbers("--prompts", flags.prompts, 1));
  DS_ASSIGN_OR_RETURN(flags.cases.depths, Numbers("--depths", flags.depths, 0));
  DS_ASSIGN_OR_RETURN(flags.cases.batches, Numbers("--batches", flags.batches, 1));
  if (!flags.cases.batches.empty() && flags.cases.batches.back() > flags.rank.slots) {
    return absl::InvalidArgumentError(absl::StrCat("--batches is ", flags.batches, ": --slots is ",
                                                   flags.rank.slots, "; use as many slots"));
  }
  if (!flags.rank.record_plans.empty() || flags.rank.record_ops) {
    return absl::InvalidArgumentError(
        "--record-plans and --record-ops would be measured too; leave them out");
  }
  return absl::OkStatus();
}

// One number of every rank.
std::vector<double> Gather(MpiWorld& world, double mine) {
  std::vector<double> all;
  for (const std::string& text : world.AllGather(absl::StrFormat("%.17g", mine))) {
    all.push_back(std::strtod(text.c_str(), nullptr));
  }
  return all;
}

constexpr double kNoMore = -1;

// Everything of one process of the bench. Main thread.
class WorldBench {
 public:
  WorldBench(const BenchFlags& flags, MpiWorld& world, Rank& rank)
      : flags_(flags), world_(world), rank_(rank), pool_(rank.num_threads()) {}

  // Collective: prompts, then decodes of each depth.
  absl::Status Run() {
    DS_ASSIGN_OR_RETURN(const WorldShape shape, Shape());
    StepRunner runner(rank_.executor(), rank_.channel(), rank_.link(), rank_.watchdog());
    WorldTimer timer(runner, rank_.executor(), shape,
                     [&](double seconds) -> absl::StatusOr<Limits> {
                       DS_RETURN_IF_ERROR(runner.Run({.kind = PlanKind::kStop}).status());
                       return MeasureAllLimits(seconds);
                     });
    // Ranks read at the same time, so each needs only its part of what caches cannot hold.
    if (rank_.device().HostAddressable()) {
      meter_.emplace(pool_, flags_.read_bytes / world_.info().local_size);
    }
    DS_RETURN_IF_ERROR(
        RunPhase(runner, [&] { return timer.TimePrompts(flags_.cases, &left_out_); }));
    for (const int64_t depth : flags_.cases.depths) {
      DS_RETURN_IF_ERROR(
          RunPhase(runner, [&] { return timer.TimeDecodes(flags_.cases, depth, &left_out_); }));
    }
    peak_bytes_ = Gather(world_, static_cast<double>(memory_.most_bytes()));
    return absl::OkStatus();
  }

  // Rank 0, after Run().
  absl::Status Report(double load_seconds) const {
    const Limits limits = MedianOf(limits_);
    const std::string title =
        absl::StrCat(flags_.rank.model, ", ", world_.info().size, " ranks x ", pool_.num_threads(),
                     " threads, ", rank_.device().Name());
    std::printf("%s\n%s\nloaded in %.1f s; most memory of a rank %.3f GB\n%s", title.c_str(),
                LimitsText(limits).c_str(), load_seconds,
                *std::max_element(peak_bytes_.begin(), peak_bytes_.end()) / 1e9,
                MeasurementTable(all_).c_str());
    for (const std::string& line : left_out_) std::printf("%s\n", line.c_str());
    if (flags_.svg) {
      DS_RETURN_IF_ERROR(WriteOutput("--svg", *flags_.svg, RooflineSvg(title, limits, all_)));
    }
    if (!flags_.json) return absl::OkStatus();
    return WriteOutput(
        "--json", *flags_.json,
        MeasurementJson({{"tool", "bench_world"},
                         {"build", GetBuildInfo().build_id},
                         {"device", rank_.device().Name()},
                         {"model", flags_.rank.model},
                         {"load", flags_.rank.load},
                         {"ranks", static_cast<double>(world_.info().size)},
                         {"threads", static_cast<double>(pool_.num_threads())},
                         {"token_budget", static_cast<double>(rank_.executor().token_budget_cap())},
                         {"load_seconds", load_seconds},
                         {"peak_memory_bytes", peak_bytes_}},
                        limits, all_));
  }

 private:
  absl::StatusOr<WorldShape> Shape() const {
    WorldShape shape{.config = rank_.config(),
                     .numerics = rank_.device().numerics(),
                     .quantization = rank_.executor().options().quantization,
                     .plans = {}};
    for (int rank = 0; rank < world_.info().size; ++rank) {
      DS_ASSIGN_OR_RETURN(const ShardPlan plan,
                          ShardPlan::Create(shape.config, rank_.plan().options(), rank));
      shape.plans.push_back(plan);
    }
    return shape;
  }

  // Collective: what the ranks reach when all of them try at once. `seconds` is rank 0's, which
  // says to the others by kNoMore that they need not come again.
  Limits MeasureAllLimits(double seconds) {
    seconds = Gather(world_, seconds)[0];  // none begins before all are here
    if (seconds == kNoMore) return {};
    const Limits mine = meter_ ? meter_->Measure(seconds) : Limits();
    const auto sum = [&](double value) {
      double all = 0;
      for (const double one : Gather(world_, value)) all += one;
      return all;
    };
    return limits_.emplace_back(Limits{.read_bytes = sum(mine.read_bytes),
                                       .fma_flops = sum(mine.fma_flops),
                                       .int8_operations = sum(mine.int8_operations)});
  }

  // Collective: rank 0 times, the others follow and measure limits with it until it has.
  absl::Status RunPhase(StepRunner& runner,
                        const std::function<absl::StatusOr<std::vector<Measurement>>()>& time) {
    if (world_.info().rank == 0) {
      DS_ASSIGN_OR_RETURN(std::vector<Measurement> measured, time());
      DS_RETURN_IF_ERROR(runner.Run({.kind = PlanKind::kStop}).status());
      MeasureAllLimits(kNoMore);
      std::move(measured.begin(), measured.end(), std::back_inserter(all_));
    } else {
      size_t before = 0;
      do {
        before = limits_.size();
        DS_RETURN_IF_ERROR(
            RunFollower(rank_.executor(), rank_.channel(), rank_.link(), rank_.watchdog()));
        MeasureAllLimits(0);
      } while (limits_.size() > before);
    }
    memory_.Note(meter_ ? meter_->bytes() : 0);
    return absl::OkStatus();
  }

  const BenchFlags& flags_;
  MpiWorld& world_;
  Rank& rank_;
  ThreadPool pool_;
  std::optional<LimitMeter> meter_;  // where the limits of the device are the host's
  ResidentMemory memory_;
  std::vector<Limits> limits_;
  std::vector<Measurement> all_;
  std::vector<std::string> left_out_;
  std::vector<double> peak_bytes_;
};

int Main(int argc, char** argv) {
  BenchFlags flags;
  CommandLine line("bench_world",
                   "Times prompts and decodes of a model on one or more ranks, without a router, "
                   "and prints the share of what the machine can do that each reaches; the "
                   "machine's limits are measured by all ranks at once, between runs.\n"
                   "Example: deltaserve-bench_world --model M --load=random:1 --threads 2\n"
                   "Example: mpirun -n 2 deltaserve-bench_world --model M --threads 1");
  AddFlags(line, &flags);
  const char* number = std::getenv("OMPI_COMM_WORLD_RANK");
  const bool prints = number == nullptr || std::string(number) == "0";
  if (const auto code = line.Parse(argc, argv, prints)) return *code;
  if (const absl::Status good = ReadCases(flags); !good.ok()) return line.Refuse(good, prints);
  auto world = MpiWorld::Create(&argc, &argv);
  if (!world.ok()) return line.Refuse(world.status());
  const RankInfo& info = (*world)->info();
  InitLogging(flags.rank.log_level, absl::StrCat("rank ", info.rank));
  LastWords::Options words;
  words.program = "deltaserve-bench_world";
  LastWords last_words(info, words);
  int speaker = 0;
  const auto begin = std::chrono::steady_clock::now();
  const auto rank = Rank::Create(flags.rank, {}, **world, last_words, &speaker);
  if (!rank.ok()) {
    line.Refuse(rank.status(), speaker == info.rank);
    return StartExitCode(rank.status());
  }
  const std::chrono::duration<double> load = std::chrono::steady_clock::now() - begin;
  WorldBench bench(flags, **world, **rank);
  const absl::Status ran = bench.Run();
  const int code = (*rank)->End(ran);
  if (code != 0 || info.rank != 0) return code;
  const absl::Status reported = bench.Report(load.count());
  return reported.ok() ? kExitOk : line.Refuse(reported);
}

}  // namespace
}  // namespace deltaserve::bench

int main(int argc, char** argv) { return deltaserve::bench::Main(argc, argv); }
