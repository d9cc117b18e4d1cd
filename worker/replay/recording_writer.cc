#include "worker/replay/recording_writer.h"

#include <deque>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/strings/str_cat.h"
#include "absl/synchronization/mutex.h"
#include "kernels/base/log.h"

namespace deltaserve {

struct RecordingWriter::Shared {
  struct Frame {
    uint64_t step = 0;
    std::vector<uint8_t> bytes = {};
  };

  explicit Shared(std::unique_ptr<RecordingSink> its_sink)
      : sink(std::move(its_sink)), path(sink->path()) {}

  bool HasWork() const ABSL_SHARED_LOCKS_REQUIRED(mutex) {
    return !queue.empty() || is_closing || has_ended;
  }
  bool IsWritten() const ABSL_SHARED_LOCKS_REQUIRED(mutex) { return bytes == 0 || has_ended; }
  void End(uint64_t step, const std::string& why) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex) {
    if (has_ended) return;
    has_ended = true;
    queue.clear();
    LogError("recording to {} has ended at step {}: {}; the world goes on", path, step, why);
  }

  const std::unique_ptr<RecordingSink> sink;  // the thread's
  const std::string path;
  mutable absl::Mutex mutex;
  std::deque<Frame> queue ABSL_GUARDED_BY(mutex);
  size_t bytes ABSL_GUARDED_BY(mutex) = 0;  // in the queue and being written
  bool is_closing ABSL_GUARDED_BY(mutex) = false;
  bool has_ended ABSL_GUARDED_BY(mutex) = false;
  bool is_over ABSL_GUARDED_BY(mutex) = false;  // the thread is
};

RecordingWriter::RecordingWriter(std::unique_ptr<RecordingSink> sink, const Options& options)
    : options_(options),
      shared_(std::make_shared<Shared>(std::move(sink))),
      thread_(Run, shared_) {}

RecordingWriter::~RecordingWriter() {
  bool is_over = false;
  {
    const absl::MutexLock lock(&shared_->mutex);
    shared_->is_closing = true;
    is_over =
        shared_->mutex.AwaitWithTimeout(absl::Condition(&shared_->is_over), options_.last_patience);
    if (!is_over && !shared_->has_ended) {
      LogError("recording to {} is without its last {} bytes: its disk is stalled", shared_->path,
               shared_->bytes);
      shared_->has_ended = true;
    }
  }
  if (is_over) {
    thread_.join();
  } else {
    thread_.detach();
  }
}

void RecordingWriter::Run(const std::shared_ptr<Shared>& shared) {
  const absl::MutexLock lock(&shared->mutex);
  while (true) {
    shared->mutex.Await(absl::Condition(shared.get(), &Shared::HasWork));
    if (shared->has_ended || shared->queue.empty()) break;
    const Shared::Frame frame = std::move(shared->queue.front());
    shared->queue.pop_front();
    shared->mutex.Unlock();
    const absl::Status written = shared->sink->Write(frame.bytes);
    shared->mutex.Lock();
    shared->bytes -= frame.bytes.size();
    if (!written.ok()) shared->End(frame.step, std::string(written.message()));
  }
  shared->is_over = true;
}

void RecordingWriter::Add(uint64_t step, std::vector<uint8_t> frame) {
  const absl::MutexLock lock(&shared_->mutex);
  if (shared_->has_ended) return;
  if (shared_->bytes + frame.size() > options_.most_bytes) {
    shared_->End(step, absl::StrCat("its disk is stalled, and of the ", options_.most_bytes,
                                    " bytes that may wait, ", shared_->bytes, " do"));
    return;
  }
  shared_->bytes += frame.size();
  shared_->queue.push_back({step, std::move(frame)});
}

void RecordingWriter::AwaitWritten() {
  const absl::MutexLock lock(&shared_->mutex);
  const absl::Duration patience = is_late_ ? absl::ZeroDuration() : options_.patience;
  is_late_ = !shared_->mutex.AwaitWithTimeout(absl::Condition(shared_.get(), &Shared::IsWritten),
                                              patience);
}

bool RecordingWriter::ended() const {
  const absl::MutexLock lock(&shared_->mutex);
  return shared_->has_ended;
}

}  // namespace deltaserve
