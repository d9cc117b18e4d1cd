#pragma once

// How much memory the CPU device may have: of the machine, of its control group, of its process.

#include <cstdint>
#include <string>

namespace deltaserve::cpu {

// Bytes that one of `processes` equal ones on this host can have at most: the least of MemTotal and
// the memory limits of the control group (version 1 or 2) and of those around it, each shared by
// all, and of this process's limit of address space. The largest int64 where nothing is known.
// `root`: the folder that holds proc/ and sys/.
int64_t MostMemory(int processes, const std::string& root = "/");

}  // namespace deltaserve::cpu
