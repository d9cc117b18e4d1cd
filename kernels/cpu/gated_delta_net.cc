#include "kernels/cpu/gated_delta_net.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "kernels/cpu/causal_conv.h"
#include "kernels/cpu/delta_rule.h"
#include "kernels/cpu/parallel.h"
#include "kernels/cpu/simd.h"
#include "kernels/random.h"

namespace deltaserve::cpu {
namespace {

constexpr float kL2Eps = 1e-6f;
constexpr float kSoftplusLinearAbove = 20.0f;
constexpr int64_t kAheadRows = 4;  // rows of z and out that are asked of memory before their turn

void CheckShapes(const GatedDeltaNetArgs& args) {
  const int64_t n = args.rows->num_rows;
  const int64_t hv = args.num_value_heads;
  const int64_t dk = args.key_head_dim;
  const int64_t dv = args.value_head_dim;
  const int64_t channels = 2 * args.num_key_heads * dk + hv * dv;
  DS_CHECK(hv % args.num_key_heads == 0) << hv << " value heads, " << args.num_key_heads << " key";
  DS_CHECK_EQ(args.qkv.numel(), n * channels);
  DS_CHECK_EQ(args.conv_weight.dim(0), channels);
  DS_CHECK_EQ(args.conv_state.dim(2), channels);
  DS_CHECK_EQ(args.conv_state.dim(1), args.conv_weight.dim(1) - 1);
  DS_CHECK(args.z.numel() == n * hv * dv && args.out.numel() == n * hv * dv) << args.z.ToString();
  DS_CHECK(args.a.numel() == n * hv && args.b.numel() == n * hv) << args.a.ToString();
  DS_CHECK(args.a_log.numel() == hv && args.dt_bias.numel() == hv) << args.a_log.ToString();
  DS_CHECK(args.conv_weight.dim(1) >= 1 && args.conv_weight.dim(1) <= kMaxConvKernel)
      << "linear_conv_kernel_dim " << args.conv_weight.dim(1);
  DS_CHECK_EQ(args.norm_weight.numel(), dv);
  DS_CHECK(args.recurrent_state.dim(1) == hv && args.recurrent_state.dim(2) == dk &&
           args.recurrent_state.dim(3) == dv)
      << args.recurrent_state.ToString();
}

// x *= factor / sqrt(sum x^2 + 1e-6)
void L2Normalize(float* x, int64_t n, float factor) {
  const F32 scale = Set1(factor / std::sqrt(SumOfSquares(x, n) + kL2Eps));
  for (int64_t i = 0; i < n; i += kLanes) {
    StoreFirst(x + i, Mul(LoadFirst(x + i, n - i), scale), n - i);
  }
}

// log(1 + e^x), x itself above 20 (specification 3.5.5); e = e^x.
float Softplus(float x, float e) {
  if (!(x <= kSoftplusLinearAbove)) return x;
  if (e < 1e-8f) return e;
  return static_cast<float>(PortableLog(1.0 + static_cast<double>(e)));
}

// g and beta of one value head for rows [row, row + rows.count).
void Gates(const GatedDeltaNetArgs& args, int64_t row, int64_t head, DeltaRows& rows) {
  const int64_t hv = args.num_value_heads;
  const float* a = args.a.as<float>() + row * hv + head;
  const float* b = args.b.as<float>() + row * hv + head;
  const float dt_bias = args.dt_bias.as<float>()[head];
  const float rate = -Exp(args.a_log.as<float>()[head]);
  alignas(64) float e[kBlockTokens];
  for (int64_t i = 0; i < rows.count; ++i) {
    rows.log_decay[i] = a[i * hv] + dt_bias;
    rows.beta[i] = b[i * hv];
  }
  for (int64_t i = 0; i < rows.count; i += kLanes) {
    Store(e + i, Exp(Load(rows.log_decay + i)));
    Store(rows.beta + i, Sigmoid(Load(rows.beta + i)));
  }
  for (int64_t i = 0; i < rows.count; ++i) {
    rows.log_decay[i] = rate * Softplus(rows.log_decay[i], e[i]);
  }
}

// Asks memory for n elements.
void Prefetch(const float* x, int64_t n) {
  constexpr int64_t kLine = 64 / static_cast<int64_t>(sizeof(float));
  for (int64_t i = 0; i < n; i += kLine) __builtin_prefetch(x + i);
}

// out = rms_norm(x) * weight * silu(z) of one head of one row.
void GateAndNorm(
    const float* x, const float* weight, const float* z, float eps, int64_t dv, float* out) {
  const float mean = SumOfSquares(x, dv) / static_cast<float>(dv);
  const F32 scale = Set1(1.0f / std::sqrt(mean + eps));
  constexpr int kVectors = kRegisters == 32 ? 4 : 2;
  int64_t c = 0;
  for (; c + kVectors * kLanes <= dv; c += kVectors * kLanes) {
    F32 gate[kVectors];
#pragma GCC unroll 4
    for (int i = 0; i < kVectors; ++i) gate[i] = Load(z + c + i * kLanes);
    SiluEach(gate);
#pragma GCC unroll 4
    for (int i = 0; i < kVectors; ++i) {
      const int64_t at = c + i * kLanes;
      Store(out + at, Mul(Mul(Mul(Load(x + at), scale), Load(weight + at)), gate[i]));
    }
  }
  for (; c < dv; c += kLanes) {
    const int64_t n = dv - c;
    const F32 normed = Mul(Mul(LoadFirst(x + c, n), scale), LoadFirst(weight + c, n));
    StoreFirst(out + c, Mul(normed, Silu(LoadFirst(z + c, n))), n);
  }
}

// A thread's memory.
struct Scratch {
  DeltaRows rows;
  float* chunk;             // of DeltaChunk
  int64_t packed_key_head;  // whose weights of the convolution follow; -1: none
  float* q_weight;          // [kernel, dk]
  float* k_weight;          // [kernel, dk]
  float* v_weight;          // [value heads of a key head, kernel, dv]
};

int64_t ScratchSize(const GatedDeltaNetArgs& args) {
  const int64_t dk = args.key_head_dim;
  const int64_t dv = args.value_head_dim;
  return 2 * kBlockTokens * (dk + PaddedValueDim(dv)) + DeltaChunkScratch(dk) +
         args.conv_weight.dim(1) * (2 * dk + args.num_value_heads / args.num_key_heads * dv);
}

Scratch Carve(const GatedDeltaNetArgs& args, float* memory) {
  const int64_t dk = args.key_head_dim;
  const int64_t dv = args.value_head_dim;
  const int64_t kernel = args.conv_weight.dim(1);
  const auto take = [&](int64_t size) { return std::exchange(memory, memory + size); };
  Scratch s{};
  s.rows.key_dim = dk;
  s.rows.value_dim = dv;
  s.rows.value_stride = PaddedValueDim(dv);
  s.rows.q = take(kBlockTokens * dk);
  s.rows.k = take(kBlockTokens * dk);
  s.rows.v = take(kBlockTokens * s.rows.value_stride);
  s.rows.out = take(kBlockTokens * s.rows.value_stride);
  s.chunk = take(DeltaChunkScratch(dk));
  s.q_weight = take(kernel * dk);
  s.k_weight = take(kernel * dk);
  s.v_weight = take(kernel * dv);
  s.packed_key_head = -1;
  std::fill_n(s.rows.v, kBlockTokens * s.rows.value_stride, 0.0f);
  return s;
}

// One key head of one sequence and the value heads that share it: what a thread does at once, so
// that rows go from the projections to the output through its cache alone.
class HeadTask {
 public:
  HeadTask(const GatedDeltaNetArgs& args, int64_t sequence, int64_t key_head)
      : args_(args),
        key_head_(key_head),
        group_(args.num_value_heads / args.num_key_heads),
        first_row_(args.rows->row_begin.as<int32_t>()[sequence]),
        num_rows_(args.rows->row_begin.as<int32_t>()[sequence + 1] - first_row_),
        decode_(sequence < args.rows->num_decode),
        state_index_(args.rows->state.as<int32_t>()[sequence]) {}

