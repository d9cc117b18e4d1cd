// Runs a fuzz target without libFuzzer, so that every preset tests it: each seed of the folders
// given, then seeds changed at random from a fixed seed, for about a second. An input that fails is
// left in the file fuzz-failure of the working folder, to be given in place of the folders.

#include <algorithm>
#include <chrono>
#include <csignal>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <iterator>
#include <random>

#include "tests/fuzz/fuzz_target.h"

namespace {

constexpr std::chrono::milliseconds kTime(1000);
constexpr size_t kMostInputs = 20000;
constexpr size_t kMostBytes = 4096;

std::string& Input() {
  static std::string& input = *new std::string;  // never destroyed: the handler reads it
  return input;
}

// The process is about to end, so what is not safe in a handler at worst loses the file.
void SaveInput(int /*signal*/) {
  if (std::FILE* file = std::fopen("fuzz-failure", "wb"); file != nullptr) {
    std::fwrite(Input().data(), 1, Input().size(), file);
    std::fclose(file);
    std::fputs("the input is in the file fuzz-failure\n", stderr);
  }
}

void Run(std::string input) {
  Input() = std::move(input);
  // A copy of its own, so that a sanitizer sees a read past its end.
  const std::vector<uint8_t> bytes(Input().begin(), Input().end());
  LLVMFuzzerTestOneInput(bytes.data(), bytes.size());
}

std::vector<std::string> ReadSeeds(const std::string& path) {
  std::vector<std::string> files = {path};
  if (std::filesystem::is_directory(path)) {
    files.clear();
    for (const auto& entry : std::filesystem::directory_iterator(path)) {
      files.push_back(entry.path().string());
    }
    std::sort(files.begin(), files.end());  // the order of a folder is chance
  }
  std::vector<std::string> seeds;
  for (const std::string& file : files) {
    std::ifstream stream(file, std::ios::binary);
    seeds.emplace_back(std::istreambuf_iterator<char>(stream), std::istreambuf_iterator<char>());
  }
  return seeds;
}

class Mutator {
 public:
  explicit Mutator(std::vector<std::string> seeds) : seeds_(std::move(seeds)) {}

  std::string Next() {
    std::string input = Seed();
    for (size_t changes = 1 + Below(8); changes > 0; --changes) Change(&input);
    input.resize(std::min(input.size(), kMostBytes));
    return input;
  }

 private:
  size_t Below(size_t bound) { return bound == 0 ? 0 : random_() % bound; }
  const std::string& Seed() { return seeds_[Below(seeds_.size())]; }

  void Change(std::string* input) {
    const size_t at = Below(input->size() + 1);
    const size_t length = Below(std::min<size_t>(input->size() - at, 40) + 1);
    const std::string& other = Seed();
    const size_t other_at = Below(other.size() + 1);
    switch (Below(5)) {
      case 0:
        input->insert(at, 1, static_cast<char>(Below(256)));
        break;
      case 1:
        input->erase(at, length);
        break;
      case 2:
        input->insert(at, input->substr(Below(input->size() + 1), length));
        break;
      case 3:
        input->replace(at, length, other, other_at, Below(40));
        break;
      default:
        if (at < input->size()) (*input)[at] = static_cast<char>(Below(256));
    }
  }

  std::vector<std::string> seeds_;
  std::mt19937 random_{1};
};

}  // namespace

int main(int argc, char** argv) {
  std::vector<std::string> seeds;
  for (int i = 1; i < argc; ++i) {
    const auto read = ReadSeeds(argv[i]);
    seeds.insert(seeds.end(), read.begin(), read.end());
  }
  if (seeds.empty()) {
    std::cerr << "usage: " << argv[0] << " FOLDER_OR_FILE...: no seed is there\n";
    return 64;
  }
  std::signal(SIGABRT, SaveInput);
  Run("");
  for (const std::string& seed : seeds) Run(seed);
  size_t num_inputs = seeds.size() + 1;
  const auto end = std::chrono::steady_clock::now() + kTime;
  for (Mutator mutator(std::move(seeds));
       num_inputs < kMostInputs && std::chrono::steady_clock::now() < end; ++num_inputs) {
    Run(mutator.Next());
  }
  std::cout << num_inputs << " inputs\n";
  return 0;
}
