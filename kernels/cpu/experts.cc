#include "kernels/cpu/experts.h"

#include <algorithm>
#include <utility>

#include "kernels/cpu/packed_weight.h"
#include "kernels/cpu/parallel.h"
#include "kernels/cpu/silu_mul.h"
#include "kernels/cpu/simd.h"

namespace deltaserve::cpu {
namespace {

constexpr int64_t kBlockRows = 48;  // rows of one expert that are packed at once

// Gate, up and down of each expert are packed matrices one after another.
class CpuExpertWeights final : public ExpertWeights {
 public:
  CpuExpertWeights(DType dtype, bool fast_bytes, int64_t num_experts, int64_t hidden, int64_t width)
      : dtype_(dtype),
        fast_bytes_(fast_bytes),
        num_experts_(num_experts),
        hidden_(hidden),
        width_(width),
        in_bytes_(WeightBytes(dtype, width, hidden)),
        down_bytes_(WeightBytes(dtype, hidden, width)),
        in_(Buffer::AllocateHost(static_cast<size_t>(num_experts) * 2 * in_bytes_)),
        down_(Buffer::AllocateHost(static_cast<size_t>(num_experts) * down_bytes_)) {}

  int64_t num_experts() const override { return num_experts_; }
  size_t bytes() const override { return in_.bytes() + down_.bytes(); }
  int64_t hidden() const { return hidden_; }
  int64_t width() const { return width_; }

  PackedMatrix gate(int64_t expert) const { return In(2 * expert); }
  PackedMatrix up(int64_t expert) const { return In(2 * expert + 1); }
  PackedMatrix down(int64_t expert) const {
    return {At(down_, static_cast<size_t>(expert) * down_bytes_), dtype_, hidden_, width_,
            fast_bytes_};
  }

 private:
  PackedMatrix In(int64_t index) const {
    return {At(in_, static_cast<size_t>(index) * in_bytes_), dtype_, width_, hidden_, fast_bytes_};
  }
  static const void* At(const Buffer& buffer, size_t offset) {
    return static_cast<const char*>(buffer.data()) + offset;
  }

  DType dtype_;
  bool fast_bytes_;
  int64_t num_experts_;
  int64_t hidden_;
  int64_t width_;
  size_t in_bytes_;
  size_t down_bytes_;
  Buffer in_;
  Buffer down_;
};

void Pack(const PackedMatrix& to, const void* source, DType stored) {
  PackWeight(source, stored, to.dtype, to.out_features, to.in_features, const_cast<void*>(to.data));
}

// The chosen (row, choice) pairs that are held here, by expert and then by row.
struct Groups {
  const int32_t* begin;  // [num_experts + 1]
  const int32_t* row;    // [pairs]
  const float* weight;   // [pairs]
};

void GroupByExpert(
    const ExpertsArgs& args, int64_t num_experts, int32_t* begin, int32_t* row, float* weight) {
  const int64_t top_k = args.experts.dim(1);
  const int64_t pairs = args.experts.numel();
  const int32_t* experts = args.experts.as<int32_t>();
  const float* weights = args.weights.as<float>();
  const auto local = [&](int64_t pair) { return experts[pair] - args.first_expert; };
  std::fill_n(begin, num_experts + 1, 0);
  for (int64_t i = 0; i < pairs; ++i) {
    const int64_t e = local(i);
    if (e >= 0 && e < num_experts) ++begin[e + 1];
  }
  for (int64_t e = 0; e < num_experts; ++e) begin[e + 1] += begin[e];
  for (int64_t i = 0; i < pairs; ++i) {
    const int64_t e = local(i);
    if (e < 0 || e >= num_experts) continue;
    row[begin[e]] = static_cast<int32_t>(i / top_k);
    weight[begin[e]++] = weights[i];
  }
  // Each begin[e] now is the next expert's.
  for (int64_t e = num_experts; e > 0; --e) begin[e] = begin[e - 1];
  begin[0] = 0;
}

// Scratch of one thread.
struct ThreadScratch {
  float* packed;  // a block of kBlockRows rows
  float* first;   // [kBlockRows, kGroupColumns]
  float* second;  // [kBlockRows, kGroupColumns]

