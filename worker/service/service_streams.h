#pragma once

// The streams of a world beside Generate: text files in chunks, and reports at an interval.

#include <functional>
#include <map>
#include <memory>
#include <string>

#include "absl/time/time.h"
#include "deltaserve/v1/world.pb.h"
#include "proto/grpc_stream.h"

namespace deltaserve {

// One GetTextAssets call: a chunk at a time, in name order; `last` marks the last one of a file.
// Owner: itself (EventStream).
class AssetStream : public EventStream<v1::AssetChunk> {
 public:
  // `files` must outlive the call.
  AssetStream(grpc::CallbackServerContext* context,
              const std::map<std::string, std::string>& files);

  // Sends the first chunk.
  void Begin();

 private:
  bool Join(v1::AssetChunk* last, const v1::AssetChunk& next) override;
  void OnGone() override;
  void OnWritten() override;
  void OnOver() override;

  std::map<std::string, std::string>::const_iterator file_;
  const std::map<std::string, std::string>::const_iterator end_of_files_;
  size_t offset_ = 0;
};

// One Watch call. Offer: one thread at a time. Owner: itself (EventStream).
class WatchStream : public EventStream<v1::WorldReport> {
 public:
  WatchStream(grpc::CallbackServerContext* context,
              absl::Duration interval,
              std::function<void(WatchStream*)> on_over);

  // Sends `report`, numbered, where it is due at `now` or its state is new. A watcher that has not
  // read the last one gets none: it will get a newer one.
  void Offer(absl::Time now, const v1::WorldReport& report);

 private:
  bool Join(v1::WorldReport* last, const v1::WorldReport& next) override;
  void OnGone() override;
  void OnWritten() override;
  void OnOver() override;

  const absl::Duration interval_;
  const std::function<void(WatchStream*)> on_over_;
  absl::Time due_ = absl::InfinitePast();
  uint64_t sequence_ = 0;
  v1::WorldReport::State state_ = v1::WorldReport::STATE_UNSPECIFIED;
};

}  // namespace deltaserve
