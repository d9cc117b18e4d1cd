#include "tests/worker/metrics/http_get.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"

namespace deltaserve::test {
namespace {

absl::StatusOr<std::string> Exchange(int fd, const std::string& address, const std::string& sent) {
  const timeval patience = {.tv_sec = 30, .tv_usec = 0};
  setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
  const size_t colon = address.find(':');
  int port = 0;
  sockaddr_in to = {};
  to.sin_family = AF_INET;
  if (colon == std::string::npos || !absl::SimpleAtoi(address.substr(colon + 1), &port) ||
      inet_pton(AF_INET, address.substr(0, colon).c_str(), &to.sin_addr) != 1) {
    return absl::InvalidArgumentError(address);
  }
  to.sin_port = htons(static_cast<uint16_t>(port));
  if (connect(fd, reinterpret_cast<const sockaddr*>(&to), sizeof(to)) != 0 ||
      send(fd, sent.data(), sent.size(), MSG_NOSIGNAL) != static_cast<ssize_t>(sent.size())) {
    return absl::UnavailableError(address);
  }
  std::string got;
  char buffer[16384];
  ssize_t count = 0;
  while ((count = recv(fd, buffer, sizeof(buffer), 0)) > 0) {
    got.append(buffer, static_cast<size_t>(count));
  }
  if (count < 0) return absl::UnavailableError(absl::StrCat(address, " after ", got));
  return got;
}

}  // namespace

absl::StatusOr<HttpAnswer> HttpRequest(const std::string& method,
                                       const std::string& address,
                                       const std::string& path) {
  const int fd = socket(AF_INET, SOCK_STREAM, 0);
  const absl::StatusOr<std::string> got =
      Exchange(fd, address,
               absl::StrCat(method, " ", path, " HTTP/1.1\r\nHost: ", address,
                            "\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"));
  close(fd);
  if (!got.ok()) return got.status();
  const size_t line_end = got->find("\r\n");
  const size_t headers_end = got->find("\r\n\r\n");
  HttpAnswer answer;
  if (headers_end == std::string::npos || got->rfind("HTTP/1.1 ", 0) != 0 ||
      !absl::SimpleAtoi(got->substr(9, 3), &answer.code)) {
    return absl::UnavailableError(absl::StrCat("no HTTP: ", *got));
  }
  answer.headers = got->substr(line_end + 2, headers_end - line_end);
  answer.body = got->substr(headers_end + 4);
  return answer;
}

}  // namespace deltaserve::test
