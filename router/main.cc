// deltaserve-router: takes requests of clients over gRPC and has them answered by a world.

#include <pthread.h>
#include <signal.h>

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "kernels/base/flags.h"
#include "kernels/base/log.h"
#include "kernels/base/status_macros.h"
#include "kernels/base/write_address.h"
#include "router/service/router_server.h"
#include "router/worlds/routing_policy.h"
#include "router/worlds/world_registry.h"

namespace deltaserve {
namespace {

constexpr absl::Duration kLook = absl::Milliseconds(100);
constexpr absl::Duration kRemind = absl::Seconds(10);

struct RouterFlags {
  std::string world;
  std::string world_file;
  std::string address_file;
  std::string log_level = "info";
  double drain_timeout_s = 30;
  RouterServerOptions server;
};

void AddFlags(CommandLine& line, RouterFlags* flags) {
  flags->server.listen = "127.0.0.1:50051";
  line.Add("--world", &flags->world, "HOST:PORT of rank 0 of the world").HostPort(1);
  line.Add("--world-file", &flags->world_file,
           "file that holds HOST:PORT of the world (deploy/world --address-file) and is followed: "
           "the world may return elsewhere");
  line.Add("--listen", &flags->server.listen, "HOST:PORT for clients; port 0 takes a free one")
      .HostPort(0);
  line.Add("--address-file", &flags->address_file,
           "file that gets HOST:PORT once a world is ready; - is standard output");
  line.Add("--default-max-tokens", &flags->server.default_max_tokens,
           "longest answer where a request says none")
      .In(1, 1 << 24);
  line.Add("--drain-timeout", &flags->drain_timeout_s,
           "seconds that answers may take after SIGTERM")
      .In(0, 86400);
  line.Add("--log-level", &flags->log_level, "debug, info, warn, error or off");
}

absl::Status CheckFlags(const RouterFlags& flags) {
  if (flags.world.empty() == flags.world_file.empty()) {
    return absl::InvalidArgumentError(
        absl::StrCat("--world is \"", flags.world, "\" and --world-file \"", flags.world_file,
                     "\": give one of them: an address, or a file that holds it"));
  }
  if (!IsLogLevel(flags.log_level)) {
    return absl::InvalidArgumentError(
        absl::StrCat("--log-level is ", flags.log_level, ": take debug, info, warn, error or off"));
  }
  return absl::OkStatus();
}

const std::string& WorldName(const RouterFlags& flags) {
  return flags.world.empty() ? flags.world_file : flags.world;
}

sigset_t EndSignals() {
  sigset_t signals;
  sigemptyset(&signals);
  sigaddset(&signals, SIGTERM);
  sigaddset(&signals, SIGINT);
  return signals;
}

// The signal that came within `patience`, or 0.
int AwaitSignal(const sigset_t& signals, absl::Duration patience) {
  const timespec time = absl::ToTimespec(patience);
  const int signal = sigtimedwait(&signals, nullptr, &time);
  return signal > 0 ? signal : 0;
}

// Until a signal asks for the end.
absl::Status Serve(const RouterFlags& flags, const RouterServer& server, const sigset_t& signals) {
  bool announced = false;
  absl::Time remind = absl::Now() + kRemind;
  while (AwaitSignal(signals, kLook) == 0) {
    if (!announced && server.IsReady()) {
      announced = true;
      LogInfo("ready: clients connect to {}", server.address());
      if (!flags.address_file.empty()) {
        DS_RETURN_IF_ERROR(WriteAddress(flags.address_file, server.address()));
      }
    }
    if (!announced && absl::Now() > remind) {
      LogInfo("still waiting for world {}", WorldName(flags));
      remind = absl::Now() + kRemind;
    }
  }
  return absl::OkStatus();
}

void End(const RouterFlags& flags, RouterServer& server, const sigset_t& signals) {
  LogInfo("draining: answers may take {} s more; a second signal ends them now",
          flags.drain_timeout_s);
  server.BeginDrain();
  const absl::Time deadline = absl::Now() + absl::Seconds(flags.drain_timeout_s);
  bool hurry = false;
  while (!hurry && absl::Now() < deadline && !server.AwaitIdle(absl::Now() + kLook)) {
    hurry = AwaitSignal(signals, absl::ZeroDuration()) != 0;
  }
  const bool idle = server.Drain(absl::Now());
  LogInfo("{}", idle ? "drained" : "ended with answers cut off");
}

int Main(int argc, char** argv) {
  CommandLine line("router", "Answers clients over gRPC with the tokens of a world.");
  RouterFlags flags;
  AddFlags(line, &flags);
  if (const auto code = line.Parse(argc, argv)) return *code;
  if (const absl::Status status = CheckFlags(flags); !status.ok()) return line.Refuse(status);
  InitLogging(flags.log_level, "router");
  // Blocked before any thread starts: this thread alone takes them.
  const sigset_t signals = EndSignals();
  pthread_sigmask(SIG_BLOCK, &signals, nullptr);

  LogInfo("waiting for world {}", WorldName(flags));
  auto worlds = std::make_unique<WorldRegistry>(std::vector<WorldClientOptions>{{
                                                    .address = flags.world,
                                                    .address_file = flags.world_file,
                                                }},
                                                std::make_unique<FewestStreams>());
  auto server = RouterServer::Start(flags.server, std::move(worlds));
  if (!server.ok()) return line.Refuse(server.status());
  const absl::Status served = Serve(flags, **server, signals);
  End(flags, **server, signals);
  return served.ok() ? kExitOk : line.Refuse(served);
}

}  // namespace
}  // namespace deltaserve

int main(int argc, char** argv) { return deltaserve::Main(argc, argv); }
