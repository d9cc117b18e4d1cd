#pragma once

// The threads of a CUDA block on one thread of the host: each is a fiber that runs until it waits,
// for its block or for its warp. What runs next is drawn from a seed, so that results which depend
// on an order that a GPU does not promise come out differently for some seed.
//
// One grid at a time in a process, whoever asks: the functions below have one current thread.

#include <cstddef>
#include <cstdint>
#include <string>

namespace deltaserve::cuda {

// NOLINTBEGIN(readability-identifier-naming): CUDA's names
struct uint3 {
  unsigned int x, y, z;
};

struct dim3 {
  unsigned int x, y, z;
  constexpr dim3(unsigned int x_size = 1,  // NOLINT(google-explicit-constructor): as CUDA's
                 unsigned int y_size = 1,
                 unsigned int z_size = 1)
      : x(x_size), y(y_size), z(z_size) {}
};

// Of the thread that runs.
extern uint3 threadIdx;
extern uint3 blockIdx;
extern dim3 blockDim;
extern dim3 gridDim;
// NOLINTEND(readability-identifier-naming)

namespace shim {

inline constexpr int kLanes = 32;

// A line of a kernel, for messages. As a default argument Here() is where the function is called.
struct Where {
  const char* file = "";
  int line = 0;
};
constexpr Where Here(const char* file = __builtin_FILE(), int line = __builtin_LINE()) {
  return {file, line};
}

struct Grid {
  std::string kernel;  // for messages
  dim3 grid;
  dim3 block;
  size_t shared_bytes = 0;
  uint64_t seed = 0;
  void (*thread)(void* arguments) = nullptr;  // the body of one thread
  void* arguments = nullptr;
};

// A failed check where a GPU of compute capability 9.0 could not launch the grid.
void CheckSizes(const Grid& grid);

// Runs all blocks, one after the other in an order of the seed; done when it returns. Shared memory
// is full of NaN when a block starts. Failed checks: threads that wait for what cannot come.
void RunGrid(const Grid& grid);

// What threads call, at the line `at` of the kernel.

// Waits until each thread of the block that has not ended waits here.
void BlockBarrier(Where at);

// The dynamic shared memory of the block, and how many bytes it has.
void* SharedMemory();
size_t SharedBytes();

// Of the thread that runs.
int Lane();

// Bytes that a lane may give to the others, and that a warp's function may make of all.
inline constexpr size_t kSlotBytes = 32;

// One call of a warp's function: what each lane gave, and what was made of it for each lane.
struct Exchange {
  alignas(16) unsigned char given[kLanes][kSlotBytes];
  alignas(16) unsigned char made[kLanes][kSlotBytes];
};

// Gives `bytes` at `value` and waits until all 32 lanes have called the function named `function`
// at `at`. The last of them calls `make`, where it is not null. The result stays as it is until
// this lane's next call but one.
const Exchange& WarpCall(const char* function,
                         const void* value,
                         size_t bytes,
                         void (*make)(Exchange& exchange),
                         Where at);

// cp.async: see device_code.h.
void CopyAsync(void* to, const void* from, bool valid, Where at);
void CommitCopies();
void WaitCopies(int left);

}  // namespace shim
}  // namespace deltaserve::cuda
