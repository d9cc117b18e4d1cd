#pragma once

// WorldClient: a router's connection to one world: what it serves, how it is, and streams of
// tokens.

#include <atomic>
#include <cstdint>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "deltaserve/v1/world.grpc.pb.h"
#include "grpcpp/grpcpp.h"
#include "router/worlds/address_file.h"
#include "router/worlds/token_call.h"
#include "router/worlds/world_view.h"

namespace deltaserve {

struct WorldClientOptions {
  std::string address = {};  // HOST:PORT, or empty where a file says it
  // A file that holds HOST:PORT, followed as it changes: the world may return elsewhere.
  std::string address_file = {};
  absl::Duration file_interval = absl::Milliseconds(250);    // between looks at it
  absl::Duration call_timeout = absl::Seconds(10);           // of Describe
  absl::Duration assets_timeout = absl::Seconds(60);         // of GetTextAssets
  absl::Duration report_interval = absl::Milliseconds(200);  // asked of Watch
  absl::Duration report_timeout = absl::Seconds(15);         // silence that means lost
  absl::Duration least_backoff = absl::Milliseconds(200);    // between attempts to connect
  absl::Duration most_backoff = absl::Seconds(5);
};

// One thread describes the world, fetches its text files once a digest and follows its reports; it
// starts over, backing off, whenever the connection breaks, and at once where the address file was
// written anew. Streams to the place before run on there.
// Threads: any. Owner: WorldRegistry.
class WorldClient {
 public:
  // Connects in the background, for as long as it lives.
  explicit WorldClient(const WorldClientOptions& options);
  // Waits for the calls that are under way, which their owners have cancelled: the last hold on a
  // channel must not be let go of by one of gRPC's own threads, which would then wait for itself.
  ~WorldClient();
  WorldClient(const WorldClient&) = delete;
  WorldClient& operator=(const WorldClient&) = delete;

  WorldView View() const;

  // A stream of `request`, counted as in flight from now on; the caller calls Start(). Only after
  // View().facts was there.
  std::shared_ptr<TokenCall> NewCall(v1::TokenRequest request,
                                     absl::Time deadline,
                                     std::shared_ptr<TokenObserver> observer);

  // Waits until View().state is `state`; false where `deadline` came first.
  bool Await(WorldState state, absl::Time deadline) const;

 private:
  // Where the world is. Immutable; kept until it has no calls.
  struct Place {
    std::string address;
    std::shared_ptr<v1::World::Stub> stub;
    std::shared_ptr<CallCount> calls;
  };
  using PlacePtr = std::shared_ptr<const Place>;

  void Run();
  // From connecting to the break of the connection or a move. Never OK.
  absl::Status Session(const Place& place);
  absl::StatusOr<std::shared_ptr<const WorldFacts>> Describe(const Place& place);
  absl::StatusOr<std::shared_ptr<const ModelText>> FetchText(const Place& place,
                                                             const v1::ServedModel& model);
  absl::Status Follow(const Place& place);

  static PlacePtr MakePlace(const std::string& address);
  // What the address file says now.
  void OnAddress(const absl::StatusOr<std::string>& address);
  void Move(PlacePtr place) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  void Note(const Place& place, const v1::WorldReport& report);
  void NoteBroken(const absl::Status& status, absl::Duration backoff)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  // Makes `context` the one that the destructor and a move cancel; false where that has begun.
  bool Enter(const Place& place, grpc::ClientContext* context);
  void Leave();

  const WorldClientOptions options_;
  mutable absl::Mutex mutex_;
  PlacePtr place_ ABSL_GUARDED_BY(mutex_);              // null until there is an address
  std::vector<PlacePtr> left_ ABSL_GUARDED_BY(mutex_);  // places with calls that may still run
  WorldView view_ ABSL_GUARDED_BY(mutex_);
  absl::Time last_report_ ABSL_GUARDED_BY(mutex_) = absl::InfinitePast();
  grpc::ClientContext* context_ ABSL_GUARDED_BY(mutex_) = nullptr;
  bool stopping_ ABSL_GUARDED_BY(mutex_) = false;
  std::thread thread_;
  std::unique_ptr<AddressFile> file_;  // or null
};

}  // namespace deltaserve
