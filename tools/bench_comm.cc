// deltaserve-bench_comm: how long collectives take, under mpirun.

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <vector>

#include "absl/strings/str_cat.h"
#include "kernels/base/flags.h"
#include "kernels/cpu/cpu_device.h"
#include "worker/comm/mpi_communicator.h"
#include "worker/comm/mpi_world.h"
#include "worker/comm/shared_communicator.h"

namespace deltaserve {
namespace {

constexpr int64_t kHidden = 1024;

struct BenchOptions {
  std::string path = "shared";
  int32_t threads = 1;
  int32_t repeats = 5;
  int32_t milliseconds = 200;
};

// Median, over repeats, of microseconds a call.
template <typename Call>
double Microseconds(const BenchOptions& options, World& world, Call call) {
  using Clock = std::chrono::steady_clock;
  const auto run = [&](int64_t calls) {
    world.Barrier();
    const Clock::time_point start = Clock::now();
    for (int64_t i = 0; i < calls; ++i) call();
    return std::chrono::duration<double, std::micro>(Clock::now() - start).count() /
           static_cast<double>(calls);
  };
  // Rank 0 says how many calls, so that all make as many.
  const auto wanted = static_cast<int64_t>(options.milliseconds * 1000 / std::max(run(20), 0.1));
  const int64_t calls = std::max<int64_t>(
      1, std::stoll(world.BroadcastFromZero(std::to_string(wanted / options.repeats))));
  std::vector<double> times;
  for (int i = 0; i < options.repeats; ++i) times.push_back(run(calls));
  std::sort(times.begin(), times.end());
  return times[times.size() / 2];
}

void Bench(const BenchOptions& options, World& world, Device& device, Communicator& comm) {
  const bool prints = world.info().rank == 0;
  if (prints) {
    printf("%d ranks, %s, microseconds a call (median of %d runs)\n", comm.size(),
           comm.Name().c_str(), options.repeats);
    printf("%10s %12s %14s %10s %10s\n", "bytes", "AllReduceSum", "ReduceAddNorm", "AllGather",
           "Broadcast");
  }
  for (const int64_t bytes :
       {4 << 10, 8 << 10, 32 << 10, 64 << 10, 128 << 10, 256 << 10, 512 << 10, 2 << 20}) {
    const int64_t hidden = std::min<int64_t>(kHidden, bytes / 4);
    const int64_t rows = bytes / 4 / hidden;
    const auto size = static_cast<size_t>(bytes);
    const Buffer exchange = comm.AllocateExchange(size).value();
    const TensorView partial = exchange.View(DType::kF32, {rows, hidden});
    const Buffer buffers[] = {Buffer::AllocateHost(size), Buffer::AllocateHost(size),
                              Buffer::AllocateHost(size),
                              Buffer::AllocateHost(size * static_cast<size_t>(comm.size()))};
    const TensorView residual = buffers[0].View(DType::kF32, {rows, hidden});
    const TensorView out = buffers[1].View(DType::kF32, {rows, hidden});
    const TensorView weight = buffers[2].View(DType::kF32, {hidden});
    const TensorView all = buffers[3].View(DType::kF32, {comm.size(), rows, hidden});
    for (const TensorView& tensor : {partial, residual, out, weight, all}) device.Zero(tensor);
    const double sum = Microseconds(options, world, [&] { comm.AllReduceSum(partial); });
    const double norm = Microseconds(options, world, [&] {
      comm.ReduceAddNorm(
          {.partial = partial, .residual = residual, .weight = weight, .eps = 1e-6f, .out = out});
    });
    const double gather = Microseconds(options, world, [&] { comm.AllGather(partial, all); });
    const double broadcast = Microseconds(options, world, [&] { comm.Broadcast(partial, 0); });
    if (prints) {
      printf("%10lld %12.2f %14.2f %10.2f %10.2f\n", static_cast<long long>(bytes), sum, norm,
             gather, broadcast);
    }
  }
}

int Main(int argc, char** argv) {
  auto world = MpiWorld::Create(&argc, &argv);
  if (!world.ok()) {
    fprintf(stderr, "%s\n", world.status().ToString().c_str());
    return 1;
  }
  const bool prints = (*world)->info().rank == 0;
  BenchOptions options;
  CommandLine line("bench_comm", "Times collectives of ranks under mpirun, zeros in all tensors.");
  line.Add("--path", &options.path, "What they go over").OneOf({"shared", "mpi"});
  line.Add("--threads", &options.threads, "Of a rank").In(1, 1024);
  line.Add("--repeats", &options.repeats, "Runs of which the median is printed").In(1, 1000);
  line.Add("--milliseconds", &options.milliseconds, "All runs of one call take about").In(1, 60000);
  if (const auto code = line.Parse(argc, argv, prints)) return *code;
  const auto device = cpu::CreateCpuDevice({.num_threads = options.threads});
  if (!device.ok()) return line.Refuse(device.status(), prints);
  absl::StatusOr<std::unique_ptr<Communicator>> comm = CreateMpiCommunicator(**world, **device);
  if (options.path == "shared") comm = CreateSharedCommunicator(**world, **device);
  if (!comm.ok()) return line.Refuse(comm.status(), prints);
  Bench(options, **world, **device, **comm);
  return 0;
}

}  // namespace
}  // namespace deltaserve

int main(int argc, char** argv) { return deltaserve::Main(argc, argv); }
