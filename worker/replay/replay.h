#pragma once

// Replay: runs the plans of a recording and compares what each step gives with what it gave.

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "worker/engine/engine.h"
#include "worker/engine/step_runner.h"
#include "worker/replay/op_checksums.h"
#include "worker/replay/recording.h"

namespace deltaserve {

// One thing that was not as recorded.
struct ReplayDifference {
  enum class What { kOp, kLogits, kToken, kSlotTable };

  What what = What::kToken;
  uint64_t step = 0;
  int32_t slot = -1;  // of kLogits and kToken, where one can be told
  std::string expected = {}, got = {};
  std::string op = {};  // of kOp: "op 17 of 240, Linear number 5"

  // "step 12, slot 3: token 17 instead of 99"
  std::string ToString() const;
};

struct ReplayReport {
  uint64_t steps = 0;       // run and compared
  uint64_t tokens = 0;      // of those steps
  uint64_t logit_rows = 0;  // compared
  uint64_t num_ops = 0;     // compared
  uint64_t differing_steps = 0;
  // All of the first step that differs: at most one op, then rows, tokens, the slot table.
  std::vector<ReplayDifference> first = {};
  // The first token that differs; the replay ends with its step, since later ones tell of another
  // history.
  std::optional<ReplayDifference> first_token = {};
  std::optional<uint64_t> without_result = {};  // step with which the recorded world ended
  uint64_t num_cut_bytes = 0;                   // at the end of the recording
  // DATA_LOSS, naming file and offset, where it is damaged after those steps, or what comes then
  // cannot be run.
  absl::Status recording = {};

  bool identical() const { return recording.ok() && differing_steps == 0; }
};

struct ReplayOptions {
  bool checksums = true;       // compare logits and slot tables, not only tokens
  OpChecksums* ops = nullptr;  // of this rank's ChecksumDevice: compare each op as well
};

// INVALID_ARGUMENT, naming the number and what would do, unless a world of `capacity` on a model of
// `fingerprint` can run the plans of a world like `header`'s.
absl::Status CheckReplays(const RecordingHeader& header,
                          const EngineCapacity& capacity,
                          const std::string& fingerprint);

// Rank 0; the others RunFollower(), which ends with this. An error is the world's.
absl::StatusOr<ReplayReport> Replay(RecordingReader& recording,
                                    StepRunner& runner,
                                    const Executor& executor,
                                    Device& device,
                                    const ReplayOptions& options);

}  // namespace deltaserve
