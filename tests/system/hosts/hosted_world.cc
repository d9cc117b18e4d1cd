#include "tests/system/hosts/hosted_world.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/strip.h"
#include "absl/time/clock.h"
#include "deltaserve/v1/world.grpc.pb.h"
#include "grpcpp/grpcpp.h"
#include "kernels/base/check.h"

namespace deltaserve::test {
namespace {

std::shared_ptr<grpc::Channel> Connect(const std::string& address) {
  return grpc::CreateChannel(address, grpc::InsecureChannelCredentials());
}

std::string AddressIn(const std::string& file, Process& process) {
  const auto address = WaitForFile(file, process, kStartTimeout);
  DS_CHECK(address.has_value()) << "no " << file << "; log:\n" << process.Log();
  return std::string(absl::StripSuffix(*address, "\n"));
}

}  // namespace

std::string MakeModel(const std::string& folder) {
  const RunResult made = RunToEnd({Binary("make_checkpoint"), "--shape", "tiny-moe", "--seed", "7",
                                   "--output", folder + "/model"});
  DS_CHECK_EQ(made.code, 0) << made.output;
  return folder + "/model";
}

std::string HostedWorld::Command(const std::string& model, const std::string& flags) {
  return absl::StrCat("cd / && exec ", DELTASERVE_SOURCE_DIR, "/deploy/world ", model, " --bin ",
                      DELTASERVE_BIN_DIR, " --agent ", TestHosts::Agent(),
                      " --allow-run-as-root --threads 1 ", flags);
}

HostedWorld::HostedWorld(const std::vector<std::string>& flags)
    : hosts_(2, {shared_.path()}),
      model_(MakeModel(shared_.path())),
      world_file_(shared_ / "world.address") {
  const std::string router_file = shared_ / "router.address";
  // First: it waits for the world's file.
  router_ = std::make_unique<Process>(
      std::vector<std::string>{Binary("router"), "--world-file", world_file_, "--listen",
                               "127.0.0.1:0", "--address-file", router_file},
      shared_ / "router.log");
  supervisor_ = std::make_unique<Process>(
      TestHosts::On(
          "a", Command(model_, absl::StrCat("--hosts a:2,b:2 --address-file ", world_file_, " ",
                                            absl::StrJoin(flags, " ")))),
      shared_ / "world.log");
  AddressIn(world_file_, *supervisor_);
  inference_ = v1::Inference::NewStub(Connect(AddressIn(router_file, *router_)));
}

std::vector<pid_t> HostedWorld::RankPids() {
  const auto world = v1::World::NewStub(Connect(AddressIn(world_file_, *supervisor_)));
  grpc::ClientContext context;
  v1::WorldDescription description;
  const grpc::Status status = world->Describe(&context, {}, &description);
  DS_CHECK(status.ok()) << status.error_message();
  std::vector<pid_t> pids;
  for (const v1::RankInfo& rank : description.ranks()) pids.push_back(rank.pid());
  return pids;
}

pid_t HostedWorld::PidOf(const std::string& program) {
  for (const auto& [pid, name] : WorldProcesses()) {
    if (name == program) return pid;
  }
  DS_CHECK(false) << "no " << program << " runs";
  return -1;
}

absl::Duration HostedWorld::WaitUntilServed(absl::Duration timeout) {
  const absl::Time start = absl::Now();
  grpc::Status status;
  while (absl::Now() < start + timeout) {
    grpc::ClientContext context;
    status = Generate(*inference_, GreedyRequest("again", 2), context).status;
    if (status.ok()) return absl::Now() - start;
    absl::SleepFor(absl::Milliseconds(20));
  }
  DS_CHECK(false) << "not served again: " << status.error_message() << "\n" << supervisor_->Log();
  return timeout;
}

std::optional<absl::Duration> HostedWorld::WaitUntilGone(const std::map<pid_t, std::string>& pids,
                                                         absl::Duration timeout) {
  const absl::Time start = absl::Now();
  while (true) {
    const std::map<pid_t, std::string> now = WorldProcesses();
    if (std::none_of(pids.begin(), pids.end(),
                     [&now](const auto& one) { return now.count(one.first) > 0; })) {
      return absl::Now() - start;
    }
    if (absl::Now() - start >= timeout) return std::nullopt;
    absl::SleepFor(absl::Milliseconds(10));
  }
}

}  // namespace deltaserve::test
