#include "tests/worker/comm/fake_nccl.h"

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include "kernels/base/check.h"
#include "kernels/tensor/dtype.h"

// A communicator of one rank.
struct ncclComm {
  void* clique = nullptr;
  int rank = 0;
  bool blocking = false;
  bool alive = true;
  bool finalized = false;
  ncclComm* parent = nullptr;
  int num_children = 0;
  uint64_t num_meetings = 0;
  ncclResult_t state = ncclSuccess;
  bool done = false;  // of what is in progress
  int polls = 0;      // until its caller hears that
};
struct ncclWindow_vidmem {
  ncclComm_t comm;
};
struct CUstream_st {
  int rank;
  int polls = 0;  // until what is on it is done
  cudaError_t error = cudaSuccess;
};

namespace deltaserve {
namespace {

FakeNccl* g_fake = nullptr;
thread_local FakeThread t_thread;

constexpr int kPolls = 2;
constexpr std::chrono::seconds kPatience(20);

size_t SizeOf(ncclDataType_t type) {
  return type == ncclFloat32 ? 4 : type == ncclBfloat16 ? 2 : 1;
}

}  // namespace

struct FakeNccl::Meeting {
  std::vector<std::pair<ncclComm_t, Operation>> here;
  bool done = false;
};

struct FakeNccl::Clique {
  int size = 0;
  std::map<uint64_t, Meeting> meetings;
  std::vector<ncclComm_t> comms;
  bool cut = false;  // one has gone
};

FakeThread& FakeThread::Current() { return t_thread; }

FakeNccl& FakeNccl::Current() { return *g_fake; }

FakeNccl::FakeNccl(int ranks) {
  DS_CHECK(g_fake == nullptr);
  g_fake = this;
  for (int rank = 0; rank < ranks; ++rank) streams_.push_back({.rank = rank});
}

FakeNccl::~FakeNccl() {
  for (const auto& [memory, bytes] : memory_) std::free(memory);
  g_fake = nullptr;
}

void FakeNccl::Make(Trouble trouble, int rank, const std::string& call, ncclResult_t result) {
  const std::lock_guard lock(mutex_);
  planned_[{rank, call}] = {trouble, result};
}

void FakeNccl::SetState(int rank, ncclResult_t state) {
  const std::lock_guard lock(mutex_);
  for (const auto& comm : comms_) {
    if (comm->alive && comm->rank == rank) comm->state = state;
  }
}

void FakeNccl::FailStream(int rank, cudaError_t error) {
  const std::lock_guard lock(mutex_);
  streams_[static_cast<size_t>(rank)].error = error;
}

void FakeNccl::TakeWindowsAway() {
  const std::lock_guard lock(mutex_);
  has_windows_ = false;
}

cudaStream_t FakeNccl::stream(int rank) { return &streams_[static_cast<size_t>(rank)]; }

std::vector<std::string> FakeNccl::Problems() {
  const std::lock_guard lock(mutex_);
  std::vector<std::string> problems = problems_;
  for (const auto& comm : comms_) {
    if (comm->alive) problems.push_back(absl::StrCat("rank ", comm->rank, " keeps a communicator"));
  }
  if (!memory_.empty()) problems.push_back(absl::StrCat(memory_.size(), " blocks are not freed"));
  if (!windows_.empty()) problems.push_back(absl::StrCat(windows_.size(), " windows are kept"));
  return problems;
}

int FakeNccl::NumCalls(int rank, const std::string& call) {
  const std::lock_guard lock(mutex_);
  return calls_[{rank, call}];
}

void FakeNccl::Count(int rank, const std::string& call) { ++calls_[{rank, call}]; }

void FakeNccl::Problem(const std::string& text) { problems_.push_back(text); }

ncclComm_t FakeNccl::NewComm(Clique* clique, int rank, const ncclConfig_t* config) {
  const ncclConfig_t sound = NCCL_CONFIG_INITIALIZER;
  if (config->size != sound.size || config->magic != sound.magic ||
      config->version != sound.version || config->blocking < 0 || config->blocking > 1) {
    Problem("a config that is not initialised or does not say whether it blocks");
  }
  auto comm = std::make_unique<ncclComm>();
  comm->clique = clique;
  comm->rank = rank;
  comm->blocking = config->blocking == 1;
  clique->comms.push_back(comm.get());
  comms_.push_back(std::move(comm));
  return comms_.back().get();
}

bool FakeNccl::MayCall(ncclComm_t comm, const std::string& call) {
  if (comm == nullptr || !comm->alive) {
    Problem(call + " of a communicator that has ended");
    return false;
  }
  Count(comm->rank, call);
  if (comm->state == ncclInProgress) {
    Problem(absl::StrCat(call, " while rank ", comm->rank, " has a call under way"));
    return false;
  }
  return true;
}

ncclResult_t FakeNccl::Meet(ncclComm_t comm,
                            Operation operation,
                            std::unique_lock<std::mutex>& lock) {
  if (const auto found = planned_.find({comm->rank, operation.call}); found != planned_.end()) {
    const Planned planned = found->second;
    planned_.erase(found);
    if (planned.trouble == Trouble::kFails) return planned.result;
    comm->state = planned.trouble == Trouble::kFailsLater ? planned.result : ncclInProgress;
    DS_CHECK(!comm->blocking) << "a call that blocks would not return";
    return ncclInProgress;
  }
  auto& clique = *static_cast<Clique*>(comm->clique);
  Meeting& meeting = clique.meetings[comm->num_meetings++];
  if (operation.stream != nullptr && operation.stream->rank != comm->rank) {
    Problem(operation.call + " on the stream of another rank");
  }
  comm->state = ncclInProgress;
  comm->done = false;
  comm->polls = kPolls;
  if (clique.cut) {
    comm->state = ncclRemoteError;
    return comm->blocking ? ncclRemoteError : ncclInProgress;
  }
  meeting.here.emplace_back(comm, std::move(operation));
  if (static_cast<int>(meeting.here.size()) == clique.size) {
    Complete(clique, meeting);
    meeting.done = true;
    for (const auto& [each, theirs] : meeting.here) {
      each->done = true;
      if (theirs.stream != nullptr && !each->blocking) theirs.stream->polls = kPolls;
    }
    changed_.notify_all();
  }
  if (!comm->blocking) return ncclInProgress;
  const auto over = [&] { return meeting.done || clique.cut; };
  if (!changed_.wait_for(lock, kPatience, over)) {
    Problem(absl::StrCat("rank ", comm->rank, " waits within NCCL for ranks that do not come"));
  }
  comm->state = meeting.done ? ncclSuccess : ncclRemoteError;
  return comm->state;
}

// The work of a call to which all ranks have come.
void FakeNccl::Complete(Clique& clique, Meeting& meeting) {
  auto& here = meeting.here;
  std::sort(here.begin(), here.end(),
            [](const auto& a, const auto& b) { return a.first->rank < b.first->rank; });
  const Operation& first = here.front().second;
  for (const auto& [comm, each] : here) {
    if (each.call != first.call || each.count != first.count || each.type != first.type ||
        each.root != first.root) {
      Problem(absl::StrCat("rank ", comm->rank, " calls ", each.call, " otherwise than rank 0"));
      return;
    }
  }
  if (first.call == "ncclAllReduce") {
    Sum(meeting);
  } else if (first.call == "ncclAllGather" || first.call == "ncclBroadcast") {
    CopyParts(meeting);
  } else if (first.call == "ncclGroupEnd") {
    Exchange(meeting);
  } else if (first.call == "ncclCommSplit") {
    auto& made = cliques_[absl::StrCat("split ", num_cliques_++)];
    made = std::make_unique<Clique>();
    made->size = clique.size;
    for (const auto& [comm, each] : here) {
      *each.newcomm = NewComm(made.get(), comm->rank, each.config);
      (*each.newcomm)->parent = comm;
      ++comm->num_children;
    }
  } else if (first.call == "ncclCommWindowRegister" && has_windows_) {
    for (const auto& [comm, each] : here) {
      all_windows_.push_back(std::make_unique<ncclWindow_vidmem>(ncclWindow_vidmem{comm}));
      *each.window = all_windows_.back().get();
      windows_[*each.window] = each.out;
    }
  }
}

void FakeNccl::Sum(const Meeting& meeting) {
  const ncclDataType_t type = meeting.here.front().second.type;
  if (type != ncclFloat32 && type != ncclBfloat16) Problem("a sum of no known type");
  for (size_t i = 0; i < meeting.here.front().second.count; ++i) {
    float sum = 0;
    for (const auto& [comm, each] : meeting.here) {
      sum += type == ncclFloat32 ? static_cast<const float*>(each.in)[i]
                                 : ToFloat(static_cast<const BFloat16*>(each.in)[i]);
    }
    for (const auto& [comm, each] : meeting.here) {
      if (type == ncclFloat32) {
        static_cast<float*>(each.out)[i] = sum;
      } else {
        static_cast<BFloat16*>(each.out)[i] = ToBFloat16(sum);
      }
    }
  }
}

// Of every rank, or of the root.
void FakeNccl::CopyParts(const Meeting& meeting) {
  const Operation& first = meeting.here.front().second;
  const size_t bytes = first.count * SizeOf(first.type);
  for (const auto& [to, all] : meeting.here) {
    if (first.call == "ncclBroadcast") {
      std::memmove(all.out, meeting.here[static_cast<size_t>(first.root)].second.in, bytes);
      continue;
    }
    for (const auto& [from, each] : meeting.here) {
      std::memmove(static_cast<char*>(all.out) + static_cast<size_t>(from->rank) * bytes, each.in,
                   bytes);
    }
  }
}

void FakeNccl::Exchange(const Meeting& meeting) {
  std::map<std::pair<int, int>, std::deque<Operation::Part>> sent;  // from, to
  for (const auto& [comm, each] : meeting.here) {
    for (const auto& part : each.parts) {
      if (part.sends) sent[{comm->rank, part.peer}].push_back(part);
    }
  }
  for (const auto& [comm, each] : meeting.here) {
    for (const auto& part : each.parts) {
      if (part.sends) continue;
      auto& from = sent[{part.peer, comm->rank}];
      if (from.empty() || from.front().bytes != part.bytes) {
        Problem(
            absl::StrCat("rank ", comm->rank, " receives what rank ", part.peer, " does not send"));
        return;
      }
      std::memmove(part.data, from.front().data, part.bytes);
      from.pop_front();
    }
  }
  for (const auto& [way, left] : sent) {
    if (!left.empty()) Problem(absl::StrCat("nobody receives what rank ", way.first, " sends"));
  }
}

ncclResult_t FakeNccl::MakeId(ncclUniqueId* id) {
  const std::lock_guard lock(mutex_);
  Count(t_thread.device, "ncclGetUniqueId");
  if (const auto found = planned_.find({t_thread.device, "ncclGetUniqueId"});
      found != planned_.end()) {
    return found->second.result;
  }
  std::memset(id->internal, 0, sizeof(id->internal));
  id->internal[sizeof(id->internal) - 1] = static_cast<char>(++num_cliques_);
  return ncclSuccess;
}

ncclResult_t FakeNccl::Init(
    ncclComm_t* comm, int size, const ncclUniqueId& id, int rank, ncclConfig_t* config) {
  std::unique_lock lock(mutex_);
  auto& clique = cliques_[std::string(id.internal, sizeof(id.internal))];
  if (clique == nullptr) clique = std::make_unique<Clique>();
  clique->size = size;
  if (rank != t_thread.device) Problem("a rank on the GPU of another");
  *comm = NewComm(clique.get(), rank, config);
  Count(rank, "ncclCommInitRankConfig");
  const ncclResult_t result = Meet(*comm, {.call = "ncclCommInitRankConfig"}, lock);
  if (result != ncclSuccess && result != ncclInProgress) {
    End(*comm);
    *comm = nullptr;
  }
  return result;
}

ncclResult_t FakeNccl::Split(ncclComm_t comm, ncclComm_t* newcomm, ncclConfig_t* config) {
  std::unique_lock lock(mutex_);
  if (!MayCall(comm, "ncclCommSplit")) return ncclInvalidUsage;
  *newcomm = nullptr;
  return Meet(comm, {.call = "ncclCommSplit", .newcomm = newcomm, .config = config}, lock);
}

ncclResult_t FakeNccl::Run(ncclComm_t comm, Operation operation) {
  std::unique_lock lock(mutex_);
  if (!MayCall(comm, operation.call)) return ncclInvalidUsage;
  if (operation.stream == nullptr && operation.parts.empty()) Problem("a call without a stream");
  return Meet(comm, std::move(operation), lock);
}

ncclResult_t FakeNccl::GetState(ncclComm_t comm, ncclResult_t* state) {
  const std::lock_guard lock(mutex_);
  if (comm == nullptr || !comm->alive) {
    Problem("ncclCommGetAsyncError of a communicator that has ended");
    return ncclInvalidArgument;
  }
  if (!comm->blocking && comm->state == ncclInProgress && comm->done && comm->polls-- == 0) {
    comm->state = ncclSuccess;
  }
  *state = comm->state;
  return ncclSuccess;
}

ncclResult_t FakeNccl::Finalize(ncclComm_t comm) {
  std::unique_lock lock(mutex_);
  if (!MayCall(comm, "ncclCommFinalize")) return ncclInvalidUsage;
  comm->finalized = true;
  return Meet(comm, {.call = "ncclCommFinalize"}, lock);
}

ncclResult_t FakeNccl::Destroy(ncclComm_t comm) {
  std::unique_lock lock(mutex_);
  if (!MayCall(comm, "ncclCommDestroy")) return ncclInvalidUsage;
  if (!comm->blocking && !comm->finalized) Problem("an end without a deadline");
  if (comm->num_children > 0) Problem("a communicator ends before one that shares what it has");
  for (const auto& [window, memory] : windows_) {
    if (window->comm == comm) Problem("a communicator ends before its windows");
  }
  ncclResult_t result = ncclSuccess;
  if (comm->blocking) result = Meet(comm, {.call = "ncclCommDestroy"}, lock);
  End(comm);
  return result;
}

ncclResult_t FakeNccl::Abort(ncclComm_t comm) {
  const std::lock_guard lock(mutex_);
  if (comm == nullptr || !comm->alive) {
    Problem("ncclCommAbort of a communicator that has ended");
    return ncclInvalidArgument;
  }
  Count(comm->rank, "ncclCommAbort");
  auto& clique = *static_cast<Clique*>(comm->clique);
  clique.cut = true;
  for (const ncclComm_t each : clique.comms) {
    if (each != comm && each->state == ncclInProgress && !each->done) each->state = ncclRemoteError;
  }
  End(comm);
  changed_.notify_all();
  return ncclSuccess;
}

void FakeNccl::End(ncclComm_t comm) {
  comm->alive = false;
  if (comm->parent != nullptr) --comm->parent->num_children;
}

void FakeNccl::SayOfMemory(cudaError_t error, const std::string& warning) {
  const std::lock_guard lock(mutex_);
  memory_error_ = error;
  warning_ = warning;
}

std::string FakeNccl::Warning() {
  const std::lock_guard lock(mutex_);
  return warning_;
}

ncclResult_t FakeNccl::Allocate(void** memory, size_t bytes) {
  const std::lock_guard lock(mutex_);
  Count(t_thread.device, "ncclMemAlloc");
  if (const auto found = planned_.find({t_thread.device, "ncclMemAlloc"});
      found != planned_.end()) {
    t_thread.last_error = memory_error_;  // as of a call that NCCL makes
    return found->second.result;
  }
  const size_t whole = (bytes + NCCL_WIN_REQUIRED_ALIGNMENT) / NCCL_WIN_REQUIRED_ALIGNMENT *
                       NCCL_WIN_REQUIRED_ALIGNMENT;
  *memory = std::aligned_alloc(NCCL_WIN_REQUIRED_ALIGNMENT, whole);
  std::memset(*memory, 0xff, whole);
  memory_[*memory] = bytes;
  return ncclSuccess;
}

ncclResult_t FakeNccl::Free(void* memory) {
  const std::lock_guard lock(mutex_);
  for (const auto& [window, theirs] : windows_) {
    if (theirs == memory) Problem("memory is freed before its window");
  }
  if (memory_.erase(memory) == 0) Problem("memory is freed that is not NCCL's");
  std::free(memory);
  return ncclSuccess;
}

ncclResult_t FakeNccl::Register(ncclComm_t comm, void* memory, size_t bytes, ncclWindow_t* window) {
  std::unique_lock lock(mutex_);
  if (!MayCall(comm, "ncclCommWindowRegister")) return ncclInvalidUsage;
  const auto found = memory_.find(memory);
  if (found == memory_.end() || found->second < bytes) Problem("a window on memory not NCCL's");
  *window = nullptr;
  return Meet(comm,
              {.call = "ncclCommWindowRegister", .out = memory, .count = bytes, .window = window},
              lock);
}

ncclResult_t FakeNccl::Deregister(ncclComm_t comm, ncclWindow_t window) {
  const std::lock_guard lock(mutex_);
  if (!MayCall(comm, "ncclCommWindowDeregister")) return ncclInvalidUsage;
  if (windows_.erase(window) == 0 || window->comm != comm)
    Problem("no window of this communicator");
  return ncclSuccess;
}

cudaError_t FakeNccl::QueryStream(cudaStream_t stream) {
  const std::lock_guard lock(mutex_);
  if (stream->error != cudaSuccess) return stream->error;
  return stream->polls > 0 && stream->polls-- > 0 ? cudaErrorNotReady : cudaSuccess;
}

}  // namespace deltaserve
