#include "worker/rank.h"

#include <algorithm>
#include <filesystem>
#include <iterator>
#include <optional>
#include <sstream>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "kernels/base/build_info.h"
#include "kernels/base/log.h"
#include "kernels/base/status_macros.h"
#include "kernels/cpu/cores.h"
#include "kernels/cpu/cpu_device.h"
#include "kernels/cpu/host_memory.h"
#include "kernels/cuda/cuda_device.h"
#include "worker/checkpoint/weight_loader.h"
#include "worker/checkpoint/weight_table.h"
#include "worker/comm/link_address.h"
#include "worker/comm/nccl_report.h"
#include "worker/comm/world_communicator.h"
#include "worker/engine/engine_loop.h"
#include "worker/engine/follower.h"
#include "worker/engine/memory_plan.h"
#include "worker/gpu.h"

namespace deltaserve {
namespace {

double Gigabytes(int64_t bytes) { return static_cast<double>(bytes) / 1e9; }

void LogProgress(const LoadProgress& progress) {
  const double rate =
      progress.seconds > 0 ? Gigabytes(progress.bytes_read) / progress.seconds : 0.0;
  LogInfo("weights: {:.3f} of {:.3f} GB, {:.2f} GB/s", Gigabytes(progress.bytes_read),
          Gigabytes(progress.bytes_total), rate);
}

// The cores that each rank of this rank's host may use, by local rank.
std::vector<std::vector<int>> CoresOfHost(MpiWorld& world) {
  const std::vector<std::string> all =
      world.AllGather(absl::StrCat(world.info().node, ":", absl::StrJoin(cpu::UsableCores(), " ")));
  std::vector<std::vector<int>> cores;
  for (const std::string& text : all) {
    const std::vector<std::string> parts = absl::StrSplit(text, ':');
    if (parts[0] != absl::StrCat(world.info().node)) continue;
    std::istringstream list(parts[1]);
    cores.emplace_back(std::istream_iterator<int>(list), std::istream_iterator<int>());
  }
  return cores;
}

// Ranks that round differently would route a token to different experts; a GPU that is slower or
// smaller than the others would be so for all.
absl::Status CheckSameDevice(MpiWorld& world, const Device& device) {
  const RankInfo& info = world.info();
  const std::vector<std::string> all = world.AllGather(device.Name());
  if (ModelOfDevice(device.Name()) == ModelOfDevice(all.front())) return absl::OkStatus();
  return absl::FailedPreconditionError(absl::StrCat(
      "device of rank ", info.rank, " on ", info.host, " is ", device.Name(), ", of rank 0 ",
      all.front(),
      device.HostAddressable()
          ? ": give all ranks one instruction set that every host has by --cpu-isa"
          : ": start a world on GPUs of one model; CUDA_VISIBLE_DEVICES chooses among a host's"));
}

// All ranks must have read the same model: a folder that differs on one host gives nonsense, not an
// error.
absl::Status CheckSameFingerprint(MpiWorld& world, const std::string& mine) {
  const RankInfo& info = world.info();
  const std::vector<std::string> all = world.AllGather(mine);
  if (mine == all.front()) return absl::OkStatus();
  return absl::FailedPreconditionError(absl::StrCat(
      "weights fingerprint of rank ", info.rank, " on ", info.host, " is ", mine, ", of rank 0 ",
      all.front(), ": the model folders differ; copy one folder to every host"));
}

}  // namespace

absl::StatusOr<std::unique_ptr<Rank>> Rank::Create(const RankOptions& options,
                                                   EngineOptions engine,
                                                   MpiWorld& world,
                                                   LastWords& last_words,
                                                   int* speaker) {
  std::unique_ptr<Rank> rank(new Rank(options, world, last_words));
  DS_RETURN_IF_ERROR(world.AgreeOnStatus(rank->ReadConfig(), speaker));
  DS_RETURN_IF_ERROR(world.AgreeOnStatus(rank->CheckRecording(), speaker));
  DS_RETURN_IF_ERROR(world.AgreeOnStatus(rank->OpenDevice(), speaker));
  DS_RETURN_IF_ERROR(world.AgreeOnStatus(CheckSameDevice(world, *rank->device_), speaker));
  DS_RETURN_IF_ERROR(world.AgreeOnStatus(rank->OpenCommunicator(), speaker));
  auto link =
      CreateTcpControlLink(world, {.address = options.control_network},
                           [&last_words](const PeerLoss& loss) { last_words.DieOfPeer(loss); });
  *speaker = 0;
  DS_RETURN_IF_ERROR(link.status());
  rank->link_ = *std::move(link);
  last_words.SetFarewell(
      [&link = *rank->link_](const PeerLoss& root) { link.SendLastWords(root); });
  rank->watchdog_ = std::make_unique<Watchdog>(last_words, WatchdogOptions{});
  rank->channel_ = CreateMpiPlanChannel(world);

  engine.slots = options.slots;
  engine.kv_memory = options.kv_memory;
  engine.token_budget = options.token_budget;
  engine.run_ahead = options.RunAhead();
  engine.max_queue = options.max_queue;
  engine.max_queue_tokens = options.max_queue_tokens;
  engine.max_context = options.max_context;
  engine.num_tokens = rank->text_.num_tokens;
  engine.quantization = rank->quantization_;
  DS_RETURN_IF_ERROR(world.AgreeOnStatus(engine.Validate(), speaker));
  DS_RETURN_IF_ERROR(world.AgreeOnStatus(rank->CheckMemory(engine), speaker));
  DS_RETURN_IF_ERROR(world.AgreeOnStatus(rank->Load(), speaker));
  DS_RETURN_IF_ERROR(
      world.AgreeOnStatus(CheckSameFingerprint(world, rank->weights_fingerprint_), speaker));
  auto executor = Executor::Create(world, *rank->device_, *rank->comm_, *rank->model_, engine,
                                   *rank->watchdog_);
  *speaker = 0;
  DS_RETURN_IF_ERROR(executor.status());
  rank->executor_ = *std::move(executor);
  if (const absl::Status warm = rank->executor_->WarmUp(world, *rank->watchdog_); !warm.ok()) {
    absl::Status cause(warm.code(), absl::StrCat("in warm-up: ", warm.message()));
    rank->End(cause);  // the others are in its steps, and agree on nothing
    return cause;
  }
  DS_RETURN_IF_ERROR(world.AgreeOnStatus(rank->StartRecording(), speaker));
  return rank;
}

Rank::~Rank() {
  if (link_ == nullptr) return;
  link_->Close();
  last_words_.SetFarewell({});
}

int StartExitCode(const absl::Status& status) {
  switch (status.code()) {
    case absl::StatusCode::kAborted:
    case absl::StatusCode::kDeadlineExceeded:
    case absl::StatusCode::kUnavailable:
      return kExitRetry;
    case absl::StatusCode::kInternal:
      return kExitWatchdog;
    default:
      return kExitConfiguration;
  }
}

absl::Status Rank::ReadConfig() {
  const RankInfo& info = world_.info();
  if (!std::filesystem::exists(options_.model)) {
    return absl::InvalidArgumentError(
        absl::StrCat("--model is ", options_.model, ": rank ", info.rank, " on ", info.host,
                     " sees no such folder; give one that holds config.json and *.safetensors"));
  }
  DS_ASSIGN_OR_RETURN(config_, LoadModelConfig(options_.model));
  DS_ASSIGN_OR_RETURN(const ParallelOptions parallel, options_.Parallel(info.size));
  DS_ASSIGN_OR_RETURN(quantization_, options_.WeightQuantization());
  DS_ASSIGN_OR_RETURN(plan_, ShardPlan::Create(config_, parallel, info.rank));
  DS_ASSIGN_OR_RETURN(text_, ReadTextFiles(options_.model, config_));
  if (info.rank != 0) return absl::OkStatus();
  for (const std::string& warning : config_.warnings) LogWarning("{}", warning);
  if (plan_->kv_heads_replicated()) {
    LogInfo("num_key_value_heads is {}: each KV head is held by {} of {} ranks",
            config_.num_key_value_heads,
            info.size * plan_->local().num_kv_heads / config_.num_key_value_heads, info.size);
  }
  return absl::OkStatus();
}

absl::Status Rank::CheckRecording() {
  if (options_.record_plans.empty() && options_.record_ops) {
    return absl::InvalidArgumentError(
        "--record-ops is given without --record-plans; give the file to record to as well");
  }
  if (options_.record_plans.empty() || world_.info().rank != 0) return absl::OkStatus();
  return RecordingFile::Check(options_.record_plans);
}

absl::Status Rank::StartRecording() {
  if (options_.record_plans.empty() || world_.info().rank != 0) return absl::OkStatus();
  DS_ASSIGN_OR_RETURN(auto file, RecordingFile::Create(options_.record_plans));
  const EngineCapacity& capacity = executor_->capacity();
  const RecordingHeader header = {
      .plan_version = PlanVersion(),
      .build_id = GetBuildInfo().build_id,
      .numerics = numerics_fingerprint(),
      .weights_fingerprint = weights_fingerprint_,
      .model = std::filesystem::absolute(options_.model).lexically_normal().string(),
      .load = options_.load,
      .moe = options_.moe,
      .linear_attention = options_.linear_attention,
      .quantize = options_.quantize,
      .ranks = world_.info().size,
      .slots = capacity.slots,
      .kv_memory = options_.kv_memory,
      .kv_blocks = capacity.kv_blocks,
      .max_context = capacity.max_context,
      .token_budget = executor_->token_budget_cap(),
      .num_tokens = capacity.num_tokens,
      .prompt_logits = executor_->options().prompt_logits,
      .ops = op_checksums_ != nullptr};
  DS_ASSIGN_OR_RETURN(recorder_, StepRecorder::Start(std::move(file), header, *executor_, *device_,
                                                     op_checksums_.get()));
  return absl::OkStatus();
}

std::string Rank::numerics_fingerprint() const {
  return absl::StrCat(device_->Name(), "/", GetBuildInfo().build_id);
}

absl::Status Rank::OpenDevice() {
  const RankInfo& info = world_.info();
  const std::vector<std::vector<int>> cores = CoresOfHost(world_);  // before a rank alone can fail
  DS_RETURN_IF_ERROR(options_.CheckDevice());
  if (options_.device == "cuda") return OpenGpu();
  const cpu::ThreadPlan threads =
      cpu::PlanThreads(options_.threads, cores, info.local_rank, cpu::CoreQuota());
  DS_ASSIGN_OR_RETURN(device_, cpu::CreateCpuDevice({.num_threads = threads.num_threads,
                                                     .cores = threads.cores,
                                                     .isa = options_.cpu_isa,
                                                     .quantization = quantization_}));
  num_threads_ = threads.num_threads;
  ChecksumOps();
  const std::string pinned =
      threads.cores.empty() ? "" : " on cores " + cpu::CoreList(threads.cores);
  LogInfo("rank {} of {} on {}: {} with {} threads{}", info.rank, info.size, info.host,
          device_->Name(), threads.num_threads, pinned);
  return absl::OkStatus();
}

absl::Status Rank::OpenGpu() {
  const RankInfo& info = world_.info();
  DS_ASSIGN_OR_RETURN(const cuda::CudaOptions backends,
                      cuda::ReadBackends(options_.backends, options_.device));
  auto opened = cuda::CreateCudaDevice(GpuOrdinal(info, options_.ranks_per_gpu), backends);
  if (!opened.ok()) {
    return absl::Status(opened.status().code(),
                        absl::StrCat("rank ", info.rank, " on ", info.host, ": ",
                                     std::string(opened.status().message())));
  }
  device_ = *std::move(opened);
  stream_ = cuda::StreamOf(*device_);
  ChecksumOps();
  LogInfo("rank {} of {} on {}: {}", info.rank, info.size, info.host, device_->Name());
  return absl::OkStatus();
}

absl::Status Rank::OpenCommunicator() {
  CommunicatorOptions options;
  options.kind = options_.Communicator();
  options.nccl.stream = stream_;
  if (options.kind == CommunicatorKind::kNccl) {
    const auto interfaces = HostInterfaces();
    options.nccl.environment = options_.nccl_environment;
    options.nccl.interface = interfaces.ok() ? NcclInterface(options_.nccl_socket_ifname,
                                                             options_.control_network, *interfaces)
                                             : std::string(interfaces.status().message());
  }
  options.nccl.on_failure = [this](const std::string& cause) { last_words_.Die(kExitNccl, cause); };
  DS_ASSIGN_OR_RETURN(comm_, CreateWorldCommunicator(world_, *device_, options));
  return absl::OkStatus();
}

absl::Status Rank::CheckMemory(const EngineOptions& engine) {
  DS_ASSIGN_OR_RETURN(const MemoryPlan memory, PlanMemory(config_, *plan_, *device_, engine));
  if (!device_->HostAddressable()) {
    const std::optional<int64_t> free = device_->FreeMemory();
    if (!free.has_value()) return absl::OkStatus();
    return deltaserve::CheckMemory(WithoutHostParts(memory), engine,
                                   GpuShare(*free, options_.ranks_per_gpu));
  }
  return deltaserve::CheckMemory(memory, engine, cpu::MostMemory(world_.info().local_size));
}

void Rank::ChecksumOps() {
  if (world_.info().rank != 0 || !(options_.record_ops || options_.checksum_ops)) return;
  op_checksums_ = std::make_unique<OpChecksums>();
  device_ = ChecksumDevice(std::move(device_), *op_checksums_);
}

absl::Status Rank::Load() {
  LoaderOptions loader_options;
  loader_options.num_readers = options_.readers;
  loader_options.device = device_.get();
  if (world_.info().rank == 0) loader_options.progress = &LogProgress;
  std::vector<WeightSpec> table = WeightTable(config_, plan_->options());
  DS_ASSIGN_OR_RETURN(const std::optional<uint64_t> seed, options_.RandomSeed());
  std::unique_ptr<WeightLoader> loader;
  if (seed.has_value()) {
    DS_ASSIGN_OR_RETURN(loader,
                        RandomWeights(*seed, config_, *plan_, std::move(table), loader_options));
  } else {
    DS_ASSIGN_OR_RETURN(
        loader, OpenCheckpoint(options_.model, config_, *plan_, std::move(table), loader_options));
  }
  DS_ASSIGN_OR_RETURN(model_, CreateModel(config_, *plan_, *device_, *loader));
  weights_fingerprint_ = loader->fingerprint();
  if (quantization_ == Quantization::kInt8) weights_fingerprint_ += "+int8";
  LogInfo("weights of this rank: {:.3f} GB", static_cast<double>(model_->weight_bytes()) / 1e9);
  return absl::OkStatus();
}

int Rank::End(const absl::Status& status) {
  if (!status.ok()) {
    last_words_.Die(ExitCodeOf(status), std::string(status.message()));
    return ExitCodeOf(status);
  }
  watchdog_->Idle();
  link_->Close();
  last_words_.SetFarewell({});
  return 0;
}

int Rank::RunEngine(Engine& engine) {
  if (recorder_ != nullptr) engine.AddPlanObserver(recorder_.get());
  return End(engine.Run());
}

int Rank::RunFollower() {
  return End(deltaserve::RunFollower(*executor_, *channel_, *link_, *watchdog_));
}

}  // namespace deltaserve
