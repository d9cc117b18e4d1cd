#pragma once

// Hosts of a test: network namespaces with host name, /dev/shm and /tmp of their own, on a machine
// that is the test process's alone (tests/system/hosts/machine). All ends with the process, however
// that ends.

#include <sys/types.h>

#include <map>
#include <string>
#include <vector>

namespace deltaserve::test {

// Why this machine lets no hosts be made; empty where it does. For GTEST_SKIP.
const std::string& WhyNoHosts();

// Goes on with the tests on a machine of its own, or here where none can be made. From main, once.
void EnterMachine(int argc, char** argv);

// Hosts "a" (10.77.0.1), "b" and so on. Threads: main. One at a time.
class TestHosts {
 public:
  // `shared`: folders that every host sees where they are, besides sources and binaries.
  TestHosts(int count, const std::vector<std::string>& shared);
  ~TestHosts();
  TestHosts(const TestHosts&) = delete;
  TestHosts& operator=(const TestHosts&) = delete;

  // The command that runs `command`, a line for sh, on a host, as ssh would: over the network.
  static std::vector<std::string> On(const std::string& host, const std::string& command);
  // The output of `command` there, not by way of the network; ends the test where its code is not
  // 0.
  static std::string Output(const std::string& host, const std::string& command);
  // The agent for deploy/world --agent.
  static std::string Agent();

  // Between the host and all others.
  static void SetLink(const std::string& host, bool is_up);
  static void LimitLink(const std::string& host, const std::string& rate);

  // What worlds left in /tmp and /dev/shm of any host.
  std::vector<std::string> Leftovers() const;

 private:
  std::vector<std::string> names_;
};

// What runs on any host, by process id: "deltaserve-worker", "orted", "mpirun".
std::map<pid_t, std::string> WorldProcesses();

}  // namespace deltaserve::test
