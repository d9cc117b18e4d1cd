#pragma once

// A device that does nothing, ops included, until somebody waits for it, and then no more than was
// waited for: what a step launched ahead of it reads from the host must stay, and what it gives
// must not be looked at too soon. And the fake model on it.

#include <cstdlib>
#include <deque>
#include <functional>
#include <memory>
#include <string>
#include <utility>

#include "absl/status/statusor.h"
#include "kernels/device.h"
#include "kernels/forwarding_ops.h"
#include "tests/worker/engine/fake_model.h"
#include "worker/layers/layer.h"
#include "worker/models/model.h"

namespace deltaserve {

// Engine thread. Owner: the device below and the memory it gave.
class LateQueue {
 public:
  void Add(std::function<void()> work) {
    work_.push_back(std::move(work));
    ++added_;
  }
  uint64_t added() const { return added_; }
  void RunTo(uint64_t point) {
    for (; done_ < point; ++done_) {
      work_.front()();
      work_.pop_front();
    }
  }
  void RunAll() { RunTo(added_); }

 private:
  std::deque<std::function<void()>> work_;
  uint64_t added_ = 0;
  uint64_t done_ = 0;
};

// The ops of a step of the fake model.
class LateOps final : public ForwardingOps {
 public:
  LateOps(Ops& ops, LateQueue& queue) : ForwardingOps(ops), queue_(queue) {}

  void BuildRows(const BuildRowsArgs& args) override {
    queue_.Add([this, late = args, out = *args.out]() mutable {
      late.out = &out;
      ops().BuildRows(late);
    });
  }
  void GatherRows(const GatherRowsArgs& args) override {
    queue_.Add([this, args] { ops().GatherRows(args); });
  }
  void SampleLocal(const SampleLocalArgs& args) override {
    queue_.Add([this, late = args, params = *args.params]() mutable {
      late.params = &params;
      ops().SampleLocal(late);
    });
  }
  void Sample(const SampleArgs& args, Arena& /*arena*/) override {
    queue_.Add([this, late = args, params = *args.params]() mutable {
      late.params = &params;
      ops().Sample(late, arena_);
    });
  }
  void Penalize(const PenalizeArgs& args) override {
    queue_.Add([this, args] { ops().Penalize(args); });
  }
  void MaskLogits(const MaskLogitsArgs& args) override {
    queue_.Add([this, args] { ops().MaskLogits(args); });
  }
  void LogProbs(const LogProbsArgs& args, Arena& /*arena*/) override {
    queue_.Add([this, args] { ops().LogProbs(args, arena_); });
  }
  void StoreSampled(const StoreSampledArgs& args) override {
    queue_.Add([this, args] { ops().StoreSampled(args); });
  }

 private:
  LateQueue& queue_;
  Arena arena_;
};

class LateDevice final : public Device {
 public:
  // `device`: host-addressable; does the work.
  explicit LateDevice(std::unique_ptr<Device> device)
      : device_(std::move(device)), ops_(device_->ops(), *queue_) {}

  LateQueue& queue() { return *queue_; }

  std::string Name() const override { return "late"; }
  bool HostAddressable() const override { return false; }
  const Numerics& numerics() const override { return device_->numerics(); }
  absl::StatusOr<Buffer> Allocate(size_t bytes, MemoryKind kind) override {
    const auto free = [queue = queue_](void* memory) {
      queue->RunAll();
      std::free(memory);
    };
    return Buffer(std::malloc(bytes + 1), bytes, free, kind == MemoryKind::kHost);
  }
  void CopyToDevice(TensorView dst, const void* src) override {
    queue_->Add([this, dst, src] { device_->CopyToDevice(dst, src); });
  }
  void CopyToHost(void* dst, TensorView src) override {
    queue_->Add([this, dst, src] { device_->CopyToHost(dst, src); });
  }
  void Copy(TensorView dst, TensorView src) override {
    queue_->Add([this, dst, src] { device_->Copy(dst, src); });
  }
  void Zero(TensorView dst) override {
    queue_->Add([this, dst] { device_->Zero(dst); });
  }
  absl::Status Synchronize() override {
    queue_->RunAll();
    return device_->Synchronize();
  }
  uint64_t Mark() override { return queue_->added(); }
  absl::Status Await(uint64_t point) override {
    queue_->RunTo(point);
    return device_->Synchronize();
  }
  Ops& ops() override { return ops_; }

 private:
  const std::unique_ptr<Device> device_;
  const std::shared_ptr<LateQueue> queue_ = std::make_shared<LateQueue>();
  LateOps ops_;
};

class LateModel final : public Model {
 public:
  LateModel(std::unique_ptr<Model> model, LateQueue& queue)
      : model_(std::move(model)), queue_(queue) {}

  const ModelConfig& config() const override { return model_->config(); }
  const ShardPlan& plan() const override { return model_->plan(); }
  KvCacheShape kv_shape(int64_t num_blocks) const override { return model_->kv_shape(num_blocks); }
  RecurrentStateShape state_shape(int64_t num_states) const override {
    return model_->state_shape(num_states);
  }
  size_t weight_bytes() const override { return model_->weight_bytes(); }
  void Forward(const ForwardBatch& batch, ExecContext& context, TensorView logits) override {
    queue_.Add([this, batch, logits, device = &context.device, comm = &context.comm,
                kv = &context.kv, state = &context.state, exchange = context.exchange] {
      const ArenaScope scope(arena_);
      ExecContext late{.device = *device,
                       .comm = *comm,
                       .kv = *kv,
                       .state = *state,
                       .arena = arena_,
                       .exchange = exchange};
      model_->Forward(batch, late, logits);
    });
  }

 private:
  const std::unique_ptr<Model> model_;
  LateQueue& queue_;
  Arena arena_;
};

}  // namespace deltaserve
