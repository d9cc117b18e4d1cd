#include "worker/comm/shared_segment.h"

#include <fcntl.h>
#include <limits.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "kernels/base/check.h"
#include "kernels/base/status_macros.h"

namespace deltaserve {
namespace {

// Closes a descriptor.
class Descriptor {
 public:
  explicit Descriptor(int fd) : fd_(fd) {}
  Descriptor(Descriptor&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  Descriptor& operator=(Descriptor&& other) noexcept {
    std::swap(fd_, other.fd_);
    return *this;
  }
  ~Descriptor() {
    if (fd_ >= 0) close(fd_);
  }

  int get() const { return fd_; }

 private:
  int fd_;
};

absl::Status Failed(const RankInfo& info, const std::string& call) {
  return absl::UnavailableError(
      absl::StrCat("rank ", info.rank, " on ", info.host, ": ", call, ": ", std::strerror(errno)));
}

absl::StatusOr<Descriptor> CreateMemory(const RankInfo& info,
                                        const std::string& name,
                                        size_t bytes) {
  Descriptor memory(memfd_create(name.c_str(), MFD_CLOEXEC));
  if (memory.get() < 0) return Failed(info, "memfd_create");
  if (ftruncate(memory.get(), static_cast<off_t>(bytes)) != 0) {
    return Failed(info, absl::StrCat("memory of ", bytes, " bytes"));
  }
  return memory;
}

// `path`: a descriptor of another process. In another space of process ids it may be that of
// something else, so its name is looked at first.
absl::StatusOr<Descriptor> OpenMemory(const RankInfo& info,
                                      const std::string& name,
                                      const std::string& path) {
  std::string found(PATH_MAX, '\0');
  const ssize_t length = readlink(path.c_str(), found.data(), found.size());
  if (length < 0) return Failed(info, path);
  found.resize(static_cast<size_t>(length));
  if (found != absl::StrCat("/memfd:", name, " (deleted)")) {
    return absl::UnavailableError(absl::StrCat("rank ", info.rank, " on ", info.host, ": ", path,
                                               " is ", found, ", not the memory of rank 0"));
  }
  Descriptor memory(open(path.c_str(), O_RDWR | O_CLOEXEC));
  if (memory.get() < 0) return Failed(info, path);
  return memory;
}

absl::StatusOr<void*> Map(const RankInfo& info, const Descriptor& memory, size_t bytes) {
  void* const data =
      mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, memory.get(), /*offset=*/0);
  if (data == MAP_FAILED) return Failed(info, absl::StrCat("mmap of ", bytes, " bytes"));
  return data;
}

}  // namespace

absl::StatusOr<std::unique_ptr<SharedSegment>> SharedSegment::Create(World& world, size_t bytes) {
  DS_CHECK(bytes > 0);
  const RankInfo& info = world.info();
  const bool creates = info.rank == 0;
  const std::string name = absl::StrCat("deltaserve-", absl::Hex(world.DrawEpoch()));
  absl::StatusOr<Descriptor> memory = absl::UnknownError("not open");
  if (creates) memory = CreateMemory(info, name, bytes);
  DS_RETURN_IF_ERROR(world.AgreeOnStatus(creates ? memory.status() : absl::OkStatus()));
  const std::string path = world.BroadcastFromZero(
      creates ? absl::StrCat("/proc/", getpid(), "/fd/", memory->get()) : std::string());
  if (!creates) memory = OpenMemory(info, name, path);
  const absl::StatusOr<void*> data =
      memory.ok() ? Map(info, *memory, bytes) : absl::StatusOr<void*>(memory.status());
  std::unique_ptr<SharedSegment> segment;
  if (data.ok()) segment.reset(new SharedSegment(*data, bytes));
  // Rank 0 keeps its descriptor open until all have come so far.
  DS_RETURN_IF_ERROR(world.AgreeOnStatus(data.status()));
  return segment;
}

SharedSegment::~SharedSegment() { munmap(data_, bytes_); }

}  // namespace deltaserve
