#pragma once

// How every binary makes its command line, so that all of them have --help and --version, refuse a
// bad flag in one form and end with the same codes.
//
//   CommandLine flags("plan", "Prints the partition of a model.");
//   flags.app().add_option("--ranks", options.ranks, "ranks of the world")->required();
//   if (const auto code = flags.Parse(argc, argv)) return *code;

#include <cstdint>
#include <optional>
#include <string>

#include "CLI/CLI.hpp"
#include "absl/status/statusor.h"

namespace deltaserve {

// Exit codes of all binaries (sysexits.h).
inline constexpr int kExitOk = 0;
inline constexpr int kExitUsage = 64;  // a flag is wrong

// One binary's command line. Threads: main only. Owner: main.
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

  // Where the binary adds its flags.
  CLI::App& app() { return app_; }

  // Fills the variables bound to the flags. nullopt: go on. Otherwise what is said was printed and
  // the value is the exit code: 0 after --help and --version, kExitUsage after a refused flag.
  // Under mpirun every rank parses the same line: give print = (rank == 0), and rank 0 alone
  // prints.
  std::optional<int> Parse(int argc, const char* const* argv, bool print = true);

  // Parse without printing.
  std::optional<Ending> Read(int argc, const char* const* argv);

  // For a value found bad only after parsing: prints `status`'s message in the form of a refused
  // flag and returns kExitUsage. The message names flag, value and remedy.
  int Refuse(const absl::Status& status, bool print = true) const;

  // "deltaserve-NAME: MESSAGE; see --help\n"
  std::string Refusal(const std::string& message) const;

 private:
  const std::string program_;
  CLI::App app_;
};

// "deltaserve-NAME 0.1.0 (build ID)"
std::string VersionText(const std::string& name);

// A number of bytes: digits, then nothing or one of K, M, G, T (powers of 1024), as in "512M".
// kInvalidArgument, naming the text, for anything else, for 0 and for what int64 cannot hold.
absl::StatusOr<int64_t> ParseBytes(const std::string& text);

// Adds a flag of a number of bytes (ParseBytes) to `app`; `*bytes` keeps its value where the flag
// is not given.
CLI::Option* AddBytesOption(CLI::App& app,
                            const std::string& name,
                            int64_t* bytes,
                            const std::string& description);

}  // namespace deltaserve
