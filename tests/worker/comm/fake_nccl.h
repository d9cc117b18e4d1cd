#pragma once

// NCCL, and the little of CUDA that the communicator over it asks, for a machine without GPUs:
// ranks are threads of one process, a GPU's memory is the host's. fake_nccl_calls.cc defines their
// functions: a program's own go before those of libraries. It looks at its caller as NCCL would
// not: what its documentation forbids is a problem here, which on GPUs hangs or corrupts.

#include <cuda_runtime.h>
#include <nccl.h>

#include <condition_variable>
#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

namespace deltaserve {

// One at a time, made before the threads of ranks and destroyed after them. A rank's thread calls
// cudaSetDevice(rank) first. Methods: any thread.
class FakeNccl {
 public:
  explicit FakeNccl(int ranks);
  ~FakeNccl();
  FakeNccl(const FakeNccl&) = delete;
  FakeNccl& operator=(const FakeNccl&) = delete;

  // How the first call named `call` of a rank ends in place of what it does.
  enum class Trouble {
    kFails,       // it returns the result
    kFailsLater,  // it goes well; the state of its communicator becomes the result
    kStalls,      // nothing ever comes of it, and the others never hear from this rank
  };
  void Make(Trouble trouble, int rank, const std::string& call, ncclResult_t result);
  // The state of all communicators that the rank has.
  void SetState(int rank, ncclResult_t state);
  // All that is put on the rank's stream from now on fails.
  void FailStream(int rank, cudaError_t error);
  // What is left of an ncclMemAlloc that fails: the error of CUDA's runtime, and NCCL's own words.
  void SayOfMemory(cudaError_t error, const std::string& warning);
  std::string Warning();
  // As NCCL_WIN_ENABLE=0.
  void TakeWindowsAway();

  cudaStream_t stream(int rank);
  // What was done against NCCL's contract, and what was not given back.
  std::vector<std::string> Problems();
  // How often a rank called it.
  int NumCalls(int rank, const std::string& call);

  // That which lives, for the functions of C.
  static FakeNccl& Current();

  // What those call: as theirs. A call to which all ranks of a communicator come:
  struct Operation {
    struct Part {  // of a group
      bool sends;
      int peer;
      void* data;
      size_t bytes;
    };

    std::string call;
    const void* in = nullptr;
    void* out = nullptr;
    size_t count = 0;
    ncclDataType_t type = ncclUint8;
    int root = 0;
    cudaStream_t stream = nullptr;
    std::vector<Part> parts = {};
    ncclComm_t* newcomm = nullptr;  // of a split, which NCCL writes when it is done
    ncclConfig_t* config = nullptr;
    ncclWindow_t* window = nullptr;
  };
  ncclResult_t Init(ncclComm_t* comm, int size, const ncclUniqueId& id, int rank, ncclConfig_t*);
  ncclResult_t Split(ncclComm_t comm, ncclComm_t* newcomm, ncclConfig_t* config);
  ncclResult_t Run(ncclComm_t comm, Operation operation);
  ncclResult_t GetState(ncclComm_t comm, ncclResult_t* state);
  ncclResult_t Finalize(ncclComm_t comm);
  ncclResult_t Destroy(ncclComm_t comm);
  ncclResult_t Abort(ncclComm_t comm);
  ncclResult_t Allocate(void** memory, size_t bytes);
  ncclResult_t Free(void* memory);
  ncclResult_t Register(ncclComm_t comm, void* memory, size_t bytes, ncclWindow_t* window);
  ncclResult_t Deregister(ncclComm_t comm, ncclWindow_t window);
  ncclResult_t MakeId(ncclUniqueId* id);
  cudaError_t QueryStream(cudaStream_t stream);

 private:
  struct Meeting;
  struct Clique;
  struct Planned {
    Trouble trouble;
    ncclResult_t result;
  };

  ncclComm_t NewComm(Clique* clique, int rank, const ncclConfig_t* config);
  // Whether `comm` lives and may be given this call.
  bool MayCall(ncclComm_t comm, const std::string& call);
  // Brings the operation to the others; as a call of a communicator that blocks or does not.
  ncclResult_t Meet(ncclComm_t comm, Operation operation, std::unique_lock<std::mutex>& lock);
  void Complete(Clique& clique, Meeting& meeting);
  void Sum(const Meeting& meeting);
  void CopyParts(const Meeting& meeting);
  void Exchange(const Meeting& meeting);
  void Count(int rank, const std::string& call);
  void Problem(const std::string& text);
  void End(ncclComm_t comm);

  std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<std::string> problems_;
  std::map<std::pair<int, std::string>, Planned> planned_;
  std::map<std::pair<int, std::string>, int> calls_;
  std::map<std::string, std::unique_ptr<Clique>> cliques_;
  std::vector<std::unique_ptr<ncclComm>> comms_;
  std::deque<CUstream_st> streams_;
  std::map<void*, size_t> memory_;
  std::map<ncclWindow_t, void*> windows_;
  std::vector<std::unique_ptr<ncclWindow_vidmem>> all_windows_;
  bool has_windows_ = true;
  cudaError_t memory_error_ = cudaErrorMemoryAllocation;
  std::string warning_ = "the last warning";
  int num_cliques_ = 0;
};

// What CUDA and NCCL keep for a thread.
struct FakeThread {
  static FakeThread& Current();

  struct Group {
    int depth = 0;
    ncclComm_t comm = nullptr;
    FakeNccl::Operation operation = {};
  };

  int device = 0;
  cudaError_t last_error = cudaSuccess;
  Group group = {};  // the one that is open
};

}  // namespace deltaserve
