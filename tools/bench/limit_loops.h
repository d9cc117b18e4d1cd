#pragma once

// Loops that do nothing but reach a limit of the processor: bytes read, f32 and int8 operations.
// CMake picks the source file: limit_loops_x86.cc, or limit_loops_portable.cc elsewhere.

#include <cstddef>
#include <cstdint>

namespace deltaserve::bench {

// Independent chains of one instruction in registers.
struct RateLoop {
  const char* name = "";   // of the instruction
  int64_t operations = 0;  // a round; a multiplication and an addition are two
  // Runs `rounds` rounds; the value depends on all of them, so that none can be left out.
  float (*run)(int64_t rounds) = nullptr;
};

// Of the widest vectors that this processor has. Pure; any thread.
RateLoop FmaLoop();   // f32 fused multiply-add
RateLoop Int8Loop();  // products of 8-bit integers added up in 32 bits

// ReadAll reads blocks of so many bytes: pages side by side, each a stream to the prefetchers.
inline constexpr size_t kReadBlock = size_t{4} * 4096;

// Loads every byte once; the value depends on all. data: 64-byte aligned; bytes: a multiple of
// kReadBlock. Any thread.
uint64_t ReadAll(const uint8_t* data, size_t bytes);

}  // namespace deltaserve::bench