  // `next`: this thread's next task, or this one.
  void Run(const HeadTask& next, Scratch& scratch) const {
    const int64_t dk = args_.key_head_dim;
    PackWeights(scratch);
    const ConvChannels q = Channels(QChannel(), dk, scratch.q_weight);
    const ConvChannels k = Channels(KChannel(), dk, scratch.k_weight);
    const float q_scale = 1.0f / std::sqrt(static_cast<float>(dk));
    for (int64_t begin = 0; begin < num_rows_; begin += kBlockTokens) {
      scratch.rows.count = std::min(kBlockTokens, num_rows_ - begin);
      PrepareKeys(q, begin, scratch.rows.count, q_scale, scratch.rows.q);
      PrepareKeys(k, begin, scratch.rows.count, 1.0f, scratch.rows.k);
      if (!decode_) PrepareDeltaChunk(scratch.rows, scratch.chunk);
      for (int64_t head = first_head(); head < first_head() + group_; ++head) {
        const bool last = head + 1 == first_head() + group_;
        if (last) next.PrefetchConvState();
        RunValueHead(head, begin, last ? next.StateOf(next.first_head()) : StateOf(head + 1),
                     scratch);
      }
    }
    AdvanceConvState(q, num_rows_);
    AdvanceConvState(k, num_rows_);
  }

