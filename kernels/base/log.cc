#include "kernels/base/log.h"

#include <memory>

#include "spdlog/sinks/stdout_sinks.h"

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

}  // namespace deltaserve
