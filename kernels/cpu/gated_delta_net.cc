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

// out = rms_norm(x) * weight * silu(z) of one head of one row.
void GateAndNorm(
    const float* x, const float* weight, const float* z, float eps, int64_t dv, float* out) {
  const float mean = SumOfSquares(x, dv) / static_cast<float>(dv);
  const F32 scale = Set1(1.0f / std::sqrt(mean + eps));
  for (int64_t c = 0; c < dv; c += kLanes) {
    const int64_t n = dv - c;
    const F32 normed = Mul(Mul(LoadFirst(x + c, n), scale), LoadFirst(weight + c, n));
    StoreFirst(out + c, Mul(normed, Silu(LoadFirst(z + c, n))), n);
  }
}

// A thread's memory.
struct Scratch {
  DeltaRows rows;
  float* chunk;         // of DeltaChunk
  float* q_weight;      // [kernel, dk], of the convolution
  float* k_weight;      // [kernel, dk]
  float* value_weight;  // [kernel, dv]
};

int64_t ScratchSize(const GatedDeltaNetArgs& args) {
  const int64_t dk = args.key_head_dim;
  const int64_t dv = args.value_head_dim;
  return 2 * kBlockTokens * (dk + PaddedValueDim(dv)) + DeltaChunkScratch(dk) +
         args.conv_weight.dim(1) * (2 * dk + dv);
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
  s.value_weight = take(kernel * dv);
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
        if (last) next.Prefetch();
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
  void Prefetch() const {
    constexpr int64_t kLine = 64 / static_cast<int64_t>(sizeof(float));
    const auto prefetch = [&](const float* state, int64_t count) {
      for (int64_t i = 0; i + 1 < args_.conv_weight.dim(1); ++i) {
        const float* row = state + i * args_.conv_weight.dim(0);
        for (int64_t c = 0; c < count; c += kLine) __builtin_prefetch(row + c);
      }
    };
    prefetch(ConvState(QChannel()), args_.key_head_dim);
    prefetch(ConvState(KChannel()), args_.key_head_dim);
    prefetch(ConvState(VChannel(first_head())), group_ * args_.value_head_dim);
  }

  // The convolution of channels [begin, begin + count), with its weights laid out at `weight`.
  ConvChannels Channels(int64_t begin, int64_t count, float* weight) const {
    const int64_t total = args_.conv_weight.dim(0);
    const int64_t kernel = args_.conv_weight.dim(1);
    PackConvWeight(args_.conv_weight.as<float>() + begin * kernel, kernel, count, weight);
    return {.count = count,
            .kernel = kernel,
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
    const ConvChannels v = Channels(VChannel(head), dv, scratch.value_weight);
    CausalConv(v, begin, rows.count, rows.v, rows.value_stride);
    if (begin + rows.count == num_rows_) AdvanceConvState(v, num_rows_);
    Gates(args_, first_row_ + begin, head, rows);
    if (decode_) {
      DeltaRecurrent(rows, StateOf(head), next_state);
    } else {
      DeltaChunk(rows, scratch.chunk, StateOf(head));
    }
    const int64_t at = ((first_row_ + begin) * hv + head) * dv;
    for (int64_t i = 0; i < rows.count; ++i) {
      GateAndNorm(rows.out + i * rows.value_stride, args_.norm_weight.as<float>(),
                  args_.z.as<float>() + at + i * hv * dv, args_.eps, dv,
                  args_.out.as<float>() + at + i * hv * dv);
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
                  HeadTask(args, i % sequences, i / sequences)
                      .Run(following, scratch);
                }
              });
}

}  // namespace deltaserve::cpu
