#pragma once

// What deltaserve-replay prints.

#include <string>

#include "worker/replay/recording.h"
#include "worker/replay/replay.h"

namespace deltaserve {

// Lines for a recording's header.
std::string HeaderText(const RecordingHeader& header);

// Lines for one step: what its plan does, with every token id, and what it gave.
std::string StepText(const RecordedStep& step);

// Lines for how a replay went; the first begins with "identical" or "different".
std::string ReportText(const ReplayReport& report, const ReplayOptions& options);

}  // namespace deltaserve
