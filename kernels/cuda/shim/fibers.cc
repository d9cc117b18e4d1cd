#include "kernels/cuda/shim/fibers.h"

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <numeric>
#include <random>
#include <sstream>
#include <vector>

#include "absl/base/const_init.h"
#include "absl/synchronization/mutex.h"
#include "kernels/base/check.h"
#include "kernels/cuda/shim/context_switch.h"
#include "kernels/cuda/shim/shared_arrays.h"

namespace deltaserve::cuda {

// NOLINTBEGIN(readability-identifier-naming): CUDA's names
uint3 threadIdx;
uint3 blockIdx;
dim3 blockDim;
dim3 gridDim;
// NOLINTEND(readability-identifier-naming)

namespace shim {
namespace {

constexpr int kGarbage = 0xff;  // NaN as f32 and as bf16, -1 as a number
constexpr unsigned int kMaxThreads = 1024;
constexpr size_t kMaxSharedBytes = size_t{227} << 10;
constexpr size_t kSharedAlignment = 128;

enum class State { kReady, kAtBlockBarrier, kInWarpCall, kEnded };

struct Copy {
  void* to;
  const void* from;
  bool valid;
  int64_t group;
};

struct Thread {
  std::unique_ptr<Fiber> fiber;
  uint3 index{};
  State state = State::kEnded;
  Where at;
  uint32_t warp_calls = 0;
  std::vector<Copy> copies;
  int64_t copy_group = 0;
};

struct Warp {
  Exchange exchanges[2];  // of a lane's last call and of the one it waits in
  int arrived = 0;
  const char* function = nullptr;
  Where at;
};

// The block that runs.
struct Block {
  const Grid* grid = nullptr;
  std::vector<Thread> threads;  // as many as any block had
  size_t num_threads = 0;
  std::vector<Warp> warps;
  size_t alive = 0;
  size_t at_barrier = 0;
  size_t current = 0;
  void* shared = nullptr;
  std::mt19937_64 rng;
};

absl::Mutex grid_mutex(absl::kConstInit);  // held while a grid runs

Block& TheBlock() {
  static Block& block = *new Block;  // its fibers outlive every grid
  return block;
}

Thread& Current() { return TheBlock().threads[TheBlock().current]; }

std::string Place(Where at) {
  const char* slash = std::strrchr(at.file, '/');
  const std::string file = slash == nullptr ? at.file : slash + 1;
  return file + ":" + std::to_string(at.line);
}

bool SamePlace(Where a, Where b) { return a.line == b.line && std::strcmp(a.file, b.file) == 0; }

// "kernel NAME, block (0, 0, 0)"
std::string WhichBlock() {
  std::ostringstream text;
  text << "kernel " << TheBlock().grid->kernel << ", block (" << blockIdx.x << ", " << blockIdx.y
       << ", " << blockIdx.z << ")";
  return text.str();
}

std::string Describe(const Thread& thread, const Warp& warp) {
  switch (thread.state) {
    case State::kReady:
      return "can go on";
    case State::kAtBlockBarrier:
      return "wait in __syncthreads at " + Place(thread.at);
    case State::kInWarpCall:
      return std::string("wait in ") + warp.function + " at " + Place(thread.at);
    case State::kEnded:
      return "have ended";
  }
  return "";
}

// Where each thread waits: "threads 0-15 wait in Shuffle at norm.cu:30; threads 16-31 have ended".
std::string Waits() {
  const Block& block = TheBlock();
  const auto describe = [&block](size_t t) {
    return Describe(block.threads[t], block.warps[t / kLanes]);
  };
  std::ostringstream text;
  for (size_t begin = 0; begin < block.num_threads;) {
    const std::string what = describe(begin);
    size_t end = begin + 1;
    while (end < block.num_threads && describe(end) == what) ++end;
    text << (begin == 0 ? "" : "; ") << "threads " << begin << "-" << end - 1 << " " << what;
    begin = end;
  }
  return text.str();
}

void Suspend(State state, Where at) {
  Thread& self = Current();
  self.state = state;
  self.at = at;
  self.fiber->Suspend();
}

// What every fiber does: a thread of each block that is wide enough for it.
void ThreadBody() {
  for (;;) {
    const Grid& grid = *TheBlock().grid;
    grid.thread(grid.arguments);
    Suspend(State::kEnded, {});
  }
}

void ReleaseBarrier() {
  Block& block = TheBlock();
  if (block.at_barrier == 0 || block.at_barrier < block.alive) return;
  const Thread* first = nullptr;
  for (size_t t = 0; t < block.num_threads; ++t) {
    Thread& thread = block.threads[t];
    if (thread.state != State::kAtBlockBarrier) continue;
    if (first == nullptr) first = &thread;
    DS_CHECK(SamePlace(thread.at, first->at))
        << WhichBlock() << ": threads wait in different __syncthreads, at " << Place(first->at)
        << " and at " << Place(thread.at);
    thread.state = State::kReady;
  }
  block.at_barrier = 0;
}

void Resume(size_t t) {
  Block& block = TheBlock();
  Thread& thread = block.threads[t];
  block.current = t;
  threadIdx = thread.index;
  thread.fiber->Resume();
  if (thread.state == State::kEnded) {
    --block.alive;
    thread.copies.clear();
  } else if (thread.state == State::kAtBlockBarrier) {
    ++block.at_barrier;
  }
  ReleaseBarrier();
}

// Lets a warp's lanes run, in an order of the moment, until none can or the draw says to leave.
// Whether any ran.
bool RunWarp(size_t warp) {
  Block& block = TheBlock();
  bool any = false;
  for (;;) {
    const uint64_t draw = block.rng();
    const size_t first = draw % kLanes;
    const size_t stride = (draw >> 8) % kLanes | 1;  // odd: each lane once
    bool ran = false;
    for (size_t i = 0; i < kLanes; ++i) {
      const size_t t = warp * kLanes + (first + i * stride) % kLanes;
      if (block.threads[t].state != State::kReady) continue;
      Resume(t);
      ran = true;
    }
    any = any || ran;
    if (!ran || (draw >> 16) % 4 == 0) return any;
  }
}

void RunBlock() {
  Block& block = TheBlock();
  if (block.grid->shared_bytes > 0) std::memset(block.shared, kGarbage, block.grid->shared_bytes);
  FillSharedArrays(kGarbage);
  const dim3 size = block.grid->block;
  for (size_t t = 0; t < block.num_threads; ++t) {
    Thread& thread = block.threads[t];
    const auto i = static_cast<unsigned int>(t);
    thread.index = {i % size.x, i / size.x % size.y, i / size.x / size.y};
    thread.state = State::kReady;
    thread.warp_calls = 0;
  }
  block.alive = block.num_threads;
  block.at_barrier = 0;
  const size_t num_warps = block.num_threads / kLanes;
  for (size_t w = 0; w < num_warps; ++w) block.warps[w].arrived = 0;
  while (block.alive > 0) {
    bool ran = false;
    const uint64_t first = block.rng();
    const bool backwards = (first >> 32) % 2 == 1;
    for (size_t i = 0; i < num_warps; ++i) {
      const size_t w = (first % num_warps + (backwards ? num_warps - i : i)) % num_warps;
      ran = RunWarp(w) || ran;
    }
    DS_CHECK(ran) << WhichBlock() << ": no thread can go on: " << Waits();
  }
}

void Prepare(const Grid& grid) {
  Block& block = TheBlock();
  block.grid = &grid;
  block.rng.seed(grid.seed);
  block.num_threads = size_t{grid.block.x} * grid.block.y * grid.block.z;
  while (block.threads.size() < block.num_threads) {
    block.threads.emplace_back();
    block.threads.back().fiber = std::make_unique<Fiber>(&ThreadBody);
  }
  if (block.warps.size() * kLanes < block.num_threads) {
    block.warps.resize(block.num_threads / kLanes);
  }
  blockDim = grid.block;
  gridDim = grid.grid;
}

}  // namespace

void CheckSizes(const Grid& grid) {
  const dim3 b = grid.block;
  const uint64_t threads = uint64_t{b.x} * b.y * b.z;
  DS_CHECK(threads > 0 && threads <= kMaxThreads && threads % kLanes == 0 && b.z <= 64)
      << "kernel " << grid.kernel << ": a block of " << b.x << " x " << b.y << " x " << b.z
      << " threads; use a multiple of 32, at most " << kMaxThreads;
  DS_CHECK(grid.grid.x <= 0x7fffffffU && grid.grid.y <= 0xffffU && grid.grid.z <= 0xffffU)
      << "kernel " << grid.kernel << ": a grid of " << grid.grid.x << " x " << grid.grid.y << " x "
      << grid.grid.z << " blocks; y and z may be at most 65535";
  DS_CHECK_LE(grid.shared_bytes, kMaxSharedBytes)
      << "kernel " << grid.kernel << ": bytes of shared memory";
}

void RunGrid(const Grid& grid) {
  const absl::MutexLock lock(&grid_mutex);
  Prepare(grid);
  Block& block = TheBlock();
  // Of exactly that size, so that AddressSanitizer sees an access beyond it.
  if (grid.shared_bytes > 0) {
    DS_CHECK_EQ(posix_memalign(&block.shared, kSharedAlignment, grid.shared_bytes), 0);
  }
  std::vector<uint64_t> order(uint64_t{grid.grid.x} * grid.grid.y * grid.grid.z);
  std::iota(order.begin(), order.end(), uint64_t{0});
  std::shuffle(order.begin(), order.end(), block.rng);
  for (const uint64_t b : order) {
    blockIdx = {static_cast<unsigned int>(b % grid.grid.x),
                static_cast<unsigned int>(b / grid.grid.x % grid.grid.y),
                static_cast<unsigned int>(b / grid.grid.x / grid.grid.y)};
    RunBlock();
  }
  std::free(block.shared);
  block.shared = nullptr;
}

void BlockBarrier(Where at) { Suspend(State::kAtBlockBarrier, at); }

int Lane() { return static_cast<int>(TheBlock().current % kLanes); }

void* SharedMemory() {
  DS_CHECK(TheBlock().shared != nullptr)
      << WhichBlock() << ": SharedMemory() of a launch with 0 bytes of shared memory";
  return TheBlock().shared;
}

size_t SharedBytes() { return TheBlock().grid->shared_bytes; }

const Exchange& WarpCall(const char* function,
                         const void* value,
                         size_t bytes,
                         void (*make)(Exchange& exchange),
                         Where at) {
  Block& block = TheBlock();
  Thread& self = Current();
  Warp& warp = block.warps[block.current / kLanes];
  const size_t lane = block.current % kLanes;
  if (warp.arrived == 0) {
    warp.function = function;
    warp.at = at;
  }
  DS_CHECK(std::strcmp(warp.function, function) == 0 && SamePlace(warp.at, at))
      << WhichBlock() << ": warp " << block.current / kLanes << ": lane " << lane << " calls "
      << function << " at " << Place(at) << " while other lanes wait in " << warp.function << " at "
      << Place(warp.at) << "; all 32 lanes call a warp's function together";
  Exchange& exchange = warp.exchanges[self.warp_calls++ % 2];
  if (bytes > 0) std::memcpy(exchange.given[lane], value, bytes);
  if (++warp.arrived == kLanes) {
    if (make != nullptr) make(exchange);
    warp.arrived = 0;
    const size_t first = block.current - lane;
    for (size_t t = first; t < first + kLanes; ++t) block.threads[t].state = State::kReady;
    Suspend(State::kReady, at);
  } else {
    Suspend(State::kInWarpCall, at);
  }
  return exchange;
}

void CopyAsync(void* to, const void* from, bool valid, Where at) {
  constexpr uintptr_t kAlignment = 16;
  const bool aligned = reinterpret_cast<uintptr_t>(to) % kAlignment == 0 &&
                       (!valid || reinterpret_cast<uintptr_t>(from) % kAlignment == 0);
  DS_CHECK(aligned) << WhichBlock() << ": CopyAsync16 at " << Place(at)
                    << ": not aligned to 16 bytes: " << to << " from " << from;
  // From now on a GPU may write there, and until the wait it may not have.
  std::memset(to, kGarbage, kAlignment);
  Current().copies.push_back({to, from, valid, Current().copy_group});
}

void CommitCopies() { ++Current().copy_group; }

void WaitCopies(int left) {
  Thread& self = Current();
  std::erase_if(self.copies, [&self, left](const Copy& copy) {
    if (copy.group >= self.copy_group - left) return false;
    if (copy.valid) {
      std::memcpy(copy.to, copy.from, 16);
    } else {
      std::memset(copy.to, 0, 16);
    }
    return true;
  });
}

}  // namespace shim
}  // namespace deltaserve::cuda
