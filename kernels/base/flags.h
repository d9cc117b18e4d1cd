#pragma once

// How every binary makes its command line, so that all of them have --help and --version, refuse a
// bad flag in one form and end with the same codes.
//
//   CommandLine flags("plan", "Prints the partition of a model.");
//   flags.Add("--ranks", &options.ranks, "ranks of the world").Required();
//   if (const auto code = flags.Parse(argc, argv)) return *code;

#include <cstdint>
#include <limits>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"

// NOLINTNEXTLINE(readability-identifier-naming): CLI11's own.
namespace CLI {
class App;
class Option;
}  // namespace CLI

namespace deltaserve {

// Exit codes of all binaries (sysexits.h).
inline constexpr int kExitOk = 0;
inline constexpr int kExitUsage = 64;  // a flag is wrong

// What a flag that was just added takes. Lives as long as its CommandLine.
class Flag {
 public:
  explicit Flag(CLI::Option* option) : option_(option) {}

  Flag& Required();
  // A number from `low` to `high`.
  Flag& In(int64_t low, int64_t high = std::numeric_limits<int64_t>::max());
  Flag& OneOf(const std::vector<std::string>& values);
  // An address HOST:PORT with a port from `least_port` to 65535.
  Flag& HostPort(int least_port);

 private:
  CLI::Option* option_;
};

// One binary's command line. Threads: main only. Owner: main. CLI11 does the work; it is kept out
// of this header because it is slow to compile.
class CommandLine {
 public:
  // What a command line that ends the program says and with which code.
  struct Ending {
    int code;
    std::string output;  // for stdout: the text of --help or --version
    std::string error;   // for stderr: the refusal of a flag
  };

  // `name` without "deltaserve-"; `description`: what --help says first.
  CommandLine(const std::string& name, const std::string& description);

  ~CommandLine();
  CommandLine(const CommandLine&) = delete;
  CommandLine& operator=(const CommandLine&) = delete;

  // Binds `name`, "--flag" or "argument", to `*value`, which must outlive Parse, keeps what it has
  // where the flag is not given, and is shown as the default by --help. T: bool (a flag without a
  // value), std::string, int32_t, int64_t, uint32_t, uint64_t, float, double; or std::optional of
  // one of these except bool.
  template <typename T>
  Flag Add(const std::string& name, T* value, const std::string& description);

  // Binds a flag of a number of bytes (ParseBytes).
  Flag AddBytes(const std::string& name, int64_t* bytes, const std::string& description);

  // Fills the variables bound to the flags. nullopt: go on. Otherwise what is said was printed and
  // the value is the exit code: 0 after --help and --version, kExitUsage after a refused flag.
  // Under mpirun every rank parses the same line: give print = (rank == 0), and rank 0 alone
  // prints.
  std::optional<int> Parse(int argc, const char* const* argv, bool print = true);

  // Parse without printing.
  std::optional<Ending> Read(int argc, const char* const* argv);

  // For what is found bad only after parsing: prints "deltaserve-NAME: " and `status`'s message,
  // which names value and remedy, and returns kExitUsage. A message that begins with the flag that
  // is wrong gets "; see --help".
  int Refuse(const absl::Status& status, bool print = true) const;

 private:
  std::string Refusal(const std::string& message, bool see_help) const;

  const std::string program_;
  const std::unique_ptr<CLI::App> app_;
};

// "deltaserve-NAME 0.1.0 (build ID)"
std::string VersionText(const std::string& name);

// A number of bytes: digits, then nothing or one of K, M, G, T (powers of 1024), as in "512M".
// kInvalidArgument, naming the text, for anything else, for 0 and for what int64 cannot hold.
absl::StatusOr<int64_t> ParseBytes(const std::string& text);

}  // namespace deltaserve
