// OpenCheckpoint of weight_loader.h.

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstring>
#include <optional>
#include <utility>

#include "absl/functional/function_ref.h"
#include "absl/strings/str_cat.h"
#include "absl/synchronization/mutex.h"
#include "kernels/base/log.h"
#include "kernels/base/status_macros.h"
#include "kernels/base/thread_pool.h"
#include "worker/checkpoint/read_plan.h"
#include "worker/checkpoint/sha256.h"
#include "worker/checkpoint/table_match.h"
#include "worker/checkpoint/weight_loader.h"

namespace deltaserve {
namespace {

using Clock = std::chrono::steady_clock;

constexpr int64_t kSampledBytes = 4096;

// Counts what readers read and tells the caller about once a second. Advance from any reader; only
// thread 0 reports.
class ProgressMeter {
 public:
  ProgressMeter(int64_t total, const std::function<void(const LoadProgress&)>& report)
      : total_(total), report_(report), start_(Clock::now()), last_(start_) {}

  void Advance(int64_t bytes, int thread) {
    read_.fetch_add(bytes, std::memory_order_relaxed);
    if (thread != 0 || !report_ || Clock::now() - last_ < std::chrono::seconds(1)) return;
    last_ = Clock::now();
    report_(Now());
  }

  LoadProgress Finish() {
    if (report_) report_(Now());
    return Now();
  }

 private:
  LoadProgress Now() const {
    return {.bytes_read = read_.load(std::memory_order_relaxed),
            .bytes_total = total_,
            .seconds = std::chrono::duration<double>(Clock::now() - start_).count()};
  }

  const int64_t total_;
  const std::function<void(const LoadProgress&)>& report_;
  const Clock::time_point start_;
  Clock::time_point last_;  // of thread 0
  std::atomic<int64_t> read_{0};
};

class CheckpointSource final : public WeightSource {
 public:
  CheckpointSource(CheckpointFiles files,
                   const ModelConfig& config,
                   const ShardPlan& plan,
                   const LoaderOptions& options)
      : files_(std::move(files)),
        tied_(config.tie_word_embeddings),
        plan_(plan),
        options_(options) {}

  absl::Status Open(const ModelConfig& config, std::vector<WeightSpec> table) {
    DS_ASSIGN_OR_RETURN(match_, MatchTable(files_, config, std::move(table)));
    if (plan_.rank() == 0) LogOddities();
    if (options_.fingerprint) {
      DS_ASSIGN_OR_RETURN(fingerprint_, Fingerprint(config));
    }
    return absl::OkStatus();
  }

  absl::StatusOr<std::vector<WeightItem>> Begin(ThreadPool& readers) override {
    DS_RETURN_IF_ERROR(SettleTiedHead(readers));
    int64_t total = 0;
    std::vector<WeightItem> items;
    for (const MatchedWeight& weight : match_.weights) {
      const ReadPlan reads = PlanReads(plan_.Ranges(weight.spec, weight.dtype));
      total += reads.read_bytes;
      needed_ += reads.needed_bytes;
      items.push_back(ItemOf(plan_, weight.spec, weight.dtype));
    }
    meter_.emplace(total, options_.progress);
    return items;
  }

  absl::Status Fill(size_t item, ThreadPool& readers, char* out) override {
    const MatchedWeight& weight = match_.weights[item];
    const ReadPlan reads = PlanReads(plan_.Ranges(weight.spec, weight.dtype));
    const size_t bytes = ItemOf(plan_, weight.spec, weight.dtype).bytes;
    if (reads.needed_bytes < static_cast<int64_t>(bytes)) std::memset(out, 0, bytes);
    num_readers_ = readers.num_threads();
    return ForRuns(reads, readers, [&](const ReadRun& run, std::vector<char>& scratch, int thread) {
      DS_RETURN_IF_ERROR(Read(weight, reads, run, scratch, out));
      meter_->Advance(run.bytes, thread);
      return absl::OkStatus();
    });
  }

  bool ReadsFiles() const override { return true; }

  void End() override {
    const LoadProgress done = meter_->Finish();
    LogInfo("read {} bytes of weights ({} needed) in {:.1f} s, {:.2f} GB/s, {} readers",
            done.bytes_read, needed_, done.seconds,
            static_cast<double>(done.bytes_read) / 1e9 / std::max(done.seconds, 1e-9),
            num_readers_);
  }

  const std::string& fingerprint() const override { return fingerprint_; }

 private:
  using RunBody =
      absl::FunctionRef<absl::Status(const ReadRun& run, std::vector<char>& scratch, int thread)>;

  // Calls `body` for every run, by all readers, until one fails.
  static absl::Status ForRuns(const ReadPlan& reads, ThreadPool& readers, RunBody body) {
    absl::Mutex mutex;
    absl::Status failure;
    readers.ParallelFor(
        static_cast<int64_t>(reads.runs.size()), [&](int64_t begin, int64_t end, int thread) {
          std::vector<char> scratch;
          for (int64_t i = begin; i < end; ++i) {
            const absl::Status status = body(reads.runs[static_cast<size_t>(i)], scratch, thread);
            if (status.ok()) continue;
            const absl::MutexLock lock(&mutex);
            failure = status;
            return;
          }
        });
    return failure;
  }

