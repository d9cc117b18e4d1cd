#pragma once

// A world over several test hosts, kept by deploy/world on the first of them, and a router on the
// machine that they are on, which follows its address file.

#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/time/time.h"
#include "deltaserve/v1/inference.grpc.pb.h"
#include "tests/system/hosts/test_hosts.h"
#include "tests/system/process.h"
#include "tests/system/served_model.h"

namespace deltaserve::test {

class HostedWorld {
 public:
  // Two hosts of two ranks, over a tiny model with random weights. `flags`: more of deploy/world.
  explicit HostedWorld(const std::vector<std::string>& flags = {});

  TestHosts& hosts() { return hosts_; }
  v1::Inference::Stub& inference() { return *inference_; }
  Process& supervisor() { return *supervisor_; }
  Process& router() { return *router_; }
  const std::string& model() const { return model_; }
  const std::string& world_file() const { return world_file_; }

  // Ranks by number.
  std::vector<pid_t> RankPids();
  // The process of that name; the first of several.
  static pid_t PidOf(const std::string& program);

  // Polls the router with a short request until it is answered; how long that took.
  absl::Duration WaitUntilServed(absl::Duration timeout);
  // Polls until none of `pids` runs; how long that took, nullopt where one still does.
  static std::optional<absl::Duration> WaitUntilGone(const std::map<pid_t, std::string>& pids,
                                                     absl::Duration timeout);

  // deploy/world on a host, with what every test gives.
  static std::string Command(const std::string& model, const std::string& flags);

 private:
  TempDir shared_;
  TestHosts hosts_;
  std::string model_, world_file_;
  std::unique_ptr<Process> supervisor_, router_;
  std::unique_ptr<v1::Inference::Stub> inference_;
};

// The tiny model of these tests, made in `folder`; its path.
std::string MakeModel(const std::string& folder);

}  // namespace deltaserve::test
