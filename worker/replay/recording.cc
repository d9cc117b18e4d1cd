#include "worker/replay/recording.h"

#include <algorithm>
#include <fstream>
#include <string_view>
#include <utility>

#include "absl/strings/str_cat.h"
#include "kernels/base/status_macros.h"
#include "worker/comm/crc32.h"
#include "worker/engine/byte_stream.h"

namespace deltaserve {
namespace {

constexpr std::string_view kMagic = "DSPLANS\n";
constexpr uint32_t kFormat = 2;
constexpr size_t kFrameHead = 12;

enum class FrameKind : uint8_t { kHeader = 1, kPlan = 2, kResult = 3 };

void AppendFrame(std::span<const uint8_t> bytes, std::vector<uint8_t>* out) {
  const size_t begin = out->size();
  ByteWriter writer(out);
  writer.Count(bytes.size());
  writer.U32(Crc32(bytes));
  writer.U32(Crc32(std::span(*out).subspan(begin)));
  out->insert(out->end(), bytes.begin(), bytes.end());
}

// A frame's kind and step; false where it is not that.
bool TakeStart(ByteReader& in, FrameKind kind, uint64_t step) {
  return in.U8() == static_cast<uint8_t>(kind) && in.U64() == step && !in.failed();
}

}  // namespace

void AppendHeader(const RecordingHeader& header, std::vector<uint8_t>* out) {
  out->insert(out->end(), kMagic.begin(), kMagic.end());
  ByteWriter(out).U32(kFormat);
  std::vector<uint8_t> bytes;
  ByteWriter writer(&bytes);
  writer.U8(static_cast<uint8_t>(FrameKind::kHeader));
  writer.U32(header.plan_version);
  for (const std::string* text :
       {&header.build_id, &header.numerics, &header.weights_fingerprint, &header.model,
        &header.load, &header.moe, &header.linear_attention, &header.quantize}) {
    writer.Text(*text);
  }
  for (const int64_t number : {header.ranks, header.slots, header.kv_memory, header.kv_blocks,
                               header.max_context, header.token_budget, header.num_tokens}) {
    writer.I64(number);
  }
  writer.U8(header.prompt_logits ? 1 : 0);
  writer.U8(header.ops ? 1 : 0);
  AppendFrame(bytes, out);
}

void AppendPlan(uint64_t step, std::span<const uint8_t> plan, std::vector<uint8_t>* out) {
  std::vector<uint8_t> bytes;
  ByteWriter writer(&bytes);
  writer.U8(static_cast<uint8_t>(FrameKind::kPlan));
  writer.U64(step);
  bytes.insert(bytes.end(), plan.begin(), plan.end());
  AppendFrame(bytes, out);
}

void AppendResult(uint64_t step, const RecordedResult& result, std::vector<uint8_t>* out) {
  std::vector<uint8_t> bytes;
  ByteWriter writer(&bytes);
  writer.U8(static_cast<uint8_t>(FrameKind::kResult));
  writer.U64(step);
  writer.Ints(result.ids);
  writer.U32(result.slot_table);
  writer.Count(result.logits.size());
  for (const uint64_t row : result.logits) writer.U64(row);
  writer.Count(result.ops.size());
  for (const OpChecksum& op : result.ops) {
    writer.U8(static_cast<uint8_t>(op.kind));
    writer.U64(op.checksum);
  }
  AppendFrame(bytes, out);
}

absl::StatusOr<std::unique_ptr<RecordingReader>> RecordingReader::Open(
    std::string name, std::unique_ptr<std::istream> in) {
  std::unique_ptr<RecordingReader> reader(new RecordingReader(std::move(name), std::move(in)));
  DS_RETURN_IF_ERROR(reader->ReadHeader());
  return reader;
}

absl::StatusOr<std::unique_ptr<RecordingReader>> RecordingReader::OpenFile(
    const std::string& path) {
  auto file = std::make_unique<std::ifstream>(path, std::ios::binary);
  if (!*file) {
    return absl::InvalidArgumentError(absl::StrCat(
        path, " cannot be read; give the file of a worker's --record-plans, as its user"));
  }
  return Open(path, std::move(file));
}

absl::Status RecordingReader::Damaged(uint64_t offset, const std::string& how) const {
  return absl::DataLossError(absl::StrCat(name_, " is damaged at byte ", offset, ": ", how,
                                          "; copy it again, or record again"));
}

absl::Status RecordingReader::ReadHeader() {
  in_->seekg(0, std::ios::end);
  size_ = static_cast<uint64_t>(std::max<std::streamoff>(in_->tellg(), 0));
  in_->seekg(0);
  std::vector<uint8_t> start(kMagic.size() + 4);
  in_->read(reinterpret_cast<char*>(start.data()), static_cast<std::streamsize>(start.size()));
  if (!*in_ || !std::equal(kMagic.begin(), kMagic.end(), start.begin())) {
    return absl::InvalidArgumentError(
        absl::StrCat(name_, " is no recording; give the file of a worker's --record-plans"));
  }
  if (const uint32_t format = ByteReader(std::span(start).subspan(kMagic.size())).U32();
      format != kFormat) {
    return absl::InvalidArgumentError(absl::StrCat(name_, " has format ", format,
                                                   ": this build reads ", kFormat,
                                                   "; use the build that recorded it"));
  }
  offset_ = start.size();
  DS_ASSIGN_OR_RETURN(const auto frame, ReadFrame());
  if (!frame.has_value()) return Damaged(start.size(), "its header is cut");
  ByteReader in(*frame);
  const bool is_header = in.U8() == static_cast<uint8_t>(FrameKind::kHeader);
  header_.plan_version = in.U32();
  for (std::string* text :
       {&header_.build_id, &header_.numerics, &header_.weights_fingerprint, &header_.model,
        &header_.load, &header_.moe, &header_.linear_attention, &header_.quantize}) {
    *text = in.Text();
  }
  for (int64_t* number : {&header_.ranks, &header_.slots, &header_.kv_memory, &header_.kv_blocks,
                          &header_.max_context, &header_.token_budget, &header_.num_tokens}) {
    *number = in.I64();
  }
  header_.prompt_logits = in.Kind<uint8_t>(0, 1) == 1;
  header_.ops = in.Kind<uint8_t>(0, 1) == 1;
  if (!is_header || in.failed() || !in.at_end()) {
    return Damaged(start.size(), "its first frame is no header");
  }
  if (header_.plan_version != PlanVersion()) {
    return absl::InvalidArgumentError(
        absl::StrCat(name_, " holds plans of version ", header_.plan_version, ": this build reads ",
                     PlanVersion(), "; use build ", header_.build_id, ", which recorded it"));
  }
  const std::pair<const char*, int64_t> counts[] = {
      {"ranks", header_.ranks},          {"slots", header_.slots},
      {"kv_memory", header_.kv_memory},  {"kv_blocks", header_.kv_blocks},
      {"contexts", header_.max_context}, {"token budget", header_.token_budget},
      {"tokens", header_.num_tokens}};
  for (const auto& [what, count] : counts) {
    if (count < 0) return Damaged(start.size(), absl::StrCat("its header says ", what, " ", count));
  }
  return absl::OkStatus();
}

absl::StatusOr<std::optional<std::vector<uint8_t>>> RecordingReader::ReadFrame() {
  const uint64_t left = size_ - offset_;
  const auto end = [&] {
    ended_ = true;
    num_cut_bytes_ = left;
    return std::nullopt;
  };
  if (ended_ || left < kFrameHead) return end();
  std::vector<uint8_t> head(kFrameHead);
  in_->read(reinterpret_cast<char*>(head.data()), kFrameHead);
  ByteReader reader(head);
  const uint32_t length = reader.U32();
  const uint32_t crc = reader.U32();
  if (reader.U32() != Crc32(std::span(head).first(8))) {
    return Damaged(offset_, "the head of its frame has another checksum");
  }
  if (length > left - kFrameHead) return end();
  std::vector<uint8_t> bytes(length);
  in_->read(reinterpret_cast<char*>(bytes.data()), static_cast<std::streamsize>(length));
  if (!*in_) return Damaged(offset_, "it cannot be read");
  if (Crc32(bytes) != crc) return Damaged(offset_, "its frame has another checksum");
  offset_ += kFrameHead + length;
  return bytes;
}

absl::StatusOr<std::optional<RecordedStep>> RecordingReader::Next() {
  RecordedStep step;
  step.step = steps_ + 1;
  step.offset = offset_;
  DS_ASSIGN_OR_RETURN(const auto frame, ReadFrame());
  if (!frame.has_value()) return std::nullopt;
  ByteReader in(*frame);
  if (!TakeStart(in, FrameKind::kPlan, step.step)) {
    return Damaged(step.offset, absl::StrCat("no plan of step ", step.step, " is there"));
  }
  absl::StatusOr<StepPlan> plan = ParsePlan(in.left());
  if (!plan.ok()) return Damaged(step.offset, std::string(plan.status().message()));
  step.plan = *std::move(plan);
  DS_RETURN_IF_ERROR(ReadResult(&step));
  ++steps_;
  return step;
}

absl::Status RecordingReader::ReadResult(RecordedStep* step) {
  const uint64_t offset = offset_;
  DS_ASSIGN_OR_RETURN(const auto frame, ReadFrame());
  if (!frame.has_value()) return absl::OkStatus();
  ByteReader in(*frame);
  const bool is_result = TakeStart(in, FrameKind::kResult, step->step);
  RecordedResult result;
  result.ids = in.Ints();
  result.slot_table = in.U32();
  result.logits.resize(in.Count(8));
  for (uint64_t& row : result.logits) row = in.U64();
  result.ops.resize(in.Count(9));
  for (OpChecksum& op : result.ops) {
    op.kind = in.Kind(kFirstOp, kLastOp);
    op.checksum = in.U64();
  }
  const std::vector<PrefillChunk>& chunks = step->plan.chunks;
  const auto ends_prompt = [](const PrefillChunk& chunk) {
    return chunk.scoring != Scoring::kNone;
  };
  const size_t sampled =
      step->plan.decodes.size() +
      static_cast<size_t>(std::count_if(chunks.begin(), chunks.end(), ends_prompt));
  if (!is_result || in.failed() || !in.at_end() || result.ids.size() != sampled ||
      (!header_.ops && !result.ops.empty())) {
    return Damaged(offset, absl::StrCat("no result of step ", step->step, " is there"));
  }
  step->result = std::move(result);
  return absl::OkStatus();
}

}  // namespace deltaserve
