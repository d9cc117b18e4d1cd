// deltaserve-bench_ops: times the ops of one rank and says how close they come to the machine.

#include <algorithm>
#include <chrono>
#include <cmath>
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
#include "kernels/cuda/gpu_limits.h"
#include "tools/bench/limits.h"
#include "tools/bench/measurement.h"
#include "tools/bench/model_cases.h"
#include "tools/bench/op_cases.h"
#include "tools/output_file.h"

namespace deltaserve::bench {
namespace {

struct BenchFlags {
  std::string device = "cpu";
  cuda::BackendFlags backends;
  std::string cpu_isa = "auto";
  std::string quantize = "none";
  std::string model;
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
  DS_ASSIGN_OR_RETURN(const cuda::CudaOptions backends,
                      cuda::ReadBackends(flags.backends, flags.device));
  if (flags.device == "cuda") return cuda::CreateCudaDevice(0, backends);
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

// Seconds of a run, of `count` enqueued one after another.
absl::StatusOr<double> RunSeconds(const OpCase& one, Device& device, int count) {
  const auto start = std::chrono::steady_clock::now();
  for (int i = 0; i < count; ++i) one.run();
  DS_RETURN_IF_ERROR(device.Synchronize());
  return SecondsSince(start) / count;
}

// Runs between two waits for the device: 1 where the host computes; else so many that the wait and
// the first launch are a small part.
absl::StatusOr<int> RunsTogether(const OpCase& one, Device& device) {
  if (device.HostAddressable()) return 1;
  constexpr double kSeconds = 5e-3;
  DS_ASSIGN_OR_RETURN(const double alone, RunSeconds(one, device, 1));
  return std::clamp(static_cast<int>(std::ceil(kSeconds / alone)), 1, 1000);
}

using MeasureLimits = std::function<absl::StatusOr<Limits>()>;

// The cases in turn, again and again, until they have had `seconds` each. `measure` gives limits.
absl::StatusOr<std::vector<Measurement>> MeasureCases(const std::vector<OpCase>& cases,
                                                      OpData& data,
                                                      double seconds,
                                                      const MeasureLimits& measure) {
  std::vector<Measurement> all;
  for (const OpCase& one : cases) {
    all.push_back({.what = one.name,
                   .tokens = static_cast<double>(one.rows),
                   .calls = one.calls,
                   .cost = one.cost});
    one.run();
  }
  DS_RETURN_IF_ERROR(data.device().Synchronize());
  data.arena().Freeze();
  std::vector<int> together;
  for (const OpCase& one : cases) {
    DS_ASSIGN_OR_RETURN(together.emplace_back(), RunsTogether(one, data.device()));
  }
  DS_ASSIGN_OR_RETURN(Limits before, measure());
  const auto begin = std::chrono::steady_clock::now();
  const double most = seconds * static_cast<double>(cases.size());
  for (size_t round = 0; round < kLeastRounds || SecondsSince(begin) < most; ++round) {
    for (size_t i = 0; i < cases.size(); ++i) {
      DS_ASSIGN_OR_RETURN(all[i].seconds.emplace_back(),
                          RunSeconds(cases[i], data.device(), together[i]));
      DS_ASSIGN_OR_RETURN(const Limits after, measure());
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
  std::vector<OpGroup> groups;
  if (flags.model.empty()) {
    groups = OpGroups();
  } else {
    DS_ASSIGN_OR_RETURN(const ModelConfig config, LoadModelConfig(flags.model));
    groups = ModelGroups(config);
  }
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
  std::unique_ptr<cuda::GpuLimitMeter> gpu;
  if (device->HostAddressable()) {
    meter.emplace(pool, flags.read_bytes);
  } else {
    DS_ASSIGN_OR_RETURN(gpu, cuda::GpuLimitMeter::Create(0));
  }
  std::vector<Limits> limits;
  const auto measure = [&]() -> absl::StatusOr<Limits> {
    if (!gpu) return limits.emplace_back(meter->Measure());
    DS_ASSIGN_OR_RETURN(const cuda::GpuLimits now, gpu->Measure());
    return limits.emplace_back(
        Limits{.read_bytes = now.copy_bytes, .fma_flops = now.bf16_flops, .gpu = true});
  };
  std::vector<Measurement> all;
  for (const OpGroup& group : groups) {
    OpData data(*device);
    std::vector<OpCase> cases = group.make(data);
    std::erase_if(cases, [&](const OpCase& one) { return !Wanted(flags, one.name); });
    DS_ASSIGN_OR_RETURN(std::vector<Measurement> measured,
                        MeasureCases(cases, data, flags.seconds, measure));
    std::move(measured.begin(), measured.end(), std::back_inserter(all));
  }
  const std::string computes = gpu ? gpu->Description() : absl::StrCat(flags.threads, " threads");
  std::printf("%s, %s: %s\n%s", device->Name().c_str(), computes.c_str(),
              LimitsText(MedianOf(limits)).c_str(), MeasurementTable(all).c_str());
  if (!flags.json) return absl::OkStatus();
  return WriteOutput("--json", *flags.json,
                     MeasurementJson({{"tool", "bench_ops"},
                                      {"build", GetBuildInfo().build_id},
                                      {"device", device->Name()},
                                      {"gpu", gpu ? gpu->Description() : ""},
                                      {"model", flags.model},
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
  line.Add("--device", &flags.device, "cpu or cuda (the first GPU)").OneOf({"cpu", "cuda"});
  cuda::AddBackendFlags(line, &flags.backends);
  line.Add("--model", &flags.model,
           "config.json, or its folder: run the ops at that model's sizes instead, in the device's "
           "dtypes, with one layer's weights of each kind");
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
