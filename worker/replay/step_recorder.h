#pragma once

// StepRecorder: writes the recording of a world while it serves (--record-plans).

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "kernels/device.h"
#include "worker/engine/executor.h"
#include "worker/engine/step_runner.h"
#include "worker/replay/op_checksums.h"
#include "worker/replay/recording.h"
#include "worker/replay/recording_writer.h"

namespace deltaserve {

// The file. One thread. Each Write() is one call of the system, so that all of it is there when the
// process is killed afterwards.
class RecordingFile final : public RecordingSink {
 public:
  // A new file, mode 0600: it will hold prompts. A file that is there becomes PATH.previous, so
  // that a world that was started again leaves that of the one before. INVALID_ARGUMENT names the
  // flag.
  static absl::StatusOr<std::unique_ptr<RecordingFile>> Create(const std::string& path);
  // Whether Create is likely to succeed, for a start that may fail for other reasons yet and must
  // leave the file that is there. Same errors.
  static absl::Status Check(const std::string& path);
  ~RecordingFile() override;
  RecordingFile(const RecordingFile&) = delete;
  RecordingFile& operator=(const RecordingFile&) = delete;

  const std::string& path() const override { return path_; }

  // Writes all or, with an error, cuts the file back to what it held before.
  absl::Status Write(std::span<const uint8_t> bytes) override;

 private:
  RecordingFile(std::string path, int descriptor)
      : path_(std::move(path)), descriptor_(descriptor) {}

  const std::string path_;
  const int descriptor_;
  int64_t size_ = 0;
};

// What a step gave: `executor` as its last Run() left it, `ops` those of the step.
RecordedResult MakeRecordedResult(const StepResult& result,
                                  const Executor& executor,
                                  Device& device,
                                  std::vector<OpChecksum> ops);

// Watches rank 0's engine. Engine thread; what it is made from outlives it. A plan is written
// before its step runs, unless the disk is slow; what ends the recording, never the world, is told
// at RecordingWriter, and what was written until then is a whole recording of those steps.
class StepRecorder final : public PlanObserver {
 public:
  // `ops`: of ChecksumDevice, or null. An error is that of writing the header.
  static absl::StatusOr<std::unique_ptr<StepRecorder>> Start(
      std::unique_ptr<RecordingSink> sink,
      const RecordingHeader& header,
      const Executor& executor,
      Device& device,
      OpChecksums* ops,
      const RecordingWriter::Options& options = {});

  void OnPlan(uint64_t step, std::span<const uint8_t> bytes) override;
  void OnResult(uint64_t step, const StepPlan& plan, const StepResult& result) override;

 private:
  StepRecorder(std::unique_ptr<RecordingSink> sink,
               const Executor& executor,
               Device& device,
               OpChecksums* ops,
               const RecordingWriter::Options& options)
      : writer_(std::move(sink), options), executor_(executor), device_(device), ops_(ops) {}

  RecordingWriter writer_;
  const Executor& executor_;
  Device& device_;
  OpChecksums* const ops_;
};

}  // namespace deltaserve
