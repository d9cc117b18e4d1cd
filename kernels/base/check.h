#pragma once

// Checks for what only our own code can get wrong: shapes, indices, calls out of order. What the
// outside can cause (files, flags, requests, sockets) is an absl::Status instead, never both.

#include <sstream>

namespace deltaserve::internal {

// Collects a message, then writes "file:line: check failed: expr message" to stderr and aborts.
class CheckFailure {
 public:
  CheckFailure(const char* file, int line, const char* expression);
  [[noreturn]] ~CheckFailure();
  CheckFailure(const CheckFailure&) = delete;
  CheckFailure& operator=(const CheckFailure&) = delete;

  std::ostream& stream() { return message_; }

 private:
  std::ostringstream message_;
};

}  // namespace deltaserve::internal

#define DS_CHECK(condition)   \
  if (condition) [[likely]] { \
  } else                      \
    ::deltaserve::internal::CheckFailure(__FILE__, __LINE__, #condition).stream()

#define DS_CHECK_EQ(a, b) DS_CHECK((a) == (b)) << (a) << " vs " << (b) << " "
#define DS_CHECK_LE(a, b) DS_CHECK((a) <= (b)) << (a) << " vs " << (b) << " "
#define DS_CHECK_LT(a, b) DS_CHECK((a) < (b)) << (a) << " vs " << (b) << " "
#define DS_CHECK_GE(a, b) DS_CHECK((a) >= (b)) << (a) << " vs " << (b) << " "
#define DS_CHECK_OK(expression)                                                    \
  if (const auto ds_check_status = (expression); ds_check_status.ok()) {           \
  } else                                                                           \
    ::deltaserve::internal::CheckFailure(__FILE__, __LINE__, #expression).stream() \
        << ds_check_status.ToString() << " "
