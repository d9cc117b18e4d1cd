// The reader of recordings: what it reads it would write as the same bytes; all else it refuses by
// name. Checksums are set right first, since no change would get past them.

#include <algorithm>
#include <sstream>

#include "kernels/base/check.h"
#include "tests/fuzz/fuzz_target.h"
#include "worker/comm/crc32.h"
#include "worker/engine/byte_stream.h"
#include "worker/replay/recording.h"

namespace deltaserve {
namespace {

constexpr size_t kStart = 12;      // magic and format
constexpr size_t kFrameHead = 12;  // length, checksum of the bytes, checksum of both

void Put(uint32_t value, size_t at, std::vector<uint8_t>* bytes) {
  std::vector<uint8_t> word;
  ByteWriter(&word).U32(value);
  std::copy(word.begin(), word.end(), bytes->begin() + static_cast<ptrdiff_t>(at));
}

void SetChecksums(std::vector<uint8_t>* bytes) {
  size_t at = kStart;
  while (at + kFrameHead <= bytes->size()) {
    const std::span<const uint8_t> head(bytes->data() + at, kFrameHead);
    const size_t length = ByteReader(head).U32();
    const size_t body = at + kFrameHead;
    if (length > bytes->size() - body) return;
    Put(Crc32({bytes->data() + body, length}), at + 4, bytes);
    Put(Crc32({bytes->data() + at, 8}), at + 8, bytes);
    at = body + length;
  }
}

void Read(const std::vector<uint8_t>& bytes) {
  const auto reader = RecordingReader::Open(
      "FILE", std::make_unique<std::istringstream>(std::string(bytes.begin(), bytes.end())));
  absl::Status status = reader.status();
  std::vector<uint8_t> written;
  if (status.ok()) AppendHeader((*reader)->header(), &written);
  while (status.ok()) {
    const auto step = (*reader)->Next();
    status = step.status();
    if (!status.ok() || !step->has_value()) break;
    std::vector<uint8_t> plan;
    SerializePlan((*step)->plan, &plan);
    AppendPlan((*step)->step, plan, &written);
    if ((*step)->result.has_value()) AppendResult((*step)->step, *(*step)->result, &written);
  }
  DS_CHECK(status.ok() || status.message().find("FILE ") != absl::string_view::npos) << status;
  DS_CHECK_LE(written.size(), bytes.size());
  DS_CHECK(std::equal(written.begin(), written.end(), bytes.begin()));
  DS_CHECK(!status.ok() || written.size() + (*reader)->num_cut_bytes() == bytes.size());
}

}  // namespace
}  // namespace deltaserve

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  std::vector<uint8_t> bytes(data, data + size);
  deltaserve::Read(bytes);
  deltaserve::SetChecksums(&bytes);
  deltaserve::Read(bytes);
  return 0;
}
