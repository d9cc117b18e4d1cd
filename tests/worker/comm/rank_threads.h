#pragma once

// Runs one function as every rank of a ThreadWorld.

#include <functional>
#include <thread>
#include <vector>

namespace deltaserve {

// Returns when `body(rank)` has returned on `size` threads.
inline void RunRanks(int size, const std::function<void(int rank)>& body) {
  std::vector<std::thread> threads;
  threads.reserve(static_cast<size_t>(size));
  for (int rank = 0; rank < size; ++rank) threads.emplace_back(body, rank);
  for (std::thread& thread : threads) thread.join();
}

}  // namespace deltaserve
