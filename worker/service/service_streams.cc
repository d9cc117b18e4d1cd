#include "worker/service/service_streams.h"

#include <algorithm>
#include <utility>

namespace deltaserve {
namespace {

constexpr size_t kChunkBytes = size_t{1} << 20;

}  // namespace

AssetStream::AssetStream(grpc::CallbackServerContext* context,
                         const std::map<std::string, std::string>& files)
    : EventStream(context), file_(files.begin()), end_of_files_(files.end()) {}

void AssetStream::Begin() { OnWritten(); }

bool AssetStream::Join(v1::AssetChunk* /*last*/, const v1::AssetChunk& /*next*/) { return false; }

void AssetStream::OnGone() {}

void AssetStream::OnWritten() {
  if (file_ == end_of_files_) {
    End(grpc::Status::OK);
    return;
  }
  const std::string& bytes = file_->second;
  const size_t count = std::min(kChunkBytes, bytes.size() - offset_);
  v1::AssetChunk chunk;
  chunk.set_name(file_->first);
  chunk.set_offset(offset_);
  chunk.set_data(bytes.substr(offset_, count));
  offset_ += count;
  chunk.set_last(offset_ == bytes.size());
  if (chunk.last()) {
    ++file_;
    offset_ = 0;
  }
  Send(std::move(chunk));
}

void AssetStream::OnOver() {}

WatchStream::WatchStream(grpc::CallbackServerContext* context,
                         absl::Duration interval,
                         std::function<void(WatchStream*)> on_over)
    : EventStream(context), interval_(interval), on_over_(std::move(on_over)) {}

void WatchStream::Offer(absl::Time now, const v1::WorldReport& report) {
  if (now < due_ && report.state() == state_) return;
  if (!IsIdle()) return;
  due_ = now + interval_;
  state_ = report.state();
  v1::WorldReport numbered = report;
  numbered.set_sequence(++sequence_);
  Send(std::move(numbered));
}

bool WatchStream::Join(v1::WorldReport* /*last*/, const v1::WorldReport& /*next*/) { return false; }

void WatchStream::OnGone() {}

void WatchStream::OnWritten() {}

void WatchStream::OnOver() { on_over_(this); }

}  // namespace deltaserve
