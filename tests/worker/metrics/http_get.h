#pragma once

// One HTTP request over a socket of its own, for what a scrape gets.

#include <string>

#include "absl/status/statusor.h"

namespace deltaserve::test {

struct HttpAnswer {
  int code = 0;
  std::string headers;  // as they came, after the first line
  std::string body;
};

// `address`: IPv4:PORT. Reads until the server ends the connection; half a minute at most.
// UNAVAILABLE where nobody listens or what comes is no HTTP.
absl::StatusOr<HttpAnswer> HttpRequest(const std::string& method,
                                       const std::string& address,
                                       const std::string& path);

}  // namespace deltaserve::test
