#include "tests/system/hosts/test_hosts.h"

#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <iterator>
#include <set>
#include <sstream>

#include "absl/strings/ascii.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/time/time.h"
#include "kernels/base/check.h"
#include "tests/system/process.h"

namespace deltaserve::test {
namespace {

constexpr char kInside[] = "DELTASERVE_TEST_MACHINE";
constexpr absl::Duration kPatience = absl::Seconds(30);

std::string& Reason() {
  static std::string reason;
  return reason;
}

std::string Script(const std::string& name) {
  return absl::StrCat(DELTASERVE_SOURCE_DIR, "/tests/system/hosts/", name);
}

void Run(const std::vector<std::string>& command) {
  const RunResult run = RunToEnd(command, kPatience);
  DS_CHECK_EQ(run.code, 0) << command[0] << ": " << run.output;
}

// The process that holds a host's namespaces.
std::string Holder(const std::string& host) {
  const std::optional<std::string> text = ReadFile("/run/hosts/" + host);
  DS_CHECK(text.has_value()) << "no host " << host;
  return std::string(absl::StripTrailingAsciiWhitespace(*text));
}

}  // namespace

const std::string& WhyNoHosts() { return Reason(); }

void EnterMachine(int argc, char** argv) {
  const bool lists = std::any_of(argv, argv + argc, [](const char* word) {
    return std::strstr(word, "list_tests") != nullptr;
  });
  if (lists || std::getenv(kInside) != nullptr) return;
  setenv(kInside, "1", 1);
  const RunResult probe = RunToEnd({Script("machine"), "true"}, kPatience);
  if (probe.code != 0) {
    Reason() = probe.output.empty() ? "no machine could be made" : probe.output;
    return;
  }
  const std::string machine = Script("machine");
  std::vector<char*> words = {const_cast<char*>(machine.c_str())};
  words.insert(words.end(), argv, argv + argc);
  words.push_back(nullptr);
  execv(machine.c_str(), words.data());
  DS_CHECK(false) << machine << ": " << std::strerror(errno);
}

TestHosts::TestHosts(int count, const std::vector<std::string>& shared) {
  for (int i = 0; i < count; ++i) {
    names_.emplace_back(1, static_cast<char>('a' + i));
    std::vector<std::string> command = {Script("add"), names_.back(),
                                        absl::StrCat("10.77.0.", i + 1), DELTASERVE_SOURCE_DIR,
                                        DELTASERVE_BIN_DIR};
    command.insert(command.end(), shared.begin(), shared.end());
    Run(command);
  }
}

TestHosts::~TestHosts() {
  for (const auto& [pid, name] : WorldProcesses()) kill(pid, SIGKILL);
  for (const std::string& name : names_) {
    const std::string file = "/run/hosts/" + name;
    kill(std::stoi(Holder(name)), SIGKILL);
    std::filesystem::remove(file);
    RunToEnd({"ip", "link", "del", "ds-" + name}, kPatience);
  }
}

std::vector<std::string> TestHosts::On(const std::string& host, const std::string& command) {
  return {Agent(), host, command};
}

std::string TestHosts::Output(const std::string& host, const std::string& command) {
  const RunResult run = RunToEnd({"nsenter", "--target", Holder(host), "--net", "--uts", "--ipc",
                                  "--mount", "sh", "-c", command},
                                 kPatience);
  DS_CHECK_EQ(run.code, 0) << host << ": " << command << ": " << run.output;
  return run.output;
}

std::string TestHosts::Agent() { return Script("agent"); }

void TestHosts::SetLink(const std::string& host, bool is_up) {
  Run({"ip", "link", "set", "ds-" + host, is_up ? "up" : "down"});
}

void TestHosts::LimitLink(const std::string& host, const std::string& rate) {
  Run({"tc", "qdisc", "add", "dev", "ds-" + host, "root", "tbf", "rate", rate, "burst", "32kbit",
       "latency", "400ms"});
}

std::vector<std::string> TestHosts::Leftovers() const {
  std::vector<std::string> found;
  for (const std::string& name : names_) {
    const std::string listed =
        Output(name,
               "find /tmp /dev/shm -maxdepth 1 -name '*deltaserve-world*' -o -name 'ompi.*' "
               "-o -name 'vader*' -o -name 'osc*' -o -name 'pmix*'; ls -A /dev/shm");
    for (const auto& line : absl::StrSplit(listed, '\n', absl::SkipEmpty())) {
      found.push_back(absl::StrCat(name, ": ", line));
    }
  }
  return found;
}

std::map<pid_t, std::string> WorldProcesses() {
  static const std::set<std::string> kNames = {"deltaserve-worker", "orted", "mpirun"};
  std::map<pid_t, std::string> found;
  for (const auto& entry : std::filesystem::directory_iterator("/proc")) {
    pid_t pid = 0;
    if (!absl::SimpleAtoi(entry.path().filename().string(), &pid)) continue;
    std::string program = ReadFile(entry.path().string() + "/cmdline").value_or("");
    program = std::filesystem::path(program.c_str()).filename().string();  // to its first zero byte
    if (kNames.count(program) > 0) found[pid] = program;
  }
  return found;
}

}  // namespace deltaserve::test
