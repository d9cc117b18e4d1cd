// Gated DeltaNet, token by token (specification 3.5.2 to 3.5.8).

#include <cmath>

#include "kernels/reference/reference_ops.h"

namespace deltaserve::reference {
namespace {

using Vector = std::vector<double>;

// SiLU of the convolution at one row; then the row becomes the newest of the conv state.
Vector ConvRow(const GatedDeltaNetArgs& args, const float* x, float* state) {
  const int64_t channels = args.conv_weight.dim(0);
  const int64_t kernel = args.conv_weight.dim(1);
  Vector y;
  for (int64_t c = 0; c < channels; ++c) {
    double sum = 0;
    for (int64_t j = 0; j < kernel; ++j) {
      const float input = j == kernel - 1 ? x[c] : state[j * channels + c];
      sum += static_cast<double>(args.conv_weight.as<float>()[c * kernel + j]) *
             static_cast<double>(input);
    }
    y.push_back(Silu(sum));
  }
  for (int64_t c = 0; c < channels; ++c) {
    for (int64_t j = 0; j + 1 < kernel; ++j) {
      state[j * channels + c] = j + 2 < kernel ? state[(j + 1) * channels + c] : x[c];
    }
  }
  return y;
}

Vector L2Normalized(const Vector& y, int64_t begin, int64_t n, double factor) {
  Vector x(y.begin() + begin, y.begin() + begin + n);
  double sum = 0;
  for (const double v : x) sum += v * v;
  for (double& v : x) v *= factor / std::sqrt(sum + 1e-6);
  return x;
}

double Softplus(double x) { return x > 20 ? x : std::log1p(std::exp(x)); }

// One token of one value head; s: [dk][dv].
Vector Recurrent(const Vector& q,
                 const Vector& k,
                 const double* v,
                 int64_t dv,
                 double g,
                 double beta,
                 Vector& s) {
  const int64_t dk = static_cast<int64_t>(k.size());
  for (double& x : s) x *= std::exp(g);
  Vector out;
  for (int64_t n = 0; n < dv; ++n) {
    double read = 0;
    for (int64_t i = 0; i < dk; ++i) {
      read += s[static_cast<size_t>(i * dv + n)] * k[static_cast<size_t>(i)];
    }
    const double delta = beta * (v[n] - read);
    double o = 0;
    for (int64_t i = 0; i < dk; ++i) {
      double& x = s[static_cast<size_t>(i * dv + n)];
      x += k[static_cast<size_t>(i)] * delta;
      o += x * q[static_cast<size_t>(i)];
    }
    out.push_back(o);
  }
  return out;
}

// All value heads of one row, whose convolved channels are y; states: a [dk][dv] matrix a head.
void DeltaRow(const GatedDeltaNetArgs& args,
              int64_t row,
              const Vector& y,
              std::vector<Vector>& states) {
  const int64_t hk = args.num_key_heads;
  const int64_t hv = args.num_value_heads;
  const int64_t dk = args.key_head_dim;
  const int64_t dv = args.value_head_dim;
  for (int64_t h = 0; h < hv; ++h) {
    const int64_t key_head = h / (hv / hk);
    const auto at = [&](const TensorView& t, int64_t i) {
      return static_cast<double>(t.as<float>()[i]);
    };
    const Vector q = L2Normalized(y, key_head * dk, dk, 1.0 / std::sqrt(static_cast<double>(dk)));
    const Vector k = L2Normalized(y, (hk + key_head) * dk, dk, 1.0);
    const double beta = Sigmoid(at(args.b, row * hv + h));
    const double g =
        -std::exp(at(args.a_log, h)) * Softplus(at(args.a, row * hv + h) + at(args.dt_bias, h));
    const Vector o = Recurrent(q, k, y.data() + 2 * hk * dk + h * dv, dv, g, beta,
                               states[static_cast<size_t>(h)]);
    const Vector n = RmsNormalize(o, args.norm_weight.as<float>(), static_cast<double>(args.eps));
    for (int64_t i = 0; i < dv; ++i) {
      const int64_t index = (row * hv + h) * dv + i;
      args.out.as<float>()[index] =
          static_cast<float>(n[static_cast<size_t>(i)] * Silu(at(args.z, index)));
    }
  }
}

}  // namespace

void ReferenceOps::GatedDeltaNet(const GatedDeltaNetArgs& args, Arena& /*arena*/) {
  const RowBatch& rows = *args.rows;
  const int64_t channels = args.conv_weight.dim(0);
  const int64_t hv = args.num_value_heads;
  const int64_t matrix = args.key_head_dim * args.value_head_dim;
  for (int64_t s = 0; s < rows.num_sequences; ++s) {
    const int64_t index = rows.state.as<int32_t>()[s];
    float* conv = args.conv_state.as<float>() + index * args.conv_state.dim(1) * channels;
    float* recurrent = args.recurrent_state.as<float>() + index * hv * matrix;
    std::vector<Vector> states;
    for (int64_t h = 0; h < hv; ++h) states.push_back(Widen(recurrent + h * matrix, matrix));
    const int64_t end = rows.row_begin.as<int32_t>()[s + 1];
    for (int64_t r = rows.row_begin.as<int32_t>()[s]; r < end; ++r) {
      DeltaRow(args, r, ConvRow(args, args.qkv.as<float>() + r * channels, conv), states);
    }
    for (int64_t i = 0; i < hv * matrix; ++i) {
      recurrent[i] = static_cast<float>(
          states[static_cast<size_t>(i / matrix)][static_cast<size_t>(i % matrix)]);
    }
  }
}

}  // namespace deltaserve::reference
