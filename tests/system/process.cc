#include "tests/system/process.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <sstream>

#include "absl/strings/numbers.h"
#include "absl/time/clock.h"
#include "kernels/base/check.h"

namespace deltaserve::test {
namespace {

constexpr absl::Duration kPoll = absl::Milliseconds(10);

int CodeOf(int wait_status) {
  return WIFEXITED(wait_status) ? WEXITSTATUS(wait_status) : 128 + WTERMSIG(wait_status);
}

std::string FromEnvironment(const char* name, const char* otherwise) {
  const char* const value = std::getenv(name);
  return value == nullptr ? otherwise : value;
}

std::string RankFlags() { return FromEnvironment("DELTASERVE_RANK_FLAGS", ""); }

[[noreturn]] void Exec(const std::vector<std::string>& argv, const std::string& log_path) {
  const int log = open(log_path.c_str(), O_WRONLY | O_CREAT | O_APPEND, 0600);
  const int nothing = open("/dev/null", O_RDONLY);
  dup2(nothing, 0);
  dup2(log, 1);
  dup2(log, 2);
  std::vector<char*> arguments;
  arguments.reserve(argv.size() + 1);
  for (const std::string& argument : argv) arguments.push_back(const_cast<char*>(argument.c_str()));
  arguments.push_back(nullptr);
  execvp(arguments[0], arguments.data());
  _exit(127);
}

}  // namespace

TempDir::TempDir() {
  std::string pattern = std::filesystem::temp_directory_path().string() + "/deltaserve-XXXXXX";
  DS_CHECK(mkdtemp(pattern.data()) != nullptr) << pattern;
  path_ = pattern;
}

TempDir::~TempDir() {
  std::error_code ignored;
  std::filesystem::remove_all(path_, ignored);
}

Process::Process(const std::vector<std::string>& argv,
                 const std::string& log_path,
                 const std::map<std::string, std::string>& environment)
    : log_path_(log_path) {
  pid_ = fork();
  DS_CHECK_GE(pid_, 0);
  if (pid_ == 0) {
    setpgid(0, 0);
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    for (const auto& [name, value] : environment) setenv(name.c_str(), value.c_str(), 1);
    Exec(argv, log_path);
  }
  setpgid(pid_, pid_);
}

Process::~Process() {
  kill(-pid_, SIGKILL);
  Wait(absl::Seconds(20));
}

void Process::Signal(int signal) const { kill(pid_, signal); }

std::optional<int> Process::Wait(absl::Duration timeout) {
  const absl::Time deadline = absl::Now() + timeout;
  while (!code_.has_value()) {
    int status = 0;
    if (waitpid(pid_, &status, WNOHANG) == pid_) {
      code_ = CodeOf(status);
    } else if (absl::Now() >= deadline) {
      return std::nullopt;
    } else {
      absl::SleepFor(kPoll);
    }
  }
  return code_;
}

bool Process::running() { return !Wait(absl::ZeroDuration()).has_value(); }

std::string Process::Log() const { return ReadFile(log_path_).value_or(""); }

RunResult RunToEnd(const std::vector<std::string>& argv,
                   absl::Duration timeout,
                   const std::map<std::string, std::string>& environment) {
  TempDir temporary;
  Process process(argv, temporary / "log", environment);
  const std::optional<int> code = process.Wait(timeout);
  return {.code = code.value_or(-1), .output = process.Log()};
}

std::optional<std::string> ReadFile(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  std::string bytes((std::istreambuf_iterator<char>(in)), std::istreambuf_iterator<char>());
  if (!in || bytes.empty()) return std::nullopt;
  return bytes;
}

std::optional<std::string> WaitForFile(const std::string& path,
                                       Process& process,
                                       absl::Duration timeout) {
  const absl::Time deadline = absl::Now() + timeout;
  while (absl::Now() < deadline) {
    if (auto bytes = ReadFile(path)) return bytes;
    if (!process.running()) return std::nullopt;
    absl::SleepFor(kPoll);
  }
  return std::nullopt;
}

std::vector<pid_t> ProcessesNaming(const std::string& text) {
  std::vector<pid_t> found;
  for (const auto& entry : std::filesystem::directory_iterator("/proc")) {
    int pid = 0;
    if (!absl::SimpleAtoi(entry.path().filename().string(), &pid) || pid == getpid()) continue;
    std::string command = ReadFile(entry.path().string() + "/cmdline").value_or("");
    std::replace(command.begin(), command.end(), '\0', ' ');
    if (command.find(text) != std::string::npos) found.push_back(pid);
  }
  return found;
}

std::optional<ProcessNumbers> NumbersOf(pid_t pid) {
  const std::string folder = "/proc/" + std::to_string(pid);
  std::ifstream status(folder + "/status");
  ProcessNumbers numbers;
  int64_t kibibytes = 0;
  for (std::string line; std::getline(status, line);) {
    std::istringstream words(line);
    std::string name;
    words >> name;
    if (name == "VmRSS:") words >> kibibytes;
    if (name == "Threads:") words >> numbers.threads;
  }
  if (kibibytes == 0) return std::nullopt;  // none, or a zombie
  numbers.resident_bytes = kibibytes * 1024;
  std::error_code error;
  for (std::filesystem::directory_iterator file(folder + "/fd", error), end; file != end;
       file.increment(error)) {
    ++numbers.files;
  }
  return numbers;
}

std::string Binary(const std::string& name) {
  return FromEnvironment("DELTASERVE_BIN", DELTASERVE_BIN_DIR) + "/deltaserve-" + name;
}

std::string SourcePath(const std::string& path) {
  return FromEnvironment("DELTASERVE_TREE", DELTASERVE_SOURCE_DIR) + "/" + path;
}

bool RanksAreOnGpus() {
  std::istringstream flags(RankFlags());
  bool on_gpus = false;
  std::string before;
  for (std::string flag; flags >> flag; before = flag) {
    on_gpus |= flag == "--device=cuda" || (before == "--device" && flag == "cuda");
  }
  return on_gpus;
}

std::vector<std::string> OneThread() {
  if (RanksAreOnGpus()) return {};
  return {"--threads", "1"};
}

std::vector<std::string> MpirunCommand(int ranks, const std::vector<std::string>& command) {
  std::vector<std::string> argv = {SourcePath("deploy/mpirun_one_host"), "-n",
                                   std::to_string(ranks)};
  argv.insert(argv.end(), command.begin(), command.end());
  std::istringstream flags(RankFlags());
  for (std::string flag; flags >> flag;) argv.push_back(flag);
  return argv;
}

std::map<std::string, std::string> MpirunEnvironment(const std::string& temporary) {
  return {{"TMPDIR", temporary},
          {"OMPI_ALLOW_RUN_AS_ROOT", "1"},
          {"OMPI_ALLOW_RUN_AS_ROOT_CONFIRM", "1"}};
}

}  // namespace deltaserve::test
