#pragma once

// Runs a built tool to its end, for tests of its exit code and output.

#include <string>
#include <vector>

#include "absl/time/time.h"
#include "tests/system/process.h"

namespace deltaserve {

struct ToolResult {
  int code = -1;  // -1: still running after two minutes
  std::string output = {};
};

// `name` without "deltaserve-".
inline ToolResult RunTool(const std::string& name, std::vector<std::string> arguments) {
  arguments.insert(arguments.begin(), std::string(DELTASERVE_BIN_DIR) + "/deltaserve-" + name);
  const test::TempDir folder;
  test::Process process(arguments, folder / "log");
  ToolResult result;
  result.code = process.Wait(absl::Minutes(2)).value_or(-1);
  result.output = process.Log();
  return result;
}

}  // namespace deltaserve
