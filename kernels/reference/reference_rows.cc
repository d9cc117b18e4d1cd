// FillNormal, BuildRows, Embed, GatherRows, norms, Linear and SiluMul.

#include <cmath>
#include <utility>

#include "kernels/random_weights.h"
#include "kernels/reference/reference_ops.h"

namespace deltaserve::reference {
namespace {

class ReferenceLinearWeight final : public LinearWeight {
 public:
  explicit ReferenceLinearWeight(Matrix matrix) : matrix_(std::move(matrix)) {}
  int64_t out_features() const override { return matrix_.rows; }
  int64_t in_features() const override { return matrix_.columns; }
  size_t bytes() const override { return matrix_.data.size() * sizeof(double); }
  const Matrix& matrix() const { return matrix_; }

 private:
  Matrix matrix_;
};

double Element(const TensorView& t, int64_t i) {
  if (t.dtype() == DType::kBF16) return static_cast<double>(ToFloat(t.as<BFloat16>()[i]));
  return static_cast<double>(t.as<float>()[i]);
}

}  // namespace

Matrix Matrix::From(
    const void* source, DType dtype, int64_t offset, int64_t rows, int64_t columns) {
  Matrix m{.rows = rows, .columns = columns, .data = {}};
  const TensorView view(const_cast<void*>(source), dtype, {offset + rows * columns});
  for (int64_t i = 0; i < rows * columns; ++i) m.data.push_back(Element(view, offset + i));
  return m;
}

std::vector<double> Matrix::Times(const std::vector<double>& x) const {
  std::vector<double> y;
  for (int64_t r = 0; r < rows; ++r) {
    double sum = 0;
    for (int64_t c = 0; c < columns; ++c) {
      sum += data[static_cast<size_t>(r * columns + c)] * x[static_cast<size_t>(c)];
    }
    y.push_back(sum);
  }
  return y;
}

double Sigmoid(double x) { return 1.0 / (1.0 + std::exp(-x)); }
double Silu(double x) { return x * Sigmoid(x); }

std::vector<double> RmsNormalize(const std::vector<double>& x, const float* weight, double eps) {
  double sum = 0;
  for (const double v : x) sum += v * v;
  const double scale = 1.0 / std::sqrt(sum / static_cast<double>(x.size()) + eps);
  std::vector<double> y;
  for (size_t i = 0; i < x.size(); ++i) y.push_back(x[i] * scale * static_cast<double>(weight[i]));
  return y;
}

std::vector<double> Widen(const float* p, int64_t n) { return std::vector<double>(p, p + n); }

absl::Status ReferenceOps::Supports(const ModelShape& /*shape*/) const { return absl::OkStatus(); }

absl::StatusOr<std::unique_ptr<LinearWeight>> ReferenceOps::PackLinear(Buffer weight,
                                                                       DType dtype,
                                                                       int64_t out_features,
                                                                       int64_t in_features,
                                                                       Precision /*precision*/) {
  return std::make_unique<ReferenceLinearWeight>(
      Matrix::From(weight.data(), dtype, 0, out_features, in_features));
}

void ReferenceOps::FillNormal(const FillNormalArgs& args) {
  const int64_t columns = args.out.dim(1);
  for (int64_t i = 0; i < args.out.numel(); ++i) {
    const int64_t element = args.first + i / columns * args.stride + i % columns;
    const float x = StandardNormal(args.key, static_cast<uint64_t>(element));
    const float value = args.scale * (args.mean + args.deviation * x) + args.offset;
    if (args.out.dtype() == DType::kBF16) {
      args.out.as<BFloat16>()[i] = ToBFloat16(value);
    } else {
      args.out.as<float>()[i] = value;
    }
  }
}

void ReferenceOps::BuildRows(const BuildRowsArgs& args) {
  RowBatch& out = *args.out;
  int32_t row = 0;
  const auto add = [&](int32_t id, int32_t position, int32_t sequence) {
    out.ids.as<int32_t>()[row] = id;
    out.positions.as<int32_t>()[row] = position;
    out.row_sequence.as<int32_t>()[row] = sequence;
    ++row;
  };
  for (int32_t s = 0; s < args.num_decode + args.num_chunks; ++s) {
    const int32_t slot = args.sequence_slot.as<int32_t>()[s];
    out.slot.as<int32_t>()[s] = slot;
    out.state.as<int32_t>()[s] = args.slot_state.as<int32_t>()[slot];
    out.row_begin.as<int32_t>()[s] = row;
    if (s < args.num_decode) {
      add(args.slot_last_token.as<int32_t>()[slot], args.slot_length.as<int32_t>()[slot], s);
    } else {
      const int64_t c = s - args.num_decode;
      const int32_t begin = args.chunk_begin.as<int32_t>()[c];
      const int32_t end = args.chunk_begin.as<int32_t>()[c + 1];
      for (int32_t i = begin; i < end; ++i) {
        add(args.chunk_ids.as<int32_t>()[i], args.chunk_start.as<int32_t>()[c] + i - begin, s);
      }
    }
  }
  out.row_begin.as<int32_t>()[args.num_decode + args.num_chunks] = row;
  for (int64_t i = 0; i < args.new_entry.numel(); ++i) {
    out.block_table.as<int32_t>()[args.new_entry.as<int32_t>()[i]] =
        args.new_block.as<int32_t>()[i];
  }
}

void ReferenceOps::Embed(const EmbedArgs& args) {
  const int64_t hidden = args.table.dim(1);
  for (int64_t r = 0; r < args.ids.numel(); ++r) {
    const int64_t local = args.ids.as<int32_t>()[r] - args.first_row;
    const bool held = local >= 0 && local < args.table.dim(0);
    for (int64_t i = 0; i < hidden; ++i) {
      args.out.as<float>()[r * hidden + i] =
          held ? static_cast<float>(Element(args.table, local * hidden + i)) : 0.0f;
    }
  }
}

void ReferenceOps::GatherRows(const GatherRowsArgs& args) {
  const int64_t width = args.x.dim(1);
  for (int64_t r = 0; r < args.rows.numel(); ++r) {
    for (int64_t i = 0; i < width; ++i) {
      args.out.as<float>()[r * width + i] =
          args.x.as<float>()[args.rows.as<int32_t>()[r] * width + i];
    }
  }
}

void ReferenceOps::RmsNorm(const RmsNormArgs& args) {
  const int64_t width = args.x.dim(1);
  for (int64_t r = 0; r < args.x.dim(0); ++r) {
    const auto y = RmsNormalize(Widen(args.x.as<float>() + r * width, width),
                                args.weight.as<float>(), static_cast<double>(args.eps));
    for (int64_t i = 0; i < width; ++i) {
      args.out.as<float>()[r * width + i] = static_cast<float>(y[static_cast<size_t>(i)]);
    }
  }
}

void ReferenceOps::AddRmsNorm(const AddRmsNormArgs& args) {
  const int64_t count = args.residual.numel();
  const int64_t parts = args.delta.rank() == 3 ? args.delta.dim(0) : 1;
  for (int64_t i = 0; i < count; ++i) {
    float delta = args.delta.as<float>()[i];
    for (int64_t p = 1; p < parts; ++p) delta += args.delta.as<float>()[p * count + i];
    args.residual.as<float>()[i] += delta;
  }
  RmsNorm({.x = args.residual, .weight = args.weight, .eps = args.eps, .out = args.out});
}

void ReferenceOps::Linear(const LinearArgs& args, Arena& /*arena*/) {
  const Matrix& w = static_cast<const ReferenceLinearWeight*>(args.weight)->matrix();
  for (int64_t r = 0; r < args.x.dim(0); ++r) {
    const auto y = w.Times(Widen(args.x.as<float>() + r * w.columns, w.columns));
    for (int64_t n = 0; n < w.rows; ++n) {
      args.out.as<float>()[r * w.rows + n] = static_cast<float>(y[static_cast<size_t>(n)]);
    }
  }
}

void ReferenceOps::SiluMul(const SiluMulArgs& args) {
  const int64_t width = args.out.dim(1);
  for (int64_t r = 0; r < args.out.dim(0); ++r) {
    const float* gate = args.gate_up.as<float>() + r * 2 * width;
    for (int64_t i = 0; i < width; ++i) {
      args.out.as<float>()[r * width + i] = static_cast<float>(
          Silu(static_cast<double>(gate[i])) * static_cast<double>(gate[width + i]));
    }
  }
}

}  // namespace deltaserve::reference
