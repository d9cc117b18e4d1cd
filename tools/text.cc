// deltaserve-text: the text side of a router, offline: JSON lines in, JSON lines out.

#include <cstdio>
#include <iostream>
#include <optional>
#include <string>

#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "kernels/base/flags.h"
#include "tools/text_lines.h"

namespace deltaserve {
namespace {

absl::StatusOr<std::optional<absl::Time>> ReadNow(const std::optional<std::string>& text) {
  if (!text.has_value()) return std::optional<absl::Time>();
  absl::Time time;
  std::string error;
  for (const char* form : {"%Y-%m-%d%ET%H:%M:%E*S", "%Y-%m-%d%ET%H:%M", "%Y-%m-%d"}) {
    if (absl::ParseTime(form, *text, absl::LocalTimeZone(), &time, &error)) {
      return std::optional<absl::Time>(time);
    }
  }
  return absl::InvalidArgumentError(
      absl::StrCat("--now is ", *text, ": write local time as 2026-01-31T08:30:00"));
}

int Main(int argc, char** argv) {
  CommandLine flags("text",
                    "Tokenises, detokenises, renders conversations and parses answers as a router "
                    "does: each line of input is a JSON object with one of tokenize, detokenize, "
                    "render and parse, and is answered by one line before the next is read.");
  std::string model;
  std::optional<std::string> now_text;
  flags.Add("--model", &model, "model folder: tokenizer files and chat template").Required();
  flags.Add("--now", &now_text,
            "local time that templates see, such as 2026-01-31T08:30:00; default: the clock");
  if (const auto code = flags.Parse(argc, argv)) return *code;
  const auto now = ReadNow(now_text);
  if (!now.ok()) return flags.Refuse(now.status());
  const auto lines = TextLines::Create(model, *now);
  if (!lines.ok()) {
    return flags.Refuse(absl::InvalidArgumentError(
        absl::StrCat("--model is ", model, ": ", lines.status().message())));
  }
  for (std::string line; std::getline(std::cin, line);) {
    if (line.empty()) continue;
    std::cout << (*lines)->Answer(line) << std::endl;  // whoever writes lines waits for answers
  }
  return kExitOk;
}

}  // namespace
}  // namespace deltaserve

int main(int argc, char** argv) { return deltaserve::Main(argc, argv); }