  void LogOddities() const {
    for (const std::string& warning : match_.warnings) LogWarning("{}", warning);
    if (match_.skipped.empty()) return;
    LogInfo("skipped {} MTP and vision tensors: {}", match_.skipped.size(),
            SummarizeNames(match_.skipped));
  }

  // Drops a tied head that is stored and equal to the embedding (spec 2.6).
  absl::Status SettleTiedHead(ThreadPool& readers) {
    const auto find = [&](const char* name) {
      return std::find_if(match_.weights.begin(), match_.weights.end(),
                          [&](const MatchedWeight& weight) { return weight.spec.name == name; });
    };
    const auto head = find("lm_head.weight");
    if (!tied_ || head == match_.weights.end()) return absl::OkStatus();
    DS_ASSIGN_OR_RETURN(const bool equal, AreEqual(*head, *find("embed_tokens.weight"), readers));
    if (equal) {
      match_.weights.erase(head);
    } else {
      LogWarning(
          "tie_word_embeddings is true but the checkpoint's lm_head.weight differs from its "
          "embedding; lm_head.weight is used");
    }
    return absl::OkStatus();
  }

  // This rank's parts of two weights that are split alike and stored in one tensor each.
  absl::StatusOr<bool> AreEqual(const MatchedWeight& a,
                                const MatchedWeight& b,
                                ThreadPool& readers) const {
    if (a.dtype != b.dtype) return false;
    std::atomic<bool> equal = true;
    const ReadPlan reads = PlanReads(plan_.Ranges(a.spec, a.dtype));
    const absl::Status read =
        ForRuns(reads, readers, [&](const ReadRun& run, std::vector<char>& scratch, int) {
          const auto size = static_cast<size_t>(run.bytes);
          scratch.resize(2 * size);
          char* out = scratch.data();
          for (const TensorLocation* location : {&a.locations[0], &b.locations[0]}) {
            const int64_t offset = location->entry->offset + run.offset;
            DS_RETURN_IF_ERROR(location->file->Read(offset, run.bytes, out));
            out += size;
          }
          if (std::memcmp(scratch.data(), scratch.data() + size, size) != 0) equal = false;
          return absl::OkStatus();
        });
    if (!read.ok()) return read;
    return equal.load();
  }

  // One run: straight to its place where it is one range, else through `scratch`.
  static absl::Status Read(const MatchedWeight& weight,
                           const ReadPlan& reads,
                           const ReadRun& run,
                           std::vector<char>& scratch,
                           char* out) {
    const TensorLocation& location = weight.locations[static_cast<size_t>(run.stored)];
    const int64_t offset = location.entry->offset + run.offset;
    if (run.num_ranges == 1) {
      return location.file->Read(offset, run.bytes,
                                 out + reads.ranges[run.first_range].destination_offset);
    }
    scratch.resize(static_cast<size_t>(run.bytes));
    DS_RETURN_IF_ERROR(location.file->Read(offset, run.bytes, scratch.data()));
    for (size_t i = run.first_range; i < run.first_range + run.num_ranges; ++i) {
      const ByteRange& range = reads.ranges[i];
      std::memcpy(out + range.destination_offset,
                  scratch.data() + (range.source_offset - run.offset),
                  static_cast<size_t>(range.bytes));
    }
    return absl::OkStatus();
  }

  absl::StatusOr<std::string> Fingerprint(const ModelConfig& config) const {
    std::map<std::string, TensorLocation> tensors;  // by name without prefix
    for (const MatchedWeight& weight : match_.weights) {
      for (size_t i = 0; i < weight.locations.size(); ++i) {
        tensors[weight.spec.stored[i].name] = weight.locations[i];
      }
    }
    Sha256 hash;
    hash.Update(NormalizedText(config));
    std::vector<char> sample(static_cast<size_t>(kSampledBytes));
    for (const auto& [name, location] : tensors) {
      const TensorEntry& entry = *location.entry;
      hash.Update(absl::StrCat(name, " ", entry.dtype_name, ShapeText(entry.shape), "\n"));
      const int64_t bytes = std::min(kSampledBytes, entry.bytes);
      for (const int64_t offset : {entry.offset, entry.offset + entry.bytes - bytes}) {
        DS_RETURN_IF_ERROR(location.file->Read(offset, bytes, sample.data()));
        hash.Update(sample.data(), static_cast<size_t>(bytes));
      }
    }
    return hash.Finish();
  }

  const CheckpointFiles files_;
  const bool tied_;
  const ShardPlan plan_;
  const LoaderOptions options_;
  TableMatch match_;
  std::string fingerprint_;
  std::optional<ProgressMeter> meter_;
  int64_t needed_ = 0;
  int num_readers_ = 0;
};

}  // namespace

absl::StatusOr<std::unique_ptr<WeightLoader>> OpenCheckpoint(const std::string& directory,
                                                             const ModelConfig& config,
                                                             const ShardPlan& plan,
                                                             std::vector<WeightSpec> table,
                                                             const LoaderOptions& options) {
  DS_ASSIGN_OR_RETURN(CheckpointFiles files, CheckpointFiles::Open(directory));
  auto source = std::make_unique<CheckpointSource>(std::move(files), config, plan, options);
  DS_RETURN_IF_ERROR(source->Open(config, std::move(table)));
  return std::make_unique<WeightLoader>(std::move(source), options);
}

}  // namespace deltaserve
