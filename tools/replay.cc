// deltaserve-replay: runs the recorded plans of a world again and compares what they give, or
// prints them.

#include "worker/replay/replay.h"

#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <limits>
#include <memory>
#include <optional>
#include <sstream>
#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "kernels/base/flags.h"
#include "kernels/base/log.h"
#include "kernels/base/status_macros.h"
#include "tools/replay_text.h"
#include "worker/rank.h"
#include "worker/replay/recording.h"

namespace deltaserve {
namespace {

constexpr int kExitDifferent = 1;

struct Options {
  RankOptions rank;
  std::string file;
  std::optional<std::string> model, load;
  bool per_op = false;
  bool checksums = false;
  bool show = false;
  std::string steps;
};

void AddFlags(CommandLine& line, Options* options) {
  line.Add("file", &options->file, "A recording of deltaserve-worker --record-plans").Required();
  line.Add("--show", &options->show,
           "Print the plans, every prompt and answer in them, and run nothing: needs no model");
  line.Add("--steps", &options->steps, "With --show: only steps A..B");
  line.Add("--per-op", &options->per_op,
           "Compare the output of every op too and name the first that differs; needs a recording "
           "made with --record-ops");
  line.Add("--checksums", &options->checksums,
           "Compare logits and slot tables also where build or device is another");
  line.Add("--model", &options->model, "Model folder, where it is not the recorded one");
  line.Add("--load", &options->load, "As the worker's, where it is not the recorded one");
  AddPlaceFlags(line, &options->rank);
}

struct StepRange {
  uint64_t first = 1;
  uint64_t last = std::numeric_limits<uint64_t>::max();
};

absl::StatusOr<StepRange> ParseSteps(const Options& options) {
  StepRange range;
  if (options.steps.empty()) return range;
  const size_t dots = options.steps.find("..");
  if (!options.show) {
    return absl::InvalidArgumentError("--steps is given without --show; a replay runs every step");
  }
  if (dots == std::string::npos || !absl::SimpleAtoi(options.steps.substr(0, dots), &range.first) ||
      !absl::SimpleAtoi(options.steps.substr(dots + 2), &range.last) || range.first < 1 ||
      range.last < range.first) {
    return absl::InvalidArgumentError(
        absl::StrCat("--steps is ", options.steps, "; use A..B with 1 <= A <= B"));
  }
  return range;
}

absl::Status Show(const Options& options) {
  DS_ASSIGN_OR_RETURN(const StepRange range, ParseSteps(options));
  DS_ASSIGN_OR_RETURN(const auto recording, RecordingReader::OpenFile(options.file));
  std::fputs(HeaderText(recording->header()).c_str(), stdout);
  while (true) {
    DS_ASSIGN_OR_RETURN(const std::optional<RecordedStep> step, recording->Next());
    if (!step.has_value() || step->step > range.last) break;
    if (step->step >= range.first) std::fputs(StepText(*step).c_str(), stdout);
  }
  if (recording->num_cut_bytes() > 0) {
    std::printf("warning: the last %llu bytes are no whole record\n",
                static_cast<unsigned long long>(recording->num_cut_bytes()));
  }
  return absl::OkStatus();
}

// Rank 0's recording on every rank, which need not have the file.
absl::StatusOr<RecordingHeader> ShareHeader(const Options& options,
                                            MpiWorld& world,
                                            std::unique_ptr<RecordingReader>* recording,
                                            int* speaker) {
  const auto open = [&]() -> absl::Status {
    DS_RETURN_IF_ERROR(ParseSteps(options).status());
    if (world.info().rank != 0) return absl::OkStatus();
    DS_ASSIGN_OR_RETURN(*recording, RecordingReader::OpenFile(options.file));
    return absl::OkStatus();
  };
  DS_RETURN_IF_ERROR(world.AgreeOnStatus(open(), speaker));
  std::vector<uint8_t> bytes;
  if (world.info().rank == 0) AppendHeader((*recording)->header(), &bytes);
  auto stream = std::make_unique<std::istringstream>(
      world.BroadcastFromZero(std::string(bytes.begin(), bytes.end())));
  DS_ASSIGN_OR_RETURN(const auto header, RecordingReader::Open(options.file, std::move(stream)));
  return header->header();
}

absl::Status CheckAsked(const Options& options, const RecordingHeader& header, int ranks) {
  if (options.per_op && !header.ops) {
    return absl::InvalidArgumentError(
        absl::StrCat("--per-op: ", options.file,
                     " was recorded without checksums of ops; record with --record-ops"));
  }
  if (header.ranks != ranks) {
    return absl::InvalidArgumentError(absl::StrCat(options.file, " is of ", header.ranks,
                                                   " ranks, this world has ", ranks,
                                                   "; use mpirun -n ", header.ranks));
  }
  return absl::OkStatus();
}

// The flags of the recorded world, in the place that the command line says.
RankOptions LikeRecorded(const Options& options, const RecordingHeader& header) {
  RankOptions rank = options.rank;
  rank.model = options.model.value_or(header.model);
  rank.load = options.load.value_or(header.load);
  rank.moe = header.moe;
  rank.linear_attention = header.linear_attention;
  rank.quantize = header.quantize;
  rank.kv_memory = header.kv_memory;
  rank.slots = header.slots;
  rank.token_budget = header.token_budget;
  rank.max_context = header.max_context;
  rank.checksum_ops = options.per_op;
  return rank;
}

int ReplayOnRankZero(const Options& options, RecordingReader& recording, Rank& rank) {
  const bool same_numerics = rank.numerics_fingerprint() == recording.header().numerics;
  const ReplayOptions replay = {.checksums = same_numerics || options.checksums || options.per_op,
                                .ops = options.per_op ? rank.op_checksums() : nullptr};
  StepRunner runner(rank.executor(), rank.channel(), rank.link(), rank.watchdog());
  const auto report = Replay(recording, runner, rank.executor(), rank.device(), replay);
  const int code = rank.End(report.status());
  if (code != 0) return code;
  std::printf("%s: %s", options.file.c_str(), ReportText(*report, replay).c_str());
  if (!same_numerics) {
    std::printf("  recorded with numerics %s, run with %s: %s\n",
                recording.header().numerics.c_str(), rank.numerics_fingerprint().c_str(),
                replay.checksums ? "checksums may differ"
                                 : "only tokens were compared; --checksums compares all");
  }
  return report->identical() ? kExitOk : kExitDifferent;
}

int Main(int argc, char** argv) {
  Options options;
  CommandLine flags("replay",
                    "Runs the plans that a world recorded again, on as many ranks, and compares "
                    "what each step gives: tokens, logits and slot tables.\n"
                    "Exit code: 0 identical, 1 different or damaged.\n"
                    "Example: mpirun -n 2 deltaserve-replay plans.rec");
  AddFlags(flags, &options);
  const char* number = std::getenv("OMPI_COMM_WORLD_RANK");
  if (const auto code = flags.Parse(argc, argv, number == nullptr || std::string(number) == "0")) {
    return *code;
  }
  InitLogging(options.rank.log_level, "");
  if (options.show) {
    const absl::Status shown = Show(options);
    return shown.ok() ? kExitOk : flags.Refuse(shown);
  }
  auto world = MpiWorld::Create(&argc, &argv);
  if (!world.ok()) return flags.Refuse(world.status());
  const RankInfo& info = (*world)->info();
  InitLogging(options.rank.log_level, absl::StrCat("rank ", info.rank));
  std::unique_ptr<RecordingReader> recording;
  int speaker = 0;
  const auto header = ShareHeader(options, **world, &recording, &speaker);
  if (!header.ok()) return flags.Refuse(header.status(), speaker == info.rank);
  const absl::Status asked = CheckAsked(options, *header, info.size);
  if (!asked.ok()) return flags.Refuse(asked, info.rank == 0);
  LastWords::Options words;
  words.program = "deltaserve-replay";
  LastWords last_words(info, words);
  EngineOptions engine;
  engine.prompt_logits = header->prompt_logits;
  auto rank = Rank::Create(LikeRecorded(options, *header), engine, **world, last_words, &speaker);
  absl::Status ready = rank.status();
  if (ready.ok()) {
    ready = CheckReplays(*header, (*rank)->executor().capacity(), (*rank)->weights_fingerprint());
    speaker = 0;
  }
  if (!ready.ok()) {
    // Most of the flags of this world are the file's.
    ready = absl::Status(
        ready.code(),
        absl::StrCat(options.file, " cannot be replayed here: ", std::string(ready.message())));
    flags.Refuse(ready, speaker == info.rank);
    return StartExitCode(ready);
  }
  return info.rank == 0 ? ReplayOnRankZero(options, *recording, **rank) : (*rank)->RunFollower();
}

}  // namespace
}  // namespace deltaserve

int main(int argc, char** argv) { return deltaserve::Main(argc, argv); }
