// deltaserve-generate: prompts from a file through a model, offline, alone or under mpirun.

#include <cstdio>
#include <cstdlib>
#include <deque>
#include <filesystem>
#include <fstream>
#include <optional>
#include <thread>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/clock.h"
#include "kernels/base/flags.h"
#include "kernels/base/log.h"
#include "proto/error.h"
#include "tools/generate_lines.h"
#include "tools/json_lines.h"
#include "worker/engine/engine_loop.h"
#include "worker/rank.h"

namespace deltaserve {
namespace {

struct GenerateOptions {
  RankOptions rank;
  std::string prompts;
  std::string output;
  uint32_t default_max_tokens = 4096;
  uint64_t seed = 0;
};

void AddFlags(CommandLine& line, GenerateOptions* options) {
  AddRankFlags(line, &options->rank);
  line.Add("--prompts", &options->prompts,
           "JSON lines: id, ids or text, max_tokens, logits_at, logprobs, prompt_logprobs, and "
           "other fields named as in params.proto")
      .Required();
  line.Add("--output", &options->output, "File that gets a JSON line a prompt, in order")
      .Required();
  line.Add("--default-max-tokens", &options->default_max_tokens,
           "Tokens of an answer where a line says none")
      .In(1, 1 << 30);
  line.Add("--seed", &options->seed, "Where a line has no seed, it gets this plus its number");
}

class Batch;

// Collects one request's results and hands them to the batch.
class LineSink : public RequestSink {
 public:
  LineSink(Batch& batch, size_t index) : batch_(batch), index_(index) {}
  void OnAdmitted() override {}
  void OnLogits(int64_t, std::span<const float> logits) override {
    result_.logits.emplace_back(logits.begin(), logits.end());
  }
  void OnPromptScores(int64_t, std::span<const TokenLogProb> scores) override {
    result_.prompt_logprobs.insert(result_.prompt_logprobs.end(), scores.begin(), scores.end());
  }
  void OnTokens(uint32_t,
                std::span<const int32_t> ids,
                std::span<const TokenLogProb> logprobs) override {
    result_.tokens.insert(result_.tokens.end(), ids.begin(), ids.end());
    result_.logprobs.insert(result_.logprobs.end(), logprobs.begin(), logprobs.end());
  }
  void OnEnded(const Ended& ended) override;
  void OnError(const absl::Status& status) override;

 private:
  Batch& batch_;
  const size_t index_;
  LineResult result_;
};

// The lines in flight. Run: a thread other than the engine's, which alone formats and writes, so
// that the engine never waits for the output; Finish: any.
class Batch {
 public:
  Batch(const LineReader& reader, std::ostream& out) : reader_(reader), out_(out) {}

  // Reads, submits, waits and writes the answers in the order of the prompts; how many lines
  // failed.
  int64_t Run(std::istream& in, Engine& engine) {
    std::string line;
    while (std::getline(in, line)) {
      if (line.find_first_not_of(" \t\r") == std::string::npos) continue;
      Submit(line, engine);
      WriteReady();
    }
    while (written_ < num_lines()) {
      AwaitFirst();
      WriteReady();
    }
    out_.flush();
    return failed_;
  }

  void Finish(size_t index, absl::StatusOr<LineResult> result) {
    absl::MutexLock lock(&mutex_);
    entries_[index].result = std::move(result);
  }

 private:
  struct Entry {
    std::string id;
    ParsedLine line;
    std::optional<absl::StatusOr<LineResult>> result;
  };

  size_t num_lines() {
    absl::MutexLock lock(&mutex_);
    return entries_.size();
  }

  bool FirstReady() const { return entries_[written_].result.has_value(); }

  // Blocks until the first line that is not written has its result.
  void AwaitFirst() {
    absl::MutexLock lock(&mutex_);
    mutex_.Await(absl::Condition(this, &Batch::FirstReady));
  }

  void Submit(const std::string& text, Engine& engine) {
    auto line = ReadLine(text, static_cast<int64_t>(num_lines()) + 1, reader_);
    size_t index = 0;
    {
      absl::MutexLock lock(&mutex_);
      index = entries_.size();
      Entry& entry = entries_.emplace_back();
      entry.id = LineId(text);
      if (line.ok()) entry.line = *line;
    }
    if (!line.ok()) return Finish(index, line.status());
    const auto sink = std::make_shared<LineSink>(*this, index);
    while (true) {
      const auto ticket = engine.Submit(line->request, sink);
      if (ticket.ok()) return;
      if (DetailOf(ticket.status()).code() != v1::ERROR_CODE_QUEUE_FULL) {
        return Finish(index, ticket.status());
      }
      // A full queue holds earlier lines only, so the first of them ends; then there is room.
      AwaitFirst();
      WriteReady();
    }
  }

  // Takes the next line in order where it has its result.
  std::optional<Entry> TakeReady() {
    absl::MutexLock lock(&mutex_);
    if (written_ == entries_.size() || !FirstReady()) return std::nullopt;
    return std::exchange(entries_[written_++], Entry());
  }

  void WriteReady() {
    while (const std::optional<Entry> entry = TakeReady()) {
      if (entry->result->ok()) {
        out_ << WriteLine(entry->id, entry->line, **entry->result, reader_) << "\n";
      } else {
        out_ << WriteErrorLine(entry->id, entry->result->status()) << "\n";
        ++failed_;
      }
    }
  }