  static int64_t Size(int64_t block) { return block + 2 * kBlockRows * kGroupColumns; }
  static ThreadScratch Carve(float* memory, int64_t block) {
    float* const first = memory + block;
    return {memory, first, first + kBlockRows * kGroupColumns};
  }
};

// Rows of one block as `w` wants them; a single row may stay where it is.
const float* BlockRows(
    const PackedMatrix& w, const float* x, const int32_t* index, int64_t n, float* packed) {
  const int64_t depth = w.in_features;
  if (!NeedsBlock(w, n)) return x + depth * (index == nullptr ? 0 : index[0]);
  FillBlock(w, x, depth, index, n, 0, NumBlockTiles(w, n), packed);
  return packed;
}

// act[i] = silu(gate x) * (up x) for the pairs of all experts, columns of panels [begin, end).
void GateUp(const CpuExpertWeights& w,
            const Groups& groups,
            const float* x,
            int64_t begin,
            int64_t end,
            const ThreadScratch& s,
            float* act) {
  for (int64_t e = 0; e < w.num_experts(); ++e) {
    for (int64_t i = groups.begin[e]; i < groups.begin[e + 1]; i += kBlockRows) {
      const int64_t n = std::min<int64_t>(kBlockRows, groups.begin[e + 1] - i);
      const float* block = BlockRows(w.gate(e), x, groups.row + i, n, s.packed);
      for (int64_t p = begin; p < end; p += kPanelGroup) {
        const int64_t panels = std::min(kPanelGroup, end - p);
        const int64_t columns = std::min(panels * kPanel, w.width() - p * kPanel);
        MultiplyBlock(block, n, w.gate(e), p, panels, s.first, kGroupColumns);
        MultiplyBlock(block, n, w.up(e), p, panels, s.second, kGroupColumns);
        for (int64_t r = 0; r < n; ++r) {
          SiluMulRow(s.first + r * kGroupColumns, s.second + r * kGroupColumns, columns,
                     act + (i + r) * w.width() + p * kPanel);
        }
      }
    }
  }
}

// out[row] += weight * (down act) for the pairs of all experts, columns of panels [begin, end).
void Down(const CpuExpertWeights& w,
          const Groups& groups,
          const float* act,
          int64_t begin,
          int64_t end,
          const ThreadScratch& s,
          float* out) {
  for (int64_t e = 0; e < w.num_experts(); ++e) {
    for (int64_t i = groups.begin[e]; i < groups.begin[e + 1]; i += kBlockRows) {
      const int64_t n = std::min<int64_t>(kBlockRows, groups.begin[e + 1] - i);
      const float* block = BlockRows(w.down(e), act + i * w.width(), nullptr, n, s.packed);
      for (int64_t p = begin; p < end; p += kPanelGroup) {
        const int64_t panels = std::min(kPanelGroup, end - p);
        const int64_t columns = std::min(panels * kPanel, w.hidden() - p * kPanel);
        MultiplyBlock(block, n, w.down(e), p, panels, s.first, kGroupColumns);
        for (int64_t r = 0; r < n; ++r) {
          float* to = out + groups.row[i + r] * w.hidden() + p * kPanel;
          const float* from = s.first + r * kGroupColumns;
          const F32 weight = Set1(groups.weight[i + r]);
          for (int64_t c = 0; c < columns; c += kLanes) {
            const int64_t left = columns - c;
            StoreFirst(to + c, Fma(weight, LoadFirst(from + c, left), LoadFirst(to + c, left)),
                       left);
          }
        }
      }
    }
  }
}

// out[r][c] += shared[r][c] * sigmoid(shared_gate[r]) for columns [begin, end).
void AddShared(const ExpertsArgs& args, int64_t begin, int64_t end, float* out) {
  if (args.shared.data() == nullptr) return;
  const int64_t hidden = args.out.dim(1);
  for (int64_t r = 0; r < args.out.dim(0); ++r) {
    const float gate = Sigmoid(args.shared_gate.as<float>()[r]);
    const float* shared = args.shared.as<float>() + r * hidden;
    for (int64_t c = begin; c < end; ++c) out[r * hidden + c] += shared[c] * gate;
  }
}

}  // namespace

std::unique_ptr<ExpertWeights> PackExperts(Buffer gate_up,
                                           Buffer down,
                                           DType dtype,
                                           int64_t num_experts,
                                           int64_t hidden,
                                           int64_t width,
                                           const WeightFormat& format,
                                           ThreadPool& pool) {
  const size_t matrix = static_cast<size_t>(hidden * width) * DTypeSize(dtype);
  DS_CHECK_GE(gate_up.bytes(), static_cast<size_t>(num_experts) * 2 * matrix);
  DS_CHECK_GE(down.bytes(), static_cast<size_t>(num_experts) * matrix);
  auto packed = std::make_unique<CpuExpertWeights>(format.Packed(dtype, Precision::kMayQuantize),
                                                   format.fast_bytes, num_experts, hidden, width);
  ParallelFor(pool, num_experts, 1, 3 * hidden * width, [&](int64_t begin, int64_t end, int) {
    for (int64_t e = begin; e < end; ++e) {
      const char* in =
          static_cast<const char*>(gate_up.data()) + static_cast<size_t>(e) * 2 * matrix;
      Pack(packed->gate(e), in, dtype);
      Pack(packed->up(e), in + matrix, dtype);
      Pack(packed->down(e), static_cast<const char*>(down.data()) + static_cast<size_t>(e) * matrix,
           dtype);
    }
  });
  return packed;
}

void Experts(const ExpertsArgs& args, Arena& arena, ThreadPool& pool) {
  const auto& w = *static_cast<const CpuExpertWeights*>(args.expert_weights);
  const int64_t rows = args.x.dim(0);
  const int64_t pairs = args.experts.numel();
  DS_CHECK(args.x.dim(1) == w.hidden() && args.out.numel() == rows * w.hidden() &&
           args.experts.dim(0) == rows && args.weights.numel() == pairs)
      << args.x.ToString() << ", " << args.experts.ToString() << " to " << args.out.ToString();
  if (rows == 0) return;
  ArenaScope scope(arena);
  int32_t* begin = arena.Allocate(DType::kI32, {w.num_experts() + 1}).as<int32_t>();
  int32_t* row = arena.Allocate(DType::kI32, {pairs}).as<int32_t>();
  float* weight = arena.Allocate(DType::kF32, {pairs}).as<float>();
  float* act = arena.Allocate(DType::kF32, {pairs, w.width()}).as<float>();
  const int64_t block =
      std::max(BlockFloats(w.gate(0), kBlockRows), BlockFloats(w.down(0), kBlockRows));
  const int64_t per_thread = ThreadScratch::Size(block);
  float* memory = arena.Allocate(DType::kF32, {pool.num_threads(), per_thread}).as<float>();

  GroupByExpert(args, w.num_experts(), begin, row, weight);
  const Groups groups{begin, row, weight};
  const float* x = args.x.as<float>();
  float* out = args.out.as<float>();
  const auto panels = [](int64_t n) { return (n + kPanel - 1) / kPanel; };
  const int64_t cost = (pairs + 1) * kPanel / kLanes;
  ParallelFor(pool, panels(w.width()), kPanelGroup, 2 * cost * w.hidden(),
              [&](int64_t first, int64_t last, int thread) {
                GateUp(w, groups, x, first, last,
                       ThreadScratch::Carve(memory + thread * per_thread, block), act);
              });
  ParallelFor(pool, panels(w.hidden()), kPanelGroup, cost * w.width(),
              [&](int64_t first, int64_t last, int thread) {
                const int64_t column = first * kPanel;
                const int64_t column_end = std::min(last * kPanel, w.hidden());
                for (int64_t r = 0; r < rows; ++r) {
                  std::fill(out + r * w.hidden() + column, out + r * w.hidden() + column_end, 0.0f);
                }
                Down(w, groups, act, first, last,
                     ThreadScratch::Carve(memory + thread * per_thread, block), out);
                AddShared(args, column, column_end, out);
              });
}

}  // namespace deltaserve::cpu
