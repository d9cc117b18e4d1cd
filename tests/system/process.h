#pragma once

// Child processes of system tests: started in a group of their own, so that nothing of them
// outlives a test.

#include <sys/types.h>

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "absl/time/time.h"

namespace deltaserve::test {

// A folder below the system's temporary folder, removed with its contents at the end.
class TempDir {
 public:
  TempDir();
  ~TempDir();
  TempDir(const TempDir&) = delete;
  TempDir& operator=(const TempDir&) = delete;

  const std::string& path() const { return path_; }
  std::string operator/(const std::string& name) const { return path_ + "/" + name; }

 private:
  std::string path_;
};

// One child. Output and errors go to one log. The destructor kills the whole process group.
class Process {
 public:
  // argv[0] is a path or is found on PATH; `environment` is added to ours.
  Process(const std::vector<std::string>& argv,
          const std::string& log_path,
          const std::map<std::string, std::string>& environment = {});
  ~Process();
  Process(const Process&) = delete;
  Process& operator=(const Process&) = delete;

  pid_t pid() const { return pid_; }
  void Signal(int signal) const;

  // Exit code (128 + signal where killed), or nullopt where it still runs at the deadline.
  std::optional<int> Wait(absl::Duration timeout);
  bool running();

  std::string Log() const;

 private:
  pid_t pid_ = -1;
  std::optional<int> code_;
  std::string log_path_;
};

// Runs to the end: exit code (-1 after the timeout) and what was printed.
struct RunResult {
  int code = -1;
  std::string output;
};
RunResult RunToEnd(const std::vector<std::string>& argv,
                   absl::Duration timeout = absl::Minutes(2),
                   const std::map<std::string, std::string>& environment = {});

// The bytes of a file; nullopt where it is missing or empty.
std::optional<std::string> ReadFile(const std::string& path);

// Polls until the file has content; nullopt at the deadline or once `process` has ended.
std::optional<std::string> WaitForFile(const std::string& path,
                                       Process& process,
                                       absl::Duration timeout);

// Processes whose command line contains `text`, ours and the children's zombies left out.
std::vector<pid_t> ProcessesNaming(const std::string& text);

// What a running process holds.
struct ProcessNumbers {
  int64_t resident_bytes = 0;
  int threads = 0;
  int files = 0;  // open descriptors
};
// nullopt where no process of ours has that id.
std::optional<ProcessNumbers> NumbersOf(pid_t pid);

// Path of a built binary: "worker" -> .../bin/deltaserve-worker; below DELTASERVE_BIN where that is
// set, as where the tests were built elsewhere.
std::string Binary(const std::string& name);

// Path of a committed file; below DELTASERVE_TREE where that is set.
std::string SourcePath(const std::string& path);

// Whether DELTASERVE_RANK_FLAGS puts ranks on GPUs: then answers in other company, or of other
// steps, need not be equal (docs/numerics.md), and tests compare what else there is.
bool RanksAreOnGpus();

// "--threads 1", as tests run many ranks at once; nothing where they are on GPUs, which refuse it.
std::vector<std::string> OneThread();

// deploy/mpirun_one_host of `ranks`, then `command`: what users start is what is tested. Words of
// DELTASERVE_RANK_FLAGS, as "--device=cuda", come last.
std::vector<std::string> MpirunCommand(int ranks, const std::vector<std::string>& command);
// The environment that goes with it; `temporary`: private folder of the run.
std::map<std::string, std::string> MpirunEnvironment(const std::string& temporary);

}  // namespace deltaserve::test
