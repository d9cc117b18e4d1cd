#include "worker/replay/step_recorder.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <utility>

#include "absl/strings/str_cat.h"
#include "kernels/base/log.h"
#include "kernels/base/status_macros.h"
#include "worker/replay/checksum.h"

namespace deltaserve {
namespace {

absl::Status Refuse(const std::string& path, const std::string& why, const char* remedy) {
  return absl::InvalidArgumentError(
      absl::StrCat("--record-plans is ", path, ": ", why, "; ", remedy));
}

}  // namespace

absl::Status RecordingFile::Check(const std::string& path) {
  struct stat before = {};
  if (lstat(path.c_str(), &before) == 0 && !S_ISREG(before.st_mode)) {
    return Refuse(path, "it is no plain file", "name another");
  }
  const std::string folder = std::filesystem::absolute(path).parent_path().string();
  if (access(folder.c_str(), W_OK | X_OK) != 0) {
    return Refuse(path, std::strerror(errno), "name a file in a folder that can be written");
  }
  return absl::OkStatus();
}

absl::StatusOr<std::unique_ptr<RecordingFile>> RecordingFile::Create(const std::string& path) {
  DS_RETURN_IF_ERROR(Check(path));
  // A limit of file sizes is then an error of the write, and no end of the process.
  std::signal(SIGXFSZ, SIG_IGN);
  if (struct stat before = {}; lstat(path.c_str(), &before) == 0) {
    const std::string previous = path + ".previous";
    if (std::rename(path.c_str(), previous.c_str()) != 0) {
      return Refuse(
          path,
          absl::StrCat("it is there and cannot become ", previous, ": ", std::strerror(errno)),
          "remove it or name another");
    }
  }
  const int descriptor = open(path.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
  if (descriptor < 0) {
    return Refuse(path, std::strerror(errno), "name a file in a folder that can be written");
  }
  return std::unique_ptr<RecordingFile>(new RecordingFile(path, descriptor));
}

RecordingFile::~RecordingFile() { close(descriptor_); }

absl::Status RecordingFile::Write(std::span<const uint8_t> bytes) {
  size_t done = 0;
  while (done < bytes.size()) {
    const ssize_t count = write(descriptor_, bytes.data() + done, bytes.size() - done);
    if (count < 0 && errno == EINTR) continue;
    if (count <= 0) {
      const std::string why = std::strerror(count < 0 ? errno : ENOSPC);
      // Where this fails too, readers stop before the frame that is cut.
      (void)!ftruncate(descriptor_, size_);
      return absl::DataLossError(why);
    }
    done += static_cast<size_t>(count);
  }
  size_ += static_cast<int64_t>(bytes.size());
  return absl::OkStatus();
}

RecordedResult MakeRecordedResult(const StepResult& result,
                                  const Executor& executor,
                                  Device& device,
                                  std::vector<OpChecksum> ops) {
  RecordedResult recorded;
  recorded.ids = result.ids;
  recorded.slot_table = executor.slots().Digest();
  recorded.ops = std::move(ops);
  const TensorView logits = executor.last_logits();
  if (logits.numel() == 0) return recorded;
  for (int64_t row = 0; row < logits.dim(0); ++row) {
    recorded.logits.push_back(TensorChecksum(device, logits.Row(row)));
  }
  return recorded;
}

absl::StatusOr<std::unique_ptr<StepRecorder>> StepRecorder::Start(
    std::unique_ptr<RecordingSink> sink,
    const RecordingHeader& header,
    const Executor& executor,
    Device& device,
    OpChecksums* ops,
    const RecordingWriter::Options& options) {
  std::vector<uint8_t> bytes;
  AppendHeader(header, &bytes);
  if (const absl::Status written = sink->Write(bytes); !written.ok()) {
    return Refuse(sink->path(), std::string(written.message()), "see that its disk has room");
  }
  LogWarning("recording plans, prompts among them, to {}", sink->path());
  return std::unique_ptr<StepRecorder>(
      new StepRecorder(std::move(sink), executor, device, ops, options));
}

void StepRecorder::OnPlan(uint64_t step, std::span<const uint8_t> bytes) {
  if (writer_.ended()) return;
  std::vector<uint8_t> frame;
  AppendPlan(step, bytes, &frame);
  writer_.Add(step, std::move(frame));
  writer_.AwaitWritten();
  if (ops_ != nullptr) ops_->Begin();
}

void StepRecorder::OnResult(uint64_t step, const StepPlan& /*plan*/, const StepResult& result) {
  std::vector<OpChecksum> ops;
  if (ops_ != nullptr) ops = ops_->Take();
  if (writer_.ended()) return;
  std::vector<uint8_t> frame;
  AppendResult(step, MakeRecordedResult(result, executor_, device_, std::move(ops)), &frame);
  writer_.Add(step, std::move(frame));
}

}  // namespace deltaserve
