#pragma once

// Logging: state changes at INFO, with the rank of the process in every line. Never per token or
// per step, never prompt text or token ids.
//
//   LogInfo("loaded {} bytes", n);

#include <string>

#include "fmt/core.h"

namespace deltaserve {

// Sets level ("debug", "info", "warn", "error", "off") and a prefix such as "rank 1" for every
// later line of this process. Lines go to stderr. Call once from main, before threads start.
void InitLogging(const std::string& level, const std::string& prefix);

// True where `level` is one that InitLogging takes.
bool IsLogLevel(const std::string& level);

enum class LogLevel { kInfo, kWarning, kError };

// Formats and writes one line. spdlog does the work; it and fmt's formatting are kept out of this
// header because they are slow to compile.
void Log(LogLevel level, fmt::string_view format, fmt::format_args arguments);

template <typename... Args>
void LogInfo(fmt::format_string<Args...> format, Args&&... args) {
  Log(LogLevel::kInfo, format, fmt::make_format_args(args...));
}
template <typename... Args>
void LogWarning(fmt::format_string<Args...> format, Args&&... args) {
  Log(LogLevel::kWarning, format, fmt::make_format_args(args...));
}
template <typename... Args>
void LogError(fmt::format_string<Args...> format, Args&&... args) {
  Log(LogLevel::kError, format, fmt::make_format_args(args...));
}

}  // namespace deltaserve
