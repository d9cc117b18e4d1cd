#pragma once

// MetricsServer: metrics over plain HTTP, as Prometheus asks for them.

#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "prometheus/collectable.h"
#include "prometheus/exposer.h"

namespace deltaserve {

// GET /metrics in Prometheus' text format; nothing else. No TLS and no password. Threads: any; it
// has its own, which block signals as the thread that starts it does. Its end takes up to 2 s, as
// long as the HTTP library waits between looks. Owner: main.
class MetricsServer {
 public:
  // `listen`: HOST:PORT, HOST an address of this machine (IPv6 in []), port 0 takes a free one.
  // INVALID_ARGUMENT naming --metrics-listen where that cannot be listened on. What `collectables`
  // stand on outlives the server.
  static absl::StatusOr<std::unique_ptr<MetricsServer>> Start(
      const std::string& listen,
      std::vector<std::shared_ptr<prometheus::Collectable>> collectables);
  MetricsServer(const MetricsServer&) = delete;
  MetricsServer& operator=(const MetricsServer&) = delete;

  const std::string& address() const { return address_; }  // HOST:PORT with the bound port

 private:
  MetricsServer() = default;

  std::vector<std::shared_ptr<prometheus::Collectable>> collectables_;  // the exposer has weak ones
  std::string address_;
  std::unique_ptr<prometheus::Exposer> exposer_;  // gone first
};

}  // namespace deltaserve
