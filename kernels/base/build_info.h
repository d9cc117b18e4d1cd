#pragma once

// What this binary was made from, for --version, logs and the Info call. Values are fixed when
// built.

namespace deltaserve {

struct BuildInfo {
  const char* version;  // of the project: "0.1.0"
  const char*
      build_id;  // `git describe --always --dirty` when built; "unknown" without a repository
  const char* compiler;    // "GNU 12.2.0"
  const char* build_type;  // "Release"
  bool cuda;               // whether the CUDA device and the NCCL communicator were compiled in
};

// Static storage; any thread.
const BuildInfo& GetBuildInfo();

}  // namespace deltaserve
