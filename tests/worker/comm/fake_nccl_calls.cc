// The functions of NCCL and CUDA, over FakeNccl.

#include <utility>

#include "tests/worker/comm/fake_nccl.h"

using deltaserve::FakeNccl;
using deltaserve::FakeThread;

// NOLINTBEGIN(readability-identifier-naming,readability-inconsistent-declaration-parameter-name)
extern "C" {

ncclResult_t ncclGetUniqueId(ncclUniqueId* id) { return FakeNccl::Current().MakeId(id); }
ncclResult_t ncclCommInitRankConfig(
    ncclComm_t* comm, int size, ncclUniqueId id, int rank, ncclConfig_t* config) {
  return FakeNccl::Current().Init(comm, size, id, rank, config);
}
ncclResult_t ncclCommSplit(
    ncclComm_t comm, int /*color*/, int /*key*/, ncclComm_t* newcomm, ncclConfig_t* config) {
  return FakeNccl::Current().Split(comm, newcomm, config);
}
ncclResult_t ncclCommGetAsyncError(ncclComm_t comm, ncclResult_t* state) {
  return FakeNccl::Current().GetState(comm, state);
}
ncclResult_t ncclCommFinalize(ncclComm_t comm) { return FakeNccl::Current().Finalize(comm); }
ncclResult_t ncclCommDestroy(ncclComm_t comm) { return FakeNccl::Current().Destroy(comm); }
ncclResult_t ncclCommAbort(ncclComm_t comm) { return FakeNccl::Current().Abort(comm); }
const char* ncclGetErrorString(ncclResult_t result) {
  return result == ncclUnhandledCudaError ? "unhandled cuda error"
         : result == ncclSystemError      ? "unhandled system error"
         : result == ncclRemoteError      ? "remote process exited"
         : result == ncclInvalidUsage     ? "invalid usage"
                                          : "another error";
}
const char* ncclGetLastError(ncclComm_t /*comm*/) {
  thread_local std::string warning;
  warning = FakeNccl::Current().Warning();
  return warning.c_str();
}
ncclResult_t ncclMemAlloc(void** memory, size_t bytes) {
  return FakeNccl::Current().Allocate(memory, bytes);
}
ncclResult_t ncclMemFree(void* memory) { return FakeNccl::Current().Free(memory); }
ncclResult_t ncclCommWindowRegister(
    ncclComm_t comm, void* memory, size_t bytes, ncclWindow_t* window, int /*flags*/) {
  return FakeNccl::Current().Register(comm, memory, bytes, window);
}
ncclResult_t ncclCommWindowDeregister(ncclComm_t comm, ncclWindow_t window) {
  return FakeNccl::Current().Deregister(comm, window);
}

ncclResult_t ncclAllReduce(const void* in,
                           void* out,
                           size_t count,
                           ncclDataType_t type,
                           ncclRedOp_t op,
                           ncclComm_t comm,
                           cudaStream_t stream) {
  if (op != ncclSum) return ncclInvalidArgument;
  return FakeNccl::Current().Run(comm, {.call = "ncclAllReduce",
                                        .in = in,
                                        .out = out,
                                        .count = count,
                                        .type = type,
                                        .stream = stream});
}
ncclResult_t ncclAllGather(const void* in,
                           void* out,
                           size_t count,
                           ncclDataType_t type,
                           ncclComm_t comm,
                           cudaStream_t stream) {
  return FakeNccl::Current().Run(comm, {.call = "ncclAllGather",
                                        .in = in,
                                        .out = out,
                                        .count = count,
                                        .type = type,
                                        .stream = stream});
}
ncclResult_t ncclBroadcast(const void* in,
                           void* out,
                           size_t count,
                           ncclDataType_t type,
                           int root,
                           ncclComm_t comm,
                           cudaStream_t stream) {
  return FakeNccl::Current().Run(comm, {.call = "ncclBroadcast",
                                        .in = in,
                                        .out = out,
                                        .count = count,
                                        .type = type,
                                        .root = root,
                                        .stream = stream});
}

// Outside a group a rank that sends to itself would wait for ever.
ncclResult_t ncclGroupStart() {
  if (FakeThread::Current().group.depth++ == 0)
    FakeThread::Current().group.operation = {.call = "ncclGroupEnd"};
  return ncclSuccess;
}
ncclResult_t ncclSend(const void* data,
                      size_t count,
                      ncclDataType_t /*type*/,
                      int peer,
                      ncclComm_t comm,
                      cudaStream_t stream) {
  if (FakeThread::Current().group.depth == 0) return ncclInvalidUsage;
  FakeThread::Current().group.comm = comm;
  FakeThread::Current().group.operation.stream = stream;
  FakeThread::Current().group.operation.parts.push_back(
      {true, peer, const_cast<void*>(data), count});
  return ncclSuccess;
}
ncclResult_t ncclRecv(void* data,
                      size_t count,
                      ncclDataType_t /*type*/,
                      int peer,
                      ncclComm_t comm,
                      cudaStream_t stream) {
  if (FakeThread::Current().group.depth == 0) return ncclInvalidUsage;
  FakeThread::Current().group.comm = comm;
  FakeThread::Current().group.operation.stream = stream;
  FakeThread::Current().group.operation.parts.push_back({false, peer, data, count});
  return ncclSuccess;
}
ncclResult_t ncclGroupEnd() {
  if (FakeThread::Current().group.depth == 0) return ncclInvalidUsage;
  if (--FakeThread::Current().group.depth > 0 ||
      FakeThread::Current().group.operation.parts.empty())
    return ncclSuccess;
  return FakeNccl::Current().Run(FakeThread::Current().group.comm,
                                 std::exchange(FakeThread::Current().group.operation, {}));
}

cudaError_t cudaSetDevice(int device) {
  FakeThread::Current().device = device;
  return cudaSuccess;
}
cudaError_t cudaGetDevice(int* device) {
  *device = FakeThread::Current().device;
  return cudaSuccess;
}
// Keeps what it gives, as the real one: a launch that looks for its own error finds that.
cudaError_t cudaStreamQuery(cudaStream_t stream) {
  const cudaError_t state = FakeNccl::Current().QueryStream(stream);
  if (state != cudaSuccess) FakeThread::Current().last_error = state;
  return state;
}
cudaError_t cudaPeekAtLastError() { return FakeThread::Current().last_error; }
cudaError_t cudaGetLastError() {
  return std::exchange(FakeThread::Current().last_error, cudaSuccess);
}

}  // extern "C"
// NOLINTEND(readability-identifier-naming,readability-inconsistent-declaration-parameter-name)
