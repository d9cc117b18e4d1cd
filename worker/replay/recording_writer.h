#pragma once

// RecordingWriter: writes a recording on a thread of its own, so that no step waits for a disk.

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <thread>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/time.h"

namespace deltaserve {

// Where a recording goes. One thread.
class RecordingSink {
 public:
  virtual ~RecordingSink() = default;
  virtual const std::string& path() const = 0;
  // Writes all or, with an error, leaves what there was before.
  virtual absl::Status Write(std::span<const uint8_t> bytes) = 0;
};

// A queue of frames before a sink. What ends the recording, never the world: an error of the sink
// (a full disk), and more bytes that wait than the bound (a disk that is stalled). Either is one
// line in the log; the sink then holds the whole frames before.
//
// Threads: one calls, one of its own writes. Owner: StepRecorder.
class RecordingWriter {
 public:
  struct Options {
    size_t most_bytes = size_t{64} << 20;               // that wait
    absl::Duration patience = absl::Milliseconds(100);  // of AwaitWritten
    absl::Duration last_patience = absl::Seconds(5);    // of the destructor
  };

  RecordingWriter(std::unique_ptr<RecordingSink> sink, const Options& options);
  // Waits for what was added; what a stalled sink has not taken in time is lost, with a line in the
  // log.
  ~RecordingWriter();
  RecordingWriter(const RecordingWriter&) = delete;
  RecordingWriter& operator=(const RecordingWriter&) = delete;

  // Queues one frame, of `step`; nothing once the recording has ended.
  void Add(uint64_t step, std::vector<uint8_t> frame);
  // Until all that was added is written, so that it is there if the process dies next. Where that
  // takes longer than `patience`, not at all until the sink has caught up.
  void AwaitWritten();
  bool ended() const;

 private:
  struct Shared;
  static void Run(const std::shared_ptr<Shared>& shared);

  const Options options_;
  const std::shared_ptr<Shared> shared_;  // with the thread, which may outlive this in a write
  bool is_late_ = false;                  // the last wait was in vain
  std::thread thread_;
};

}  // namespace deltaserve
