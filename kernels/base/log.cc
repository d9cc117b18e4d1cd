#include "kernels/base/log.h"

#include <memory>
#include <utility>

#include "fmt/format.h"
#include "spdlog/sinks/stdout_sinks.h"
#include "spdlog/spdlog.h"

namespace deltaserve {

bool IsLogLevel(const std::string& level) {
  return level == "debug" || level == "info" || level == "warn" || level == "error" ||
         level == "off";
}

void InitLogging(const std::string& level, const std::string& prefix) {
  auto logger = std::make_shared<spdlog::logger>("deltaserve",
                                                 std::make_shared<spdlog::sinks::stderr_sink_mt>());
  logger->set_pattern("%Y-%m-%dT%H:%M:%S.%e %L " + (prefix.empty() ? "" : prefix + " ") + "%v");
  logger->set_level(spdlog::level::from_str(level));
  logger->flush_on(spdlog::level::info);
  spdlog::set_default_logger(std::move(logger));
}

void Log(LogLevel level, fmt::string_view format, fmt::format_args arguments) {
  const auto spdlog_level = level == LogLevel::kInfo      ? spdlog::level::info
                            : level == LogLevel::kWarning ? spdlog::level::warn
                                                          : spdlog::level::err;
  if (spdlog::should_log(spdlog_level)) {
    spdlog::log(spdlog_level, fmt::vformat(format, arguments));
  }
}

}  // namespace deltaserve
