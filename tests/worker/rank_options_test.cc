#include "worker/rank_options.h"

#include <string>
#include <vector>

#include "gtest/gtest.h"

namespace deltaserve {
namespace {

struct Case {
  RankOptions options;
  std::string refused;  // empty: fine
};

RankOptions With(const std::string& device, void (*change)(RankOptions& options)) {
  RankOptions options;
  options.device = device;
  change(options);
  return options;
}

TEST(RankOptionsTest, RefusesFlagsThatMeanNothingForTheDevice) {
  const std::vector<Case> cases = {
      {With("cpu", [](RankOptions& o) { o.threads = 3; }), ""},
      {With("cpu", [](RankOptions& o) { o.communicator = "mpi"; }), ""},
      {With("cuda", [](RankOptions&) {}), ""},
      {With("cuda",
            [](RankOptions& o) {
              o.communicator = "nccl";
              o.ranks_per_gpu = 2;
              o.readers = 8;
            }),
       ""},
      {With("cuda", [](RankOptions& o) { o.threads = 3; }),
       "--threads is 3: it means nothing with --device cuda; leave it out"},
      {With("cuda", [](RankOptions& o) { o.cpu_isa = "x86-64-v4"; }),
       "--cpu-isa is x86-64-v4: it means nothing with --device cuda; leave it out"},
      {With("cpu", [](RankOptions& o) { o.communicator = "nccl"; }),
       "--communicator is nccl: it means nothing with --device cpu; use auto or mpi"},
      {With("cpu", [](RankOptions& o) { o.ranks_per_gpu = 2; }),
       "--ranks-per-gpu is 2: it means nothing with --device cpu; leave it out"},
      {With("cuda", [](RankOptions& o) { o.backends.attention = "flashinfer"; }), ""},
      {With("cpu", [](RankOptions& o) { o.backends.attention = "flashinfer"; }),
       "--attention-backend is flashinfer: it means nothing with --device cpu; leave it out"},
      {With("cpu", [](RankOptions& o) { o.backends.moe = "cutlass"; }),
       "--moe-backend is cutlass: it means nothing with --device cpu; leave it out"}};
  for (const Case& c : cases) {
    EXPECT_EQ(std::string(c.options.CheckDevice().message()), c.refused);
  }
}

TEST(RankOptionsTest, TheCommunicatorFollowsTheDeviceUnlessNamed) {
  const auto nothing = [](RankOptions&) {};
  const auto mpi = [](RankOptions& o) { o.communicator = "mpi"; };
  EXPECT_EQ(With("cpu", nothing).Communicator(), CommunicatorKind::kHost);
  EXPECT_EQ(With("cpu", mpi).Communicator(), CommunicatorKind::kMpi);
  EXPECT_EQ(With("cuda", nothing).Communicator(), CommunicatorKind::kNccl);
  EXPECT_EQ(With("cuda", mpi).Communicator(), CommunicatorKind::kMpi);
}

}  // namespace
}  // namespace deltaserve
