// deltaserve-bench_ops: times the ops of one rank and says how close they come to the machine.

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <functional>
#include <iterator>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "kernels/base/build_info.h"
#include "kernels/base/flags.h"
#include "kernels/base/status_macros.h"
#include "kernels/cpu/cpu_device.h"
#include "kernels/cpu/host_memory.h"
#include "kernels/cuda/cuda_device.h"
#include "tools/bench/limits.h"
#include "tools/bench/measurement.h"
#include "tools/bench/op_cases.h"
#include "tools/output_file.h"

namespace deltaserve::bench {
namespace {

struct BenchFlags {
  std::string device = "cpu";
  std::string cpu_isa = "auto";
  std::string quantize = "none";
  int threads = 2;
  std::string only;
  double seconds = 2;
  int64_t read_bytes = kReadBytes;
  std::optional<std::string> json;
  bool list = false;
};

// What the largest group and the limits hold.
constexpr int64_t kMostMemory = int64_t{4} << 30;
constexpr size_t kLeastRounds = 3;

absl::StatusOr<std::unique_ptr<Device>> OpenDevice(const BenchFlags& flags) {
  if (flags.device == "cuda") return cuda::CreateCudaDevice(0);
  const int64_t memory = cpu::MostMemory(1);
  if (memory < kMostMemory) {
    return absl::ResourceExhaustedError(
        absl::StrCat("this process can have ", memory, " bytes of memory; it needs ", kMostMemory));
  }
  return cpu::CreateCpuDevice(
      {.num_threads = flags.threads,
       .isa = flags.cpu_isa,
       .quantization = flags.quantize == "int8" ? Quantization::kInt8 : Quantization::kNone});
}

double SecondsSince(std::chrono::steady_clock::time_point begin) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
}

// The cases in turn, again and again, until they have had `seconds` each. `measure` gives limits.
absl::StatusOr<std::vector<Measurement>> MeasureCases(const std::vector<OpCase>& cases,
                                                      OpData& data,
                                                      double seconds,
                                                      const std::function<Limits()>& measure) {
  std::vector<Measurement> all;
  for (const OpCase& one : cases) {
    all.push_back({.what = one.name, .tokens = static_cast<double>(one.rows), .cost = one.cost});
    one.run();
  }
  DS_RETURN_IF_ERROR(data.device().Synchronize());
  data.arena().Freeze();
  Limits before = measure();
  const auto begin = std::chrono::steady_clock::now();
  const double most = seconds * static_cast<double>(cases.size());
  for (size_t round = 0; round < kLeastRounds || SecondsSince(begin) < most; ++round) {
    for (size_t i = 0; i < cases.size(); ++i) {
      const auto start = std::chrono::steady_clock::now();
      cases[i].run();
      DS_RETURN_IF_ERROR(data.device().Synchronize());
      all[i].seconds.push_back(SecondsSince(start));
      const Limits after = measure();
      all[i].limits.push_back(MeanOf(before, after));
      before = after;
    }
  }
  return all;
}

bool Wanted(const BenchFlags& flags, const std::string& name) {
  return absl::StrContains(name, flags.only);
}

absl::StatusOr<std::vector<OpGroup>> WantedGroups(const BenchFlags& flags) {
  std::vector<OpGroup> groups = OpGroups();
  std::erase_if(groups, [&](const OpGroup& group) {
    return std::none_of(group.names.begin(), group.names.end(),
                        [&](const std::string& name) { return Wanted(flags, name); });
  });
  if (!groups.empty()) return groups;
  return absl::InvalidArgumentError(
      absl::StrCat("--only is ", flags.only, ": no name has that in it; --list prints all"));
}

absl::Status Bench(const BenchFlags& flags) {
  DS_ASSIGN_OR_RETURN(const std::vector<OpGroup> groups, WantedGroups(flags));
  if (flags.list) {
    for (const OpGroup& group : groups) {
      for (const std::string& name : group.names) {
        if (Wanted(flags, name)) std::printf("%s\n", name.c_str());
      }
    }
    return absl::OkStatus();
  }
  DS_ASSIGN_OR_RETURN(const std::unique_ptr<Device> device, OpenDevice(flags));
  ThreadPool pool(flags.threads);
  std::optional<LimitMeter> meter;
  if (device->HostAddressable()) meter.emplace(pool, flags.read_bytes);
  std::vector<Limits> limits;
  const auto measure = [&] { return limits.emplace_back(meter ? meter->Measure() : Limits()); };
  std::vector<Measurement> all;
  for (const OpGroup& group : groups) {
    OpData data(*device);
    std::vector<OpCase> cases = group.make(data);
    std::erase_if(cases, [&](const OpCase& one) { return !Wanted(flags, one.name); });
    DS_ASSIGN_OR_RETURN(std::vector<Measurement> measured,
                        MeasureCases(cases, data, flags.seconds, measure));
    std::move(measured.begin(), measured.end(), std::back_inserter(all));
  }
  std::printf("%s, %d threads: %s\n%s", device->Name().c_str(), flags.threads,
              LimitsText(MedianOf(limits)).c_str(), MeasurementTable(all).c_str());
  if (!flags.json) return absl::OkStatus();
  return WriteOutput("--json", *flags.json,
                     MeasurementJson({{"tool", "bench_ops"},
                                      {"build", GetBuildInfo().build_id},
                                      {"device", device->Name()},
                                      {"threads", static_cast<double>(flags.threads)}},
                                     MedianOf(limits), all));
}

int Main(int argc, char** argv) {
  CommandLine line(
      "bench_ops",
      "Times the ops of a rank on made-up values of the 0.8b model's sizes (experts: 64 "
      "of hidden_size 2048) and prints the share of what the machine can do that each "
      "reaches; the machine's limits are measured between runs.");
  BenchFlags flags;
  line.Add("--device", &flags.device, "cpu or cuda, which has no limits to compare with")
      .OneOf({"cpu", "cuda"});
  line.Add("--cpu-isa", &flags.cpu_isa,
           "instruction set of the kernels, as the worker takes it; auto: the best there is");
  line.Add("--quantize", &flags.quantize, "weights, as the worker takes it (cpu)")
      .OneOf({"none", "int8"});
  line.Add("--threads", &flags.threads, "that compute").In(1, 1024);
  line.Add("--only", &flags.only, "run only what has this in its name");
  line.Add("--list", &flags.list, "print the names and run nothing");
  line.Add("--seconds", &flags.seconds, "for each of them, but three runs at least").In(0, 3600);
  line.AddBytes("--read-bytes", &flags.read_bytes,
                "bytes that the limit of reads is measured with (default 1G); caches hold less");
  line.Add("--json", &flags.json, "file that gets the numbers");
  if (const auto code = line.Parse(argc, argv)) return *code;
  const absl::Status status = Bench(flags);
  return status.ok() ? kExitOk : line.Refuse(status);
}

}  // namespace
}  // namespace deltaserve::bench

int main(int argc, char** argv) { return deltaserve::bench::Main(argc, argv); }
