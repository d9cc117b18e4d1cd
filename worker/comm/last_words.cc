#include "worker/comm/last_words.h"

#include <limits.h>
#include <poll.h>
#include <unistd.h>

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"

namespace deltaserve {

LastWords::LastWords(const RankInfo& info, Options options)
    : info_(info), options_(std::move(options)) {}

void LastWords::Die(int exit_code, const std::string& cause) {
  End(absl::StrCat(options_.program, ": rank ", info_.rank, " on ", info_.host, ": ", cause),
      {.rank = info_.rank, .host = info_.host, .cause = cause, .exit_code = exit_code});
}

void LastWords::DieOfPeer(const PeerLoss& loss) {
  const std::string peer =
      loss.rank == info_.rank ? std::string("given up by the other ranks: ")
                              : absl::StrCat("ends with rank ", loss.rank, " on ", loss.host, ": ");
  End(absl::StrCat(options_.program, ": rank ", info_.rank, " on ", info_.host, ": ", peer,
                   loss.cause),
      loss);
}

void LastWords::SetFarewell(Farewell farewell) {
  const absl::MutexLock lock(&mutex_);
  farewell_ = std::move(farewell);
}

void LastWords::End(const std::string& line, const PeerLoss& root) {
  if (spoken_.exchange(true)) {
    ended_.WaitForNotification();
    return;
  }
  Write(line);  // before the others hear of it, so that the cause stands above what it leads to
  {
    const absl::MutexLock lock(&mutex_);
    if (farewell_) farewell_(root);
  }
  if (options_.exit) {
    options_.exit(root.exit_code);
  } else {
    _exit(root.exit_code);
  }
  ended_.Notify();
}

void LastWords::Write(const std::string& line) const {
  // A single write of at most PIPE_BUF bytes does not mix with those of other ranks; and a reader
  // that has stopped reading must not keep this process alive.
  std::string text = line.substr(0, PIPE_BUF - 1);
  std::replace(text.begin(), text.end(), '\n', ' ');
  text.push_back('\n');
  pollfd output = {.fd = options_.output_fd, .events = POLLOUT, .revents = 0};
  if (poll(&output, 1, /*timeout ms=*/200) != 1 || (output.revents & POLLOUT) == 0) return;
  if (write(options_.output_fd, text.data(), text.size()) < 0) return;  // nowhere left to say it
}

}  // namespace deltaserve
