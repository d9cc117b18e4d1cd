#include "worker/metrics/metrics_server.h"

#include <exception>
#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"

namespace deltaserve {
namespace {

// Scrapes are short and few.
constexpr char kThreads[] = "2";

absl::Status CannotListen(const std::string& listen, const std::string& problem) {
  return absl::InvalidArgumentError(
      absl::StrCat("--metrics-listen is ", listen, ": ", problem,
                   "; give HOST:PORT of this machine with a free port, or port 0"));
}

// The part before the port. The HTTP library takes far more than one address.
absl::StatusOr<std::string> HostOf(const std::string& listen) {
  const size_t colon = listen.rfind(':');
  const std::string host = listen.substr(0, colon);
  int port = -1;
  if (colon == std::string::npos || host.empty() || listen.find(',') != std::string::npos ||
      listen.find_first_not_of("0123456789", colon + 1) != std::string::npos ||
      !absl::SimpleAtoi(listen.substr(colon + 1), &port) || port > 65535) {
    return CannotListen(listen, "no HOST:PORT");
  }
  return host;
}

}  // namespace

absl::StatusOr<std::unique_ptr<MetricsServer>> MetricsServer::Start(
    const std::string& listen, std::vector<std::shared_ptr<prometheus::Collectable>> collectables) {
  const absl::StatusOr<std::string> host = HostOf(listen);
  if (!host.ok()) return host.status();
  std::unique_ptr<MetricsServer> server(new MetricsServer());
  server->collectables_ = std::move(collectables);
  try {
    server->exposer_ = std::make_unique<prometheus::Exposer>(
        std::vector<std::string>{"listening_ports", listen, "num_threads", kThreads});
  } catch (const std::exception&) {  // says that, not why
    return CannotListen(listen, "it cannot be listened on");
  }
  for (const auto& collectable : server->collectables_) {
    server->exposer_->RegisterCollectable(collectable, "/metrics");
  }
  server->address_ = absl::StrCat(*host, ":", server->exposer_->GetListeningPorts().front());
  return server;
}

}  // namespace deltaserve
