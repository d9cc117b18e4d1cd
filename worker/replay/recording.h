#pragma once

// A recording: the stream of plans of a world with what each step gave, as a file. All that a
// replay needs besides the model.
//
//   8 bytes "DSPLANS\n", format version (u32), then frames: the header, and for each step its plan
//   and, unless the world ended in that step, its result. A frame is its length, the CRC-32 of its
//   bytes, the CRC-32 of those 8 bytes (u32 each), then the bytes (ByteWriter's form).

#include <cstdint>
#include <istream>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "worker/engine/step_plan.h"
#include "worker/replay/op_checksums.h"

namespace deltaserve {

// What a world was, so that one like it can be started.
struct RecordingHeader {
  uint32_t plan_version = 0;  // PlanVersion() of the build that wrote
  std::string build_id = {};  // of that build
  std::string numerics = {};  // equal where checksums can be expected to be
  std::string weights_fingerprint = {};
  std::string model = {};             // folder, absolute, as rank 0 saw it
  std::string load = {};              // --load
  std::string moe = {};               // --moe
  std::string linear_attention = {};  // --linear-attention
  std::string quantize = {};          // --quantize
  int64_t ranks = 0;
  int64_t slots = 0;
  int64_t kv_memory = 0;
  int64_t kv_blocks = 0;
  int64_t max_context = 0;
  int64_t token_budget = 0;  // the most of a step
  int64_t num_tokens = 0;    // ids at or above were never sampled
  bool prompt_logits = false;
  bool ops = false;  // results hold the checksums of ops
  bool operator==(const RecordingHeader&) const = default;
};

// What a step gave, as rank 0 saw it.
struct RecordedResult {
  std::vector<int32_t> ids = {};  // one a row of MakeScorePlan(plan).sampled
  uint32_t slot_table = 0;        // SlotTable::Digest() after the step
  // One a row of MakeScorePlan(plan).rows: of its logits, as raw bits, in rank 0's part of the
  // vocabulary.
  std::vector<uint64_t> logits = {};
  std::vector<OpChecksum> ops = {};  // of rank 0, where RecordingHeader::ops
  bool operator==(const RecordedResult&) const = default;
};

struct RecordedStep {
  uint64_t step = 0;    // from 1
  uint64_t offset = 0;  // of the plan's frame in the file
  StepPlan plan = {};
  std::optional<RecordedResult> result = {};  // none where the world ended in this step
};

// Append to `out` what a file begins with, and the frames of a step.
void AppendHeader(const RecordingHeader& header, std::vector<uint8_t>* out);
void AppendPlan(uint64_t step, std::span<const uint8_t> plan, std::vector<uint8_t>* out);
void AppendResult(uint64_t step, const RecordedResult& result, std::vector<uint8_t>* out);

// Reads a recording frame by frame. One thread. Errors are INVALID_ARGUMENT for what is no
// recording or was made by another format or plan version, DATA_LOSS for damage; both name `name`,
// damage its offset too. What has no end, as when the world was killed, is no error: Next() ends
// before it.
class RecordingReader {
 public:
  // `name`: for errors; `in`: the whole file, to be sought in.
  static absl::StatusOr<std::unique_ptr<RecordingReader>> Open(std::string name,
                                                               std::unique_ptr<std::istream> in);
  static absl::StatusOr<std::unique_ptr<RecordingReader>> OpenFile(const std::string& path);

  const RecordingHeader& header() const { return header_; }

  // The next step; nullopt after the last. Steps count from 1 without gaps, and a result fits its
  // plan; whether a plan fits the world is SlotTable's to check.
  absl::StatusOr<std::optional<RecordedStep>> Next();

  // DATA_LOSS: what is at `offset` is not right, `how`.
  absl::Status Damaged(uint64_t offset, const std::string& how) const;

  // Bytes at the end that are no whole frame; known once Next() gave nullopt.
  uint64_t num_cut_bytes() const { return num_cut_bytes_; }

 private:
  RecordingReader(std::string name, std::unique_ptr<std::istream> in)
      : name_(std::move(name)), in_(std::move(in)) {}

  absl::Status ReadHeader();
  // The next frame's bytes; nullopt at the end or where the file ends within it.
  absl::StatusOr<std::optional<std::vector<uint8_t>>> ReadFrame();
  absl::Status ReadResult(RecordedStep* step);

  const std::string name_;
  const std::unique_ptr<std::istream> in_;
  RecordingHeader header_;
  uint64_t size_ = 0;
  uint64_t offset_ = 0;  // of the next frame
  uint64_t steps_ = 0;
  bool ended_ = false;
  uint64_t num_cut_bytes_ = 0;
};

}  // namespace deltaserve