  const LineReader& reader_;
  std::ostream& out_;
  absl::Mutex mutex_;
  std::deque<Entry> entries_;  // guarded by mutex_; Run's thread alone adds
  size_t written_ = 0;         // Run's thread
  int64_t failed_ = 0;         // Run's thread
};

void LineSink::OnEnded(const Ended& ended) {
  result_.ended = ended;
  batch_.Finish(index_, std::move(result_));
}

void LineSink::OnError(const absl::Status& status) { batch_.Finish(index_, status); }

absl::StatusOr<LineReader> MakeReader(const GenerateOptions& options,
                                      Rank& rank,
                                      const EngineCapacity& capacity) {
  LineReader reader;
  reader.capacity = capacity;
  reader.default_max_tokens = options.default_max_tokens;
  reader.default_seed = options.seed;
  reader.info.model_id = "model";
  reader.info.weights_fingerprint = rank.weights_fingerprint();
  v1::ServedModel* model = reader.facts.description.add_models();
  model->set_id(reader.info.model_id);
  model->set_weights_fingerprint(rank.weights_fingerprint());
  model->set_max_context(static_cast<uint32_t>(capacity.max_context));
  model->set_num_tokens(static_cast<uint32_t>(capacity.num_tokens));
  for (const int32_t id : rank.text().eos_token_ids) {
    model->add_eos_token_ids(static_cast<uint32_t>(id));
  }
  auto text = std::make_shared<ModelText>();
  const TextAssets assets{rank.text().files};
  auto defaults = GenerationDefaults::Parse(assets.Bytes(kGenerationConfigFile));
  if (!defaults.ok()) return defaults.status();
  text->defaults = *std::move(defaults);
  if (!assets.Bytes(kTokenizerFile).empty()) {
    auto tokenizer = assets.MakeTokenizer();
    if (!tokenizer.ok()) return tokenizer.status();
    text->tokenizer = *std::move(tokenizer);
  }
  reader.facts.text = std::move(text);
  return reader;
}

// The files of rank 0, opened before a weight is read.
struct Files {
  std::ifstream in;
  std::ofstream out;
};

absl::Status OpenFiles(const GenerateOptions& options, Files* files) {
  files->in.open(options.prompts);
  if (!files->in) {
    return absl::InvalidArgumentError("--prompts is " + options.prompts +
                                      ": it cannot be read; give a file of JSON lines");
  }
  std::error_code none;
  if (std::filesystem::equivalent(options.prompts, options.output, none)) {
    return absl::InvalidArgumentError("--output is " + options.output +
                                      ": that is the file of --prompts; give another");
  }
  files->out.open(options.output, std::ios::trunc);
  if (!files->out) {
    return absl::InvalidArgumentError(
        "--output is " + options.output +
        ": it cannot be written; give a file in a folder that exists");
  }
  return absl::OkStatus();
}

int GenerateOnRankZero(const GenerateOptions& options,
                       Files& files,
                       const CommandLine& flags,
                       Rank& rank) {
  auto engine = Engine::Create(rank.executor(), rank.channel(), rank.link(), rank.watchdog());
  const auto reader = MakeReader(options, rank, engine->capacity());
  int64_t failed = 0;
  std::thread feeder([&] {
    if (reader.ok()) failed = Batch(*reader, files.out).Run(files.in, *engine);
    engine->BeginDrain(absl::InfiniteFuture(), false);
  });
  const int code = rank.RunEngine(*engine);
  feeder.join();
  if (!reader.ok()) return flags.Refuse(reader.status());
  if (!files.out.flush()) {
    return flags.Refuse(absl::DataLossError("--output is " + options.output +
                                            ": writing failed; see that its disk has room"));
  }
  if (failed > 0) LogWarning("{} lines failed; see their error in {}", failed, options.output);
  return code;
}

int Main(int argc, char** argv) {
  GenerateOptions options;
  CommandLine flags(
      "generate",
      "Generates for prompts from a file, offline, alone or under mpirun.\n"
      "Example: deltaserve-generate --model DIR --prompts in.jsonl --output out.jsonl");
  AddFlags(flags, &options);
  const char* number = std::getenv("OMPI_COMM_WORLD_RANK");
  if (const auto code = flags.Parse(argc, argv, number == nullptr || std::string(number) == "0")) {
    return *code;
  }
  InitLogging(options.rank.log_level, "");
  auto world = MpiWorld::Create(&argc, &argv);
  if (!world.ok()) return flags.Refuse(world.status());
  const RankInfo& info = (*world)->info();
  InitLogging(options.rank.log_level, absl::StrCat("rank ", info.rank));
  Files files;
  int speaker = 0;
  const absl::Status opened = (*world)->AgreeOnStatus(
      info.rank == 0 ? OpenFiles(options, &files) : absl::OkStatus(), &speaker);
  if (!opened.ok()) return flags.Refuse(opened, speaker == info.rank);
  LastWords::Options words;
  words.program = "deltaserve-generate";
  LastWords last_words(info, words);
  EngineOptions engine;
  engine.prompt_logits = true;
  auto rank = Rank::Create(options.rank, engine, **world, last_words, &speaker);
  if (!rank.ok()) {
    flags.Refuse(rank.status(), speaker == info.rank);
    return StartExitCode(rank.status());
  }
  return info.rank == 0 ? GenerateOnRankZero(options, files, flags, **rank)
                        : (*rank)->RunFollower();
}

}  // namespace
}  // namespace deltaserve

int main(int argc, char** argv) { return deltaserve::Main(argc, argv); }
