#pragma once

// AddressFile: a file that says where a world is, followed as it changes.

#include <functional>
#include <string>
#include <thread>

#include "absl/base/thread_annotations.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"

namespace deltaserve {

// Looks at the file again and again, since no notice comes of what another host changes on a
// network file system. Threads: any; one of its own looks. Owner: WorldClient.
class AddressFile {
 public:
  // HOST:PORT; NOT_FOUND where there is no such file or it is empty, INVALID_ARGUMENT, naming file
  // and content, where it holds something else. On the file's own thread: must not wait long.
  using OnChange = std::function<void(const absl::StatusOr<std::string>& address)>;

  // `on_change` hears what the file says now, then each time it was written anew, with the same
  // address too: a world that is back where it was.
  AddressFile(std::string path, absl::Duration interval, OnChange on_change);
  ~AddressFile();
  AddressFile(const AddressFile&) = delete;
  AddressFile& operator=(const AddressFile&) = delete;

 private:
  void Run();

  const std::string path_;
  const absl::Duration interval_;
  const OnChange on_change_;
  absl::Mutex mutex_;
  bool stopping_ ABSL_GUARDED_BY(mutex_) = false;
  std::thread thread_;
};

}  // namespace deltaserve
