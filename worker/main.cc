// deltaserve-worker: one rank of a world. Rank 0 serves gRPC; all ranks compute.

#include <pthread.h>
#include <signal.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <thread>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "kernels/base/flags.h"
#include "kernels/base/log.h"
#include "kernels/base/status_macros.h"
#include "kernels/base/write_address.h"
#include "worker/comm/link_address.h"
#include "worker/engine/engine_loop.h"
#include "worker/metrics/metrics_server.h"
#include "worker/metrics/recorded_metrics.h"
#include "worker/metrics/sampled_metrics.h"
#include "worker/rank.h"
#include "worker/service/world_server.h"

namespace deltaserve {
namespace {

struct WorkerOptions {
  RankOptions rank;
  std::string listen = "127.0.0.1:50052";
  std::string address_file;
  std::string metrics_listen;
  std::string model_name;
  double drain_timeout_s = 30;
};

void AddWorkerFlags(CommandLine& line, WorkerOptions* options) {
  AddRankFlags(line, &options->rank);
  line.Add("--listen", &options->listen,
           "HOST:PORT where rank 0 serves routers; port 0 takes a free one. HOST may be a network, "
           "10.0.0.0/24: rank 0's address in it. There is no TLS: an address that others reach is "
           "for a closed network")
      .HostPort(0);
  line.Add("--address-file", &options->address_file,
           "File that gets HOST:PORT once the world is ready; - is standard output");
  line.Add("--metrics-listen", &options->metrics_listen,
           "HOST:PORT where rank 0 serves metrics for Prometheus, as /metrics over plain HTTP; "
           "port 0 takes a free one, which is logged. Default: nowhere")
      .HostPort(0);
  line.Add("--model-name", &options->model_name,
           "What clients name in `model`; default: the folder's name");
  line.Add("--drain-timeout", &options->drain_timeout_s,
           "Seconds that running requests get after SIGTERM to rank 0 or SIGUSR1 to mpirun")
      .In(0);
}

// This rank's number before MPI is up, so that a bad flag is told once.
bool IsRankZero() {
  const char* rank = std::getenv("OMPI_COMM_WORLD_RANK");
  return rank == nullptr || std::string(rank) == "0";
}

std::string ModelName(const WorkerOptions& options) {
  if (!options.model_name.empty()) return options.model_name;
  std::filesystem::path path = std::filesystem::absolute(options.rank.model).lexically_normal();
  if (path.filename().empty()) path = path.parent_path();
  return path.filename().string();
}

WorldInfo DescribeWorld(const WorkerOptions& options, MpiWorld& world, Rank& rank) {
  WorldInfo info;
  info.model_id = ModelName(options);
  info.weights_fingerprint = rank.weights_fingerprint();
  info.text_assets = rank.text().files;
  info.eos_token_ids = rank.text().eos_token_ids;
  if (const auto file = info.text_assets.find("generation_config.json");
      file != info.text_assets.end()) {
    info.generation_defaults_json = file->second;
  }
  info.capabilities = {"prompt_logprobs"};
  const ParallelOptions& parallel = rank.plan().options();
  const auto ranks = static_cast<uint32_t>(parallel.ranks);
  info.layout.set_ranks(ranks);
  info.layout.set_tensor(ranks);
  info.layout.set_expert(parallel.moe == MoeMode::kExpert ? ranks : 1);
  info.layout.set_data(1);
  info.layout.set_pipeline(1);
  info.layout.set_linear_attention_replicated(parallel.linear_attention ==
                                              LinearAttentionMode::kReplicated);
  info.numerics.set_device(rank.device().Name());
  const Numerics& numerics = rank.device().numerics();
  info.numerics.set_activation(absl::AsciiStrToLower(DTypeName(numerics.activation)));
  info.numerics.set_kv(absl::AsciiStrToLower(DTypeName(numerics.kv)));
  info.numerics.set_weights(options.rank.quantize == "int8" ? "int8" : "bf16");
  info.numerics.set_row_invariant(rank.device().HostAddressable());
  info.numerics.set_fingerprint(rank.numerics_fingerprint());
  for (const std::string& bytes : world.AllGather([&] {
         v1::RankInfo mine;
         mine.set_rank(world.info().rank);
         mine.set_host(world.info().host);
         mine.set_device(rank.device().Name());
         mine.set_pid(getpid());
         return mine.SerializeAsString();
       }())) {
    info.ranks.emplace_back().ParseFromString(bytes);
  }
  return info;
}

// The signals that drain a world. Blocked in every thread of rank 0, waited for by one.
sigset_t DrainSignals() {
  sigset_t signals;
  sigemptyset(&signals);
  sigaddset(&signals, SIGTERM);
  sigaddset(&signals, SIGINT);
  sigaddset(&signals, SIGUSR1);
  return signals;
}

// Waits for a drain signal, or for SIGUSR1 from the end of main.
class DrainOnSignal {
 public:
  DrainOnSignal(Engine& engine, absl::Duration timeout) {
    thread_ = std::thread([this, &engine, timeout] {
      const sigset_t signals = DrainSignals();
      int signal = 0;
      sigwait(&signals, &signal);
      if (ending_.load()) return;
      LogInfo("signal {}: draining, at most {:.0f} s", signal, absl::ToDoubleSeconds(timeout));
      engine.BeginDrain(absl::Now() + timeout, false);
    });
  }
  ~DrainOnSignal() {
    ending_ = true;
    pthread_kill(thread_.native_handle(), SIGUSR1);
    thread_.join();
  }
  DrainOnSignal(const DrainOnSignal&) = delete;
  DrainOnSignal& operator=(const DrainOnSignal&) = delete;

