// What a CUDA error says.

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "kernels/cuda/queue_cuda.h"

namespace deltaserve::cuda {
namespace {

using testing::AllOf;
using testing::HasSubstr;
using testing::Not;

TEST(CudaStatusTest, NamesCallAndErrorAndWhoseAFaultIs) {
  EXPECT_TRUE(ToStatus(cudaSuccess, "cudaMalloc").ok());
  const absl::Status refused = ToStatus(cudaErrorInvalidValue, "cudaMemcpyAsync");
  EXPECT_EQ(refused.code(), absl::StatusCode::kInternal);
  EXPECT_THAT(
      std::string(refused.message()),
      AllOf(HasSubstr("CUDA: cudaMemcpyAsync: cudaErrorInvalidValue: "), Not(HasSubstr("kernel"))));
  EXPECT_THAT(std::string(ToStatus(cudaErrorIllegalAddress, "cudaEventSynchronize").message()),
              AllOf(HasSubstr("CUDA: cudaEventSynchronize: cudaErrorIllegalAddress: "),
                    HasSubstr("of a kernel enqueued before that call: CUDA_LAUNCH_BLOCKING=1")));
}

TEST(CudaStatusTest, AQueueKeepsItsFirstErrorUntilItIsTaken) {
  Queue queue(nullptr, 1);
  queue.Note(cudaSuccess, "launch of a kernel");
  queue.Note(cudaErrorIllegalAddress, "cudaMemcpyAsync");
  queue.Note(cudaErrorInvalidValue, "cudaEventRecord");
  EXPECT_THAT(std::string(queue.TakeStatus().message()),
              HasSubstr("cudaMemcpyAsync: cudaErrorIllegalAddress"));
  EXPECT_TRUE(queue.TakeStatus().ok());
}

}  // namespace
}  // namespace deltaserve::cuda
