#include "kernels/base/flags.h"

#include <cctype>
#include <cstdio>
#include <limits>
#include <type_traits>

#include "CLI/CLI.hpp"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "kernels/base/build_info.h"

namespace deltaserve {
namespace {

constexpr char kSeeHelp[] = "; see --help";

// CLI11 says "Could not convert: --slots = abc" or "--slots: Value 0 not in range 1 to 8"; this
// adds what the flag takes, so that a reader knows what to write instead.
std::string Describe(const CLI::App& app, const CLI::ParseError& error) {
  std::string text = error.what();
  for (const CLI::Option* option : app.get_options()) {
    for (const std::string& name : option->get_lnames()) {
      const std::string flag = "--" + name;
      const size_t at = text.find(flag);
      const size_t after = at + flag.size();
      if (at == std::string::npos ||
          (after < text.size() &&
           (std::isalnum(static_cast<unsigned char>(text[after])) != 0 || text[after] == '-'))) {
        continue;
      }
      return absl::StrCat(text, " (", flag, ": ", option->get_description(), ")");
    }
  }
  return text;
}

}  // namespace

Flag& Flag::Required() {
  option_->required();
  return *this;
}

Flag& Flag::In(int64_t low, int64_t high) {
  const std::string range = high == std::numeric_limits<int64_t>::max()
                                ? absl::StrCat("at least ", low)
                                : absl::StrCat("in range ", low, " to ", high);
  option_->check(
      [low, high, range](const std::string& text) -> std::string {
        double value = 0;
        // What is no number is refused where it is converted.
        if (!absl::SimpleAtod(text, &value) ||
            (value >= static_cast<double>(low) && value <= static_cast<double>(high))) {
          return "";
        }
        return absl::StrCat("Value ", text, " not ", range);
      },
      range);
  return *this;
}

Flag& Flag::OneOf(const std::vector<std::string>& values) {
  option_->check(CLI::IsMember(values));
  return *this;
}

Flag& Flag::HostPort(int least_port) {
  option_->check(
      [least_port](const std::string& text) -> std::string {
        const size_t colon = text.rfind(':');
        int port = 0;
        if (colon != std::string::npos && colon > 0 &&
            absl::SimpleAtoi(text.substr(colon + 1), &port) && port >= least_port &&
            port <= 65535) {
          return "";
        }
        return absl::StrCat("Value ", text, " is no address; write HOST:PORT with a port from ",
                            least_port, " to 65535");
      },
      "");
  return *this;
}

std::string VersionText(const std::string& name) {
  const BuildInfo& info = GetBuildInfo();
  return absl::StrCat("deltaserve-", name, " ", info.version, " (build ", info.build_id, ")");
}

CommandLine::CommandLine(const std::string& name, const std::string& description)
    : program_("deltaserve-" + name),
      app_(std::make_unique<CLI::App>(description, "deltaserve-" + name)) {
  app_->set_version_flag("--version", VersionText(name));
  app_->get_formatter()->column_width(36);
  app_->option_defaults()->always_capture_default();
}

CommandLine::~CommandLine() = default;

template <typename T>
Flag CommandLine::Add(const std::string& name, T* value, const std::string& description) {
  if constexpr (std::is_same_v<T, bool>) {
    return Flag(app_->add_flag(name, *value, description));
  } else {
    return Flag(app_->add_option(name, *value, description));
  }
}

// NOLINTBEGIN(bugprone-macro-parentheses): T is a type.
#define DS_INSTANTIATE_ADD(T) \
  template Flag CommandLine::Add(const std::string&, T*, const std::string&)
#define DS_INSTANTIATE_ADD_WITH_OPTIONAL(T) \
  DS_INSTANTIATE_ADD(T);                    \
  DS_INSTANTIATE_ADD(std::optional<T>)
DS_INSTANTIATE_ADD(bool);
DS_INSTANTIATE_ADD_WITH_OPTIONAL(std::string);
DS_INSTANTIATE_ADD_WITH_OPTIONAL(int32_t);
DS_INSTANTIATE_ADD_WITH_OPTIONAL(int64_t);
DS_INSTANTIATE_ADD_WITH_OPTIONAL(uint32_t);
DS_INSTANTIATE_ADD_WITH_OPTIONAL(uint64_t);
DS_INSTANTIATE_ADD_WITH_OPTIONAL(float);
DS_INSTANTIATE_ADD_WITH_OPTIONAL(double);
#undef DS_INSTANTIATE_ADD_WITH_OPTIONAL
#undef DS_INSTANTIATE_ADD
// NOLINTEND(bugprone-macro-parentheses)

std::optional<CommandLine::Ending> CommandLine::Read(int argc, const char* const* argv) {
  try {
    app_->parse(argc, argv);
    return std::nullopt;
  } catch (const CLI::CallForVersion& version) {
    return Ending{.code = kExitOk, .output = absl::StrCat(version.what(), "\n"), .error = ""};
  } catch (const CLI::Success&) {  // --help, --help-all
    return Ending{.code = kExitOk, .output = app_->help(), .error = ""};
  } catch (const CLI::ParseError& error) {
    return Ending{.code = kExitUsage,
                  .output = "",
                  .error = Refusal(Describe(*app_, error), /*see_help=*/true)};
  }
}

std::optional<int> CommandLine::Parse(int argc, const char* const* argv, bool print) {
  const std::optional<Ending> ending = Read(argc, argv);
  if (!ending.has_value()) {
    return std::nullopt;
  }
  if (print) {
    std::fputs(ending->output.c_str(), stdout);
    std::fputs(ending->error.c_str(), stderr);
  }
  return ending->code;
}

int CommandLine::Refuse(const absl::Status& status, bool print) const {
  if (print) {
    const std::string message(status.message());
    std::fputs(Refusal(message, /*see_help=*/message.starts_with("--")).c_str(), stderr);
  }
  return kExitUsage;
}

std::string CommandLine::Refusal(const std::string& message, bool see_help) const {
  const std::string hint = see_help && !message.ends_with(kSeeHelp) ? kSeeHelp : "";
  return absl::StrCat(program_, ": ", message, hint, "\n");
}

absl::StatusOr<int64_t> ParseBytes(const std::string& text) {
  const absl::Status refused = absl::InvalidArgumentError(absl::StrCat(
      "\"", text, "\" is not a number of bytes: write digits and nothing, K, M, G or T",
      ", from 1 to 8388607T, such as 512M"));
  int64_t value = 0;
  size_t at = 0;
  for (; at < text.size() && text[at] >= '0' && text[at] <= '9'; ++at) {
    if (value > (std::numeric_limits<int64_t>::max() - 9) / 10) {
      return refused;
    }
    value = 10 * value + (text[at] - '0');
  }
  int shift = 0;
  if (at + 1 == text.size()) {
    const size_t unit = std::string("KMGT").find(text[at]);
    if (unit == std::string::npos) {
      return refused;
    }
    shift = 10 * (static_cast<int>(unit) + 1);
  } else if (at != text.size()) {
    return refused;
  }
  if (value == 0 || value > (std::numeric_limits<int64_t>::max() >> shift)) {
    return refused;
  }
  return value << shift;
}

Flag CommandLine::AddBytes(const std::string& name,
                           int64_t* bytes,
                           const std::string& description) {
  CLI::Option* option = app_->add_option_function<std::string>(
      name,
      [name, bytes](const std::string& text) {
        const absl::StatusOr<int64_t> parsed = ParseBytes(text);
        if (!parsed.ok()) {
          throw CLI::ValidationError(name, std::string(parsed.status().message()));
        }
        *bytes = *parsed;
      },
      description);
  option->type_name("BYTES");
  return Flag(option);
}

}  // namespace deltaserve