 private:
  int64_t first_head() const { return key_head_ * group_; }  // of the value heads

  // Channel of the convolution from which on those of q, k or a value head lie.
  int64_t QChannel() const { return key_head_ * args_.key_head_dim; }
  int64_t KChannel() const { return QChannel() + args_.num_key_heads * args_.key_head_dim; }
  int64_t VChannel(int64_t head) const {
    return 2 * args_.num_key_heads * args_.key_head_dim + head * args_.value_head_dim;
  }

  float* ConvState(int64_t channel) const {
    const int64_t rows = args_.conv_weight.dim(1) - 1;
    return args_.conv_state.as<float>() + state_index_ * rows * args_.conv_weight.dim(0) + channel;
  }

  // Asks memory for the states of the convolution.
  void PrefetchConvState() const {
    for (int64_t i = 0; i + 1 < args_.conv_weight.dim(1); ++i) {
      const float* row = ConvState(0) + i * args_.conv_weight.dim(0);
      Prefetch(row + QChannel(), args_.key_head_dim);
      Prefetch(row + KChannel(), args_.key_head_dim);
      Prefetch(row + VChannel(first_head()), group_ * args_.value_head_dim);
    }
  }

  // Lays out the weights of the convolution, where the task before was not of this key head.
  void PackWeights(Scratch& scratch) const {
    if (std::exchange(scratch.packed_key_head, key_head_) == key_head_) return;
    const int64_t kernel = args_.conv_weight.dim(1);
    const int64_t dk = args_.key_head_dim;
    const int64_t dv = args_.value_head_dim;
    const float* weight = args_.conv_weight.as<float>();
    PackConvWeight(weight + QChannel() * kernel, kernel, dk, scratch.q_weight);
    PackConvWeight(weight + KChannel() * kernel, kernel, dk, scratch.k_weight);
    for (int64_t i = 0; i < group_; ++i) {
      PackConvWeight(weight + VChannel(first_head() + i) * kernel, kernel, dv,
                     scratch.v_weight + i * kernel * dv);
    }
  }

