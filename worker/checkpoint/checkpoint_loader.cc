// OpenCheckpoint of weight_loader.h.

#include <atomic>
#include <chrono>
#include <cstring>
#include <utility>

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

class CheckpointLoader : public WeightLoader {
 public:
  CheckpointLoader(CheckpointFiles files,
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

  absl::Status LoadAll() override {
    int64_t total = 0;
    int64_t needed = 0;
    for (const MatchedWeight& weight : match_.weights) {
      const ReadPlan reads = PlanReads(plan_.Ranges(weight.spec, weight.dtype));
      total += reads.read_bytes;
      needed += reads.needed_bytes;
    }
    ThreadPool readers(std::max(1, options_.num_readers));
    ProgressMeter meter(total, options_.progress);
    for (const MatchedWeight& weight : match_.weights) {
      DS_RETURN_IF_ERROR(Load(weight, readers, meter));
    }
    const LoadProgress done = meter.Finish();
    LogInfo("read {} bytes of weights ({} needed) in {:.1f} s, {:.2f} GB/s, {} readers",
            done.bytes_read, needed, done.seconds,
            static_cast<double>(done.bytes_read) / 1e9 / std::max(done.seconds, 1e-9),
            readers.num_threads());
    SettleTiedHead(tied_);
    return absl::OkStatus();
  }

 private:
  void LogOddities() const {
    for (const std::string& warning : match_.warnings) LogWarning("{}", warning);
    if (match_.skipped.empty()) return;
    LogInfo("skipped {} MTP and vision tensors: {}", match_.skipped.size(),
            SummarizeNames(match_.skipped));
  }

  absl::Status Load(const MatchedWeight& weight, ThreadPool& readers, ProgressMeter& meter) {
    LocalWeight local;
    local.dtype = weight.dtype;
    local.shape = plan_.LocalShape(weight.spec);
    local.precision = weight.spec.precision;
    const ReadPlan reads = PlanReads(plan_.Ranges(weight.spec, weight.dtype));
    const int64_t bytes = NumElements(local.shape) * static_cast<int64_t>(DTypeSize(local.dtype));
    local.data = Buffer::AllocateHost(static_cast<size_t>(bytes));
    if (reads.needed_bytes < bytes) std::memset(local.data.data(), 0, local.data.bytes());
    absl::Mutex mutex;
    absl::Status failure;
    readers.ParallelFor(
        static_cast<int64_t>(reads.runs.size()), [&](int64_t begin, int64_t end, int thread) {
          std::vector<char> scratch;
          for (int64_t i = begin; i < end; ++i) {
            const ReadRun& run = reads.runs[static_cast<size_t>(i)];
            const absl::Status status =
                Read(weight, reads, run, scratch, static_cast<char*>(local.data.data()));
            if (!status.ok()) {
              absl::MutexLock lock(&mutex);
              failure = status;
              return;
            }
            meter.Advance(run.bytes, thread);
          }
        });
    if (!failure.ok()) return failure;
    weights_[weight.spec.name] = std::move(local);
    return absl::OkStatus();
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
};

}  // namespace

absl::StatusOr<std::unique_ptr<WeightLoader>> OpenCheckpoint(const std::string& directory,
                                                             const ModelConfig& config,
                                                             const ShardPlan& plan,
                                                             std::vector<WeightSpec> table,
                                                             const LoaderOptions& options) {
  DS_ASSIGN_OR_RETURN(CheckpointFiles files, CheckpointFiles::Open(directory));
  auto loader = std::make_unique<CheckpointLoader>(std::move(files), config, plan, options);
  DS_RETURN_IF_ERROR(loader->Open(config, std::move(table)));
  return std::unique_ptr<WeightLoader>(std::move(loader));
}

}  // namespace deltaserve
