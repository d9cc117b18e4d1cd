#pragma once

// Logging: state changes at INFO, with the rank of the process in every line. Never per token or
// per step, never prompt text or token ids.
//
//   LogInfo("loaded {} bytes", n);

#include <string>
#include <utility>

#include "spdlog/spdlog.h"

namespace deltaserve {

// Sets level ("debug", "info", "warn", "error", "off") and a prefix such as "rank 1" for every
// later line of this process. Lines go to stderr. Call once from main, before threads start.
void InitLogging(const std::string& level, const std::string& prefix);

// True where `level` is one that InitLogging takes.
bool IsLogLevel(const std::string& level);

template <typename... Args>
void LogInfo(spdlog::format_string_t<Args...> format, Args&&... args) {
  spdlog::info(format, std::forward<Args>(args)...);
}
template <typename... Args>
void LogWarning(spdlog::format_string_t<Args...> format, Args&&... args) {
  spdlog::warn(format, std::forward<Args>(args)...);
}
template <typename... Args>
void LogError(spdlog::format_string_t<Args...> format, Args&&... args) {
  spdlog::error(format, std::forward<Args>(args)...);
}

}  // namespace deltaserve