  // The convolution of channels [begin, begin + count); weight: PackConvWeight's of them.
  ConvChannels Channels(int64_t begin, int64_t count, const float* weight) const {
    const int64_t total = args_.conv_weight.dim(0);
    return {.count = count,
            .kernel = args_.conv_weight.dim(1),
            .weight = weight,
            .x = args_.qkv.as<float>() + first_row_ * total + begin,
            .state = ConvState(begin),
            .stride = total};
  }

  float* StateOf(int64_t head) const {
    return args_.recurrent_state.as<float>() + (state_index_ * args_.num_value_heads + head) *
                                                   args_.key_head_dim * args_.value_head_dim;
  }

  // q or k of rows [begin, begin + count).
  void PrepareKeys(
      const ConvChannels& channels, int64_t begin, int64_t count, float scale, float* to) const {
    const int64_t dk = args_.key_head_dim;
    CausalConv(channels, begin, count, to, dk);
    for (int64_t i = 0; i < count; ++i) L2Normalize(to + i * dk, dk, scale);
  }

  // The rows from `begin` on whose q and k are in scratch.
  void RunValueHead(int64_t head, int64_t begin, const float* next_state, Scratch& scratch) const {
    const int64_t hv = args_.num_value_heads;
    const int64_t dv = args_.value_head_dim;
    DeltaRows& rows = scratch.rows;
    const int64_t weight = (head - first_head()) * args_.conv_weight.dim(1) * dv;
    const ConvChannels v = Channels(VChannel(head), dv, scratch.v_weight + weight);
    CausalConv(v, begin, rows.count, rows.v, rows.value_stride);
    if (begin + rows.count == num_rows_) AdvanceConvState(v, num_rows_);
    Gates(args_, first_row_ + begin, head, rows);
    if (decode_) {
      DeltaRecurrent(rows, StateOf(head), next_state);
    } else {
      DeltaChunk(rows, scratch.chunk, StateOf(head));
    }
    for (int64_t i = 0; i < rows.count; ++i) {
      const int64_t at = ((first_row_ + begin + i) * hv + head) * dv;
      if (i + kAheadRows < rows.count) {
        Prefetch(args_.z.as<float>() + at + kAheadRows * hv * dv, dv);
        Prefetch(args_.out.as<float>() + at + kAheadRows * hv * dv, dv);
      }
      GateAndNorm(rows.out + i * rows.value_stride, args_.norm_weight.as<float>(),
                  args_.z.as<float>() + at, args_.eps, dv, args_.out.as<float>() + at);
    }
  }

  const GatedDeltaNetArgs& args_;
  const int64_t key_head_;
  const int64_t group_;
  const int64_t first_row_;
  const int64_t num_rows_;
  const bool decode_;
  const int64_t state_index_;
};

}  // namespace

void GatedDeltaNet(const GatedDeltaNetArgs& args, Arena& arena, ThreadPool& pool) {
  CheckShapes(args);
  const int64_t num_rows = args.rows->num_rows;
  if (num_rows == 0) return;
  ArenaScope scope(arena);
  const int64_t per_thread = ScratchSize(args);
  float* memory = arena.Allocate(DType::kF32, {pool.num_threads(), per_thread}).as<float>();
  // Heads outermost: threads get equal shares of decodes and chunks.
  const int64_t sequences = args.rows->num_sequences;
  const int64_t cost = (num_rows / sequences + 1) * args.key_head_dim * args.value_head_dim *
                       (args.num_value_heads / args.num_key_heads);
  ParallelFor(pool, args.num_key_heads * sequences, 1, cost,
              [&](int64_t begin, int64_t end, int thread) {
                Scratch scratch = Carve(args, memory + thread * per_thread);
                for (int64_t i = begin; i < end; ++i) {
                  const int64_t next = std::min(i + 1, end - 1);
                  const HeadTask following(args, next % sequences, next / sequences);
                  HeadTask(args, i % sequences, i / sequences).Run(following, scratch);
                }
              });
}

}  // namespace deltaserve::cpu