 private:
  std::atomic<bool> ending_{false};
  std::thread thread_;
};

// Null where no metrics are wanted.
std::shared_ptr<RecordedMetrics> RecordMetrics(const WorkerOptions& options, Rank& rank) {
  if (options.metrics_listen.empty()) return nullptr;
  return std::make_shared<RecordedMetrics>(ModelName(options),
                                           rank.executor().capacity().max_context);
}

absl::StatusOr<std::unique_ptr<MetricsServer>> ServeMetrics(
    const WorkerOptions& options,
    Rank& rank,
    const Engine& engine,
    std::shared_ptr<RecordedMetrics> recorded) {
  if (recorded == nullptr) return nullptr;
  DS_ASSIGN_OR_RETURN(auto server,
                      MetricsServer::Start(options.metrics_listen,
                                           {std::move(recorded), std::make_shared<SampledMetrics>(
                                                                     ModelName(options), engine,
                                                                     rank.link(), rank.comm())}));
  LogInfo("metrics on http://{}/metrics", server->address());
  return server;
}

absl::StatusOr<std::unique_ptr<WorldServer>> Serve(const WorkerOptions& options,
                                                   WorldServerOptions server,
                                                   WorldInfo info,
                                                   Engine& engine) {
  DS_ASSIGN_OR_RETURN(const std::vector<Ipv4> host, HostAddresses());
  DS_ASSIGN_OR_RETURN(server.listen, ResolveListen(options.listen, host));
  return WorldServer::Start(server, std::move(info), &engine);
}

int ServeRankZero(const WorkerOptions& options, WorldInfo info, Rank& rank) {
  const absl::Duration drain = absl::Seconds(options.drain_timeout_s);
  const std::shared_ptr<RecordedMetrics> recorded = RecordMetrics(options, rank);
  auto engine =
      Engine::Create(rank.executor(), rank.channel(), rank.link(), rank.watchdog(), recorded.get());
  WorldServerOptions server_options;
  server_options.observer = recorded.get();
  const std::string model_id = info.model_id;
  auto server = Serve(options, std::move(server_options), std::move(info), *engine);
  absl::Status status = server.status();
  const auto metrics = ServeMetrics(options, rank, *engine, recorded);
  if (status.ok()) status = metrics.status();
  if (status.ok() && !options.address_file.empty()) {
    status = WriteAddress(options.address_file, (*server)->address());
  }
  if (!status.ok()) {
    std::fprintf(stderr, "deltaserve-worker: %s\n", std::string(status.message()).c_str());
    engine->BeginDrain(absl::Now(), true);  // the followers are waiting for plans
    rank.RunEngine(*engine);
    return kExitUsage;
  }
  (*server)->SetReady();
  const EngineCapacity& capacity = engine->capacity();
  LogInfo("ready: {} on {}; {} slots, {} KV blocks of {} tokens, contexts of {} tokens", model_id,
          (*server)->address(), capacity.slots, capacity.kv_blocks, kBlockTokens,
          capacity.max_context);
  int code = 0;
  {
    DrainOnSignal signals(*engine, drain);
    code = rank.RunEngine(*engine);
  }
  (*server)->Shutdown(absl::Now() + absl::Seconds(5));
  LogInfo("drained");
  return code;
}

int Main(int argc, char** argv) {
  const sigset_t signals = DrainSignals();
  pthread_sigmask(SIG_BLOCK, &signals, nullptr);  // before any thread exists
  WorkerOptions options;
  CommandLine flags("worker",
                    "One rank of a world: start it under mpirun, one process a GPU or NUMA node.\n"
                    "Example: mpirun -n 2 deltaserve-worker --model DIR --listen 127.0.0.1:50052");
  AddWorkerFlags(flags, &options);
  if (const auto code = flags.Parse(argc, argv, IsRankZero())) return *code;
  InitLogging(options.rank.log_level, "");
  auto world = MpiWorld::Create(&argc, &argv);
  if (!world.ok()) return flags.Refuse(world.status());
  const RankInfo& info = (*world)->info();
  InitLogging(options.rank.log_level, absl::StrCat("rank ", info.rank));
  if (info.rank != 0) {
    // SIGUSR1 comes to every rank from mpirun and concerns rank 0; the others end with the stop
    // plan.
    // SIGTERM comes when another rank has died: time for last words, until SIGKILL follows.
    signal(SIGUSR1, SIG_IGN);
    signal(SIGTERM, SIG_IGN);
    pthread_sigmask(SIG_UNBLOCK, &signals, nullptr);
  }
  if (info.rank == 0 && !options.address_file.empty() && options.address_file != kStandardOutput) {
    std::error_code none;  // one of an earlier run would send routers to a dead address
    std::filesystem::remove(options.address_file, none);
  }
  LastWords last_words(info, {});
  int speaker = 0;
  auto rank = Rank::Create(options.rank, {}, **world, last_words, &speaker);
  if (!rank.ok()) {
    flags.Refuse(rank.status(), speaker == info.rank);
    return StartExitCode(rank.status());
  }
  WorldInfo description = DescribeWorld(options, **world, **rank);
  return info.rank == 0 ? ServeRankZero(options, std::move(description), **rank)
                        : (*rank)->RunFollower();
}

}  // namespace
}  // namespace deltaserve

int main(int argc, char** argv) { return deltaserve::Main(argc, argv); }
