// deltaserve-generate: prompts from a file through a model, offline, alone or under mpirun.

#include <cstdio>
#include <cstdlib>
#include <deque>
#include <fstream>
#include <iostream>
#include <thread>

#include "absl/strings/str_cat.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/clock.h"
#include "kernels/base/flags.h"
#include "kernels/base/log.h"
#include "proto/error.h"
#include "tools/generate_lines.h"
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

void AddFlags(CLI::App& app, GenerateOptions* options) {
  AddRankFlags(app, &options->rank);
  app.add_option("--prompts", options->prompts,
                 "JSON lines: id, ids or text, max_tokens, logits_at, logprobs, and sampling "
                 "fields named as in params.proto")
      ->required();
  app.add_option("--output", options->output, "File that gets a JSON line a prompt, in order")
      ->required();
  app.add_option("--default-max-tokens", options->default_max_tokens,
                 "Tokens of an answer where a line says none")
      ->check(CLI::Range(1U, 1U << 30U))
      ->capture_default_str();
  app.add_option("--seed", options->seed, "Where a line has no seed, it gets this plus its number")
      ->capture_default_str();
}

// Collects one request's results; the last call wakes who waits on `batch`.
class Batch;
class LineSink : public RequestSink {
 public:
  LineSink(Batch& batch, size_t index) : batch_(batch), index_(index) {}
  void OnAdmitted() override {}
  void OnLogits(int64_t, std::span<const float> logits) override {
    result_.logits.emplace_back(logits.begin(), logits.end());
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

// The lines in flight and the answers, written in the order of the prompts.
class Batch {
 public:
  Batch(const LineReader& reader, std::ostream& out) : reader_(reader), out_(out) {}

  // Reads, submits and waits; returns how many lines failed. A thread other than the engine's.
  int64_t Run(std::istream& in, Engine& engine) {
    std::string line;
    while (std::getline(in, line)) {
      if (line.find_first_not_of(" \t\r") == std::string::npos) continue;
      Submit(line, engine);
    }
    absl::MutexLock lock(&mutex_);
    mutex_.Await(absl::Condition(
        +[](Batch* batch) { return batch->open_ == 0; }, this));
    Flush();
    return failed_;
  }

  void Finish(size_t index, absl::StatusOr<LineResult> result) {
    absl::MutexLock lock(&mutex_);
    Entry& entry = entries_[index];
    if (result.ok()) {
      entry.answer = WriteLine(entry.id, entry.line, *result, reader_);
    } else {
      entry.answer = WriteErrorLine(entry.id, result.status());
      ++failed_;
    }
    entry.line = ParsedLine();
    --open_;
    Flush();
  }

 private:
  struct Entry {
    std::string id;
    ParsedLine line;
    std::string answer;
  };

  void Submit(const std::string& text, Engine& engine) {
    size_t index = 0;
    {
      absl::MutexLock lock(&mutex_);
      index = entries_.size();
      entries_.push_back({.id = LineId(text), .line = {}, .answer = {}});
      ++open_;
    }
    auto line = ReadLine(text, static_cast<int64_t>(index) + 1, reader_);
    if (!line.ok()) return Finish(index, line.status());
    {
      absl::MutexLock lock(&mutex_);
      entries_[index].line = *line;
    }
    auto sink = std::make_shared<LineSink>(*this, index);
    while (true) {
      Changed changed{this, open()};
      const auto ticket = engine.Submit(line->request, sink);
      if (ticket.ok()) return;
      if (DetailOf(ticket.status()).code() != v1::ERROR_CODE_QUEUE_FULL) {
        return Finish(index, ticket.status());
      }
      // The queue has room again once an earlier line has ended.
      absl::MutexLock lock(&mutex_);
      mutex_.Await(absl::Condition(&changed, &Changed::Now));
    }
  }

  int64_t open() {
    absl::MutexLock lock(&mutex_);
    return open_;
  }

  struct Changed {
    Batch* batch;
    int64_t before;
    bool Now() { return batch->open_ < before; }
  };

  // Writes the answers whose predecessors are all written. mutex_ held.
  void Flush() {
    while (written_ < entries_.size() && !entries_[written_].answer.empty()) {
      out_ << entries_[written_].answer << "\n";
      entries_[written_].answer.clear();
      ++written_;
    }
    out_.flush();
  }

  const LineReader& reader_;
  std::ostream& out_;
  absl::Mutex mutex_;
  std::deque<Entry> entries_;
  size_t written_ = 0;
  int64_t open_ = 0;
  int64_t failed_ = 0;
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

int Refuse(const std::string& message) {
  std::fprintf(stderr, "deltaserve-generate: %s\n", message.c_str());
  return kExitUsage;
}

int GenerateOnRankZero(const GenerateOptions& options, Rank& rank) {
  auto engine = Engine::Create(rank.executor(), rank.channel(), rank.link(), rank.watchdog());
  std::ifstream in(options.prompts);
  std::ofstream out(options.output, std::ios::trunc);
  auto reader = MakeReader(options, rank, engine->capacity());
  std::string trouble;
  if (!in) trouble = "--prompts is " + options.prompts + ": it cannot be read";
  if (trouble.empty() && !out) {
    trouble = "--output is " + options.output + ": it cannot be written";
  }
  if (trouble.empty() && !reader.ok()) trouble = std::string(reader.status().message());
  int64_t failed = 0;
  std::thread feeder([&] {
    if (trouble.empty()) failed = Batch(*reader, out).Run(in, *engine);
    engine->BeginDrain(absl::InfiniteFuture(), false);
  });
  const int code = rank.RunEngine(*engine);
  feeder.join();
  if (!trouble.empty()) return Refuse(trouble);
  if (!out.flush()) return Refuse("--output is " + options.output + ": writing failed");
  if (failed > 0) LogWarning("{} lines failed; see their error in {}", failed, options.output);
  return code;
}

int Main(int argc, char** argv) {
  GenerateOptions options;
  CommandLine flags(
      "generate",
      "Generates for prompts from a file, offline, alone or under mpirun.\n"
      "Example: deltaserve-generate --model DIR --prompts in.jsonl --output out.jsonl");
  AddFlags(flags.app(), &options);
  const char* number = std::getenv("OMPI_COMM_WORLD_RANK");
  if (const auto code = flags.Parse(argc, argv, number == nullptr || std::string(number) == "0")) {
    return *code;
  }
  InitLogging(options.rank.log_level, "");
  auto world = MpiWorld::Create(&argc, &argv);
  if (!world.ok()) return flags.Refuse(world.status());
  const RankInfo& info = (*world)->info();
  InitLogging(options.rank.log_level, absl::StrCat("rank ", info.rank));
  LastWords::Options words;
  words.program = "deltaserve-generate";
  LastWords last_words(info, words);
  EngineOptions engine;
  engine.prompt_logits = true;
  int speaker = 0;
  auto rank = Rank::Create(options.rank, engine, **world, last_words, &speaker);
  if (!rank.ok()) return flags.Refuse(rank.status(), speaker == info.rank);
  return info.rank == 0 ? GenerateOnRankZero(options, **rank) : (*rank)->RunFollower();
}

}  // namespace
}  // namespace deltaserve

int main(int argc, char** argv) { return deltaserve::Main(argc, argv); }
