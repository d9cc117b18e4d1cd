#include "worker/comm/plan_channel.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include "kernels/base/check.h"
#include "kernels/base/status_macros.h"
#include "worker/comm/crc32.h"

namespace deltaserve {
namespace {

constexpr size_t kPayloadInSlot = PlanChannel::kSlotBytes - sizeof(PlanHeader);

uint32_t HeaderCrc(PlanHeader header) {
  header.header_crc = 0;
  return Crc32({reinterpret_cast<const uint8_t*>(&header), sizeof(header)});
}

class MpiPlanChannel final : public PlanChannel {
 public:
  MpiPlanChannel(const MpiWorld& world, uint64_t epoch)
      : PlanChannel(world.info().rank, world.info().size, epoch), comm_(world.comm()) {}

 private:
  absl::Status BroadcastFromZero(std::span<uint8_t> bytes) override {
    CheckMpi(MPI_Bcast(bytes.data(), static_cast<int>(bytes.size()), MPI_BYTE, 0, comm_),
             "MPI_Bcast");
    return absl::OkStatus();
  }

  const MPI_Comm comm_;
};

class ThreadPlanChannel final : public PlanChannel {
 public:
  ThreadPlanChannel(ThreadWorld& world, int rank, uint64_t epoch)
      : PlanChannel(rank, world.size(), epoch),
        rank_(rank),
        meeting_point_(world.meeting_point()) {}

 private:
  absl::Status BroadcastFromZero(std::span<uint8_t> bytes) override {
    const bool met =
        meeting_point_->Meet(rank_, {"PlanChannel", bytes.size(), bytes.data(), nullptr}, &cards_);
    if (met && rank_ != 0) std::memcpy(bytes.data(), cards_[0].in, bytes.size());
    if (!met || !meeting_point_->Meet(rank_, {"PlanChannel, end", 0, nullptr, nullptr}, &cards_)) {
      return absl::CancelledError("the world of threads was stopped");
    }
    return absl::OkStatus();
  }

  const int rank_;
  const std::shared_ptr<MeetingPoint> meeting_point_;
  std::vector<MeetingPoint::Card> cards_;
};

}  // namespace

PlanChannel::PlanChannel(int rank, int size, uint64_t epoch)
    : rank_(rank), size_(size), epoch_(epoch), slot_(kSlotBytes) {}

absl::Status PlanChannel::Send(uint32_t kind, std::span<const uint8_t> payload) {
  DS_CHECK_EQ(rank_, 0) << "only rank 0 sends plans";
  DS_CHECK_LE(payload.size(), kMaxPayloadBytes);
  ++step_;
  if (size_ == 1) return absl::OkStatus();
  PlanHeader header;
  header.kind = kind;
  header.epoch = epoch_;
  header.step = step_;
  header.bytes = payload.size();
  header.payload_crc = Crc32(payload);
  header.header_crc = HeaderCrc(header);

  const std::span<const uint8_t> head = payload.first(std::min(payload.size(), kPayloadInSlot));
  std::memcpy(slot_.data(), &header, sizeof(header));
  std::copy(head.begin(), head.end(), slot_.begin() + sizeof(header));
  std::fill(slot_.begin() + static_cast<std::ptrdiff_t>(sizeof(header) + head.size()), slot_.end(),
            uint8_t{0});
  DS_RETURN_IF_ERROR(BroadcastFromZero(slot_));
  if (payload.size() > head.size()) {
    tail_.assign(payload.begin() + static_cast<std::ptrdiff_t>(head.size()), payload.end());
    DS_RETURN_IF_ERROR(BroadcastFromZero(tail_));
  }
  return absl::OkStatus();
}

absl::Status PlanChannel::Receive(PlanMessage* message) {
  DS_CHECK(rank_ != 0) << "rank 0 makes the plans";
  DS_RETURN_IF_ERROR(BroadcastFromZero(slot_));
  PlanHeader header;
  std::memcpy(&header, slot_.data(), sizeof(header));
  DS_RETURN_IF_ERROR(CheckHeader(header));

  message->kind = header.kind;
  message->step = header.step;
  message->payload.resize(header.bytes);
  const size_t in_slot = std::min<size_t>(header.bytes, kPayloadInSlot);
  std::copy_n(slot_.begin() + sizeof(header), in_slot, message->payload.begin());
  if (header.bytes > in_slot) {
    DS_RETURN_IF_ERROR(BroadcastFromZero(std::span(message->payload).subspan(in_slot)));
  }
  const uint32_t crc = Crc32(message->payload);
  if (crc != header.payload_crc) {
    return absl::DataLossError(absl::StrCat("plan of step ", header.step, ": CRC of its ",
                                            header.bytes, " bytes is ", absl::Hex(crc),
                                            ", rank 0 sent ", absl::Hex(header.payload_crc)));
  }
  step_ = header.step;
  return absl::OkStatus();
}

absl::Status PlanChannel::CheckHeader(const PlanHeader& header) const {
  const auto broken = [&](const char* field, uint64_t value, uint64_t expected) {
    return absl::DataLossError(absl::StrCat("plan after step ", step_, ": ", field, " is ",
                                            absl::Hex(value), ", expected ", absl::Hex(expected)));
  };
  if (header.magic != PlanHeader::kMagic) return broken("magic", header.magic, PlanHeader::kMagic);
  const uint32_t crc = HeaderCrc(header);
  if (header.header_crc != crc) return broken("header_crc", header.header_crc, crc);
  if (header.epoch != epoch_) return broken("epoch", header.epoch, epoch_);
  if (header.step != step_ + 1) return broken("step", header.step, step_ + 1);
  if (header.bytes > kMaxPayloadBytes) return broken("bytes", header.bytes, kMaxPayloadBytes);
  return absl::OkStatus();
}

std::unique_ptr<PlanChannel> CreateMpiPlanChannel(MpiWorld& world) {
  return std::make_unique<MpiPlanChannel>(world, world.DrawEpoch());
}

std::unique_ptr<PlanChannel> CreateThreadPlanChannel(ThreadWorld& world, int rank) {
  return std::make_unique<ThreadPlanChannel>(world, rank, world.world(rank).DrawEpoch());
}

}  // namespace deltaserve
