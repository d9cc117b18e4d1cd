// What lies between the matrix products of a layer, forward and backward, each in one pass: the CPU
// path of fused.py, which compiles this file and calls it by name. Plain C functions on f32 rows,
// one thread. Formulas and shapes are those of delta.py and model.py.

#include <cmath>
#include <cstdint>
#include <cstring>
#include <vector>

namespace {

constexpr int kTaps = 4;

inline float Sigmoid(float x) { return 1.0f / (1.0f + expf(-x)); }

// The convolution at token t of one sequence: sum over taps of conv[tap][c] * rows[t - 3 + tap][c].
void Convolve(
    const float* rows, int64_t stride, const float* conv, int64_t t, int64_t width, float* out) {
  const float* last = rows + t * stride;
  for (int64_t c = 0; c < width; ++c) out[c] = conv[(kTaps - 1) * width + c] * last[c];
  for (int64_t back = 1; back < kTaps && back <= t; ++back) {
    const float* row = last - back * stride;
    const float* taps = conv + (kTaps - 1 - back) * width;
    for (int64_t c = 0; c < width; ++c) out[c] += taps[c] * row[c];
  }
}

float Dot(const float* a, const float* b, int64_t n) {
  float sum = 0;
  for (int64_t i = 0; i < n; ++i) sum += a[i] * b[i];
  return sum;
}

// [width, 4] -> [4, width]
std::vector<float> Transposed(const float* conv, int64_t width) {
  std::vector<float> taps(kTaps * width);
  for (int64_t c = 0; c < width; ++c) {
    for (int j = 0; j < kTaps; ++j) taps[j * width + c] = conv[c * kTaps + j];
  }
  return taps;
}

// What q, k or v of one head is multiplied with, from its 128 values after SiLU.
float UnitScale(int part, const float* values, int64_t dim) {
  if (part == 2) return 1.0f;
  const float unit = 1.0f / std::sqrt(Dot(values, values, dim) + 1e-6f);
  return part == 0 ? unit / std::sqrt(static_cast<float>(dim)) : unit;
}

}  // namespace

extern "C" {

// proj [batch * length, stride], of which the first 3 heads dim columns are q, k, v before the
// convolution, and the next heads dim are z; conv [3 heads dim, 4]. qkv [3, batch, heads, length,
// dim], z [batch * length, heads dim].
void PrepareForward(const float* proj,
                    const float* conv,
                    int64_t batch,
                    int64_t length,
                    int64_t heads,
                    int64_t dim,
                    int64_t stride,
                    float* qkv,
                    float* z) {
  const int64_t width = 3 * heads * dim, inner = heads * dim;
  const std::vector<float> taps = Transposed(conv, width);
  std::vector<float> u(width);
  for (int64_t b = 0; b < batch; ++b) {
    const float* rows = proj + b * length * stride;
    for (int64_t t = 0; t < length; ++t) {
      Convolve(rows, stride, taps.data(), t, width, u.data());
      for (int64_t c = 0; c < width; ++c) u[c] *= Sigmoid(u[c]);
      for (int64_t part = 0; part < 3; ++part) {
        for (int64_t h = 0; h < heads; ++h) {
          const float* values = u.data() + part * inner + h * dim;
          const float scale = UnitScale(static_cast<int>(part), values, dim);
          float* out = qkv + (((part * batch + b) * heads + h) * length + t) * dim;
          for (int64_t i = 0; i < dim; ++i) out[i] = values[i] * scale;
        }
      }
      std::memcpy(z + (b * length + t) * inner, rows + t * stride + width, inner * sizeof(float));
    }
  }
}

// d_q, d_k, d_v [batch, heads, length, dim], d_z as z -> the first 4 heads dim columns of d_proj,
// and d_conv [3 heads dim, 4] (added to).
void PrepareBackward(const float* proj,
                     const float* conv,
                     const float* d_q,
                     const float* d_k,
                     const float* d_v,
                     const float* d_z,
                     int64_t batch,
                     int64_t length,
                     int64_t heads,
                     int64_t dim,
                     int64_t stride,
                     float* d_proj,
                     float* d_conv) {
  const int64_t width = 3 * heads * dim, inner = heads * dim;
  const std::vector<float> taps = Transposed(conv, width);
  const float* d_parts[] = {d_q, d_k, d_v};
  std::vector<float> u(width), y(width), s(width), d_u(length * width), d_taps(kTaps * width, 0.0f);
  for (int64_t b = 0; b < batch; ++b) {
    const float* rows = proj + b * length * stride;
    float* d_rows = d_proj + b * length * stride;
    for (int64_t t = 0; t < length; ++t) {
      Convolve(rows, stride, taps.data(), t, width, u.data());
      for (int64_t c = 0; c < width; ++c) {
        s[c] = Sigmoid(u[c]);
        y[c] = u[c] * s[c];
      }
      float* d_now = d_u.data() + t * width;
      for (int64_t part = 0; part < 3; ++part) {
        for (int64_t h = 0; h < heads; ++h) {
          const int64_t at = part * inner + h * dim;
          const float* values = y.data() + at;
          const float* d_out = d_parts[part] + ((b * heads + h) * length + t) * dim;
          const float scale = UnitScale(static_cast<int>(part), values, dim);
          float along = 0;  // of y, of what the unit length takes away
          if (part < 2) {
            const float unit = UnitScale(1, values, dim);
            along = unit * unit * Dot(values, d_out, dim);
          }
          for (int64_t i = 0; i < dim; ++i) {
            const float gate = s[at + i];
            const float d_y = scale * (d_out[i] - along * values[i]);
            d_now[at + i] = d_y * (gate + values[i] * (1.0f - gate));
          }
        }
      }
      for (int64_t back = 0; back < kTaps && back <= t; ++back) {
        const float* row = rows + (t - back) * stride;
        float* d_tap = d_taps.data() + (kTaps - 1 - back) * width;
        for (int64_t c = 0; c < width; ++c) d_tap[c] += d_now[c] * row[c];
      }
      std::memcpy(d_rows + t * stride + width, d_z + (b * length + t) * inner,
                  inner * sizeof(float));
    }
    for (int64_t t = 0; t < length; ++t) {
      float* d_row = d_rows + t * stride;
      const float* d_now = d_u.data() + t * width;
      const float* tap = taps.data() + (kTaps - 1) * width;
      for (int64_t c = 0; c < width; ++c) d_row[c] = tap[c] * d_now[c];
      for (int64_t ahead = 1; ahead < kTaps && t + ahead < length; ++ahead) {
        const float* d_later = d_now + ahead * width;
        const float* later_tap = tap - ahead * width;
        for (int64_t c = 0; c < width; ++c) d_row[c] += later_tap[c] * d_later[c];
      }
    }
  }
  for (int64_t c = 0; c < width; ++c) {
    for (int j = 0; j < kTaps; ++j) d_conv[c * kTaps + j] += d_taps[j * width + c];
  }
}

// x [batch, heads, length, dim], z [batch, length, heads dim], weight [dim] -> out as z.
void GatedNormForward(const float* x,
                      const float* z,
                      const float* weight,
                      float eps,
                      int64_t batch,
                      int64_t heads,
                      int64_t length,
                      int64_t dim,
                      float* out) {
  for (int64_t row = 0; row < batch * heads * length; ++row) {
    const int64_t b = row / (heads * length), h = row / length % heads, t = row % length;
    const float* in = x + row * dim;
    const int64_t at = ((b * length + t) * heads + h) * dim;
    const float unit = 1.0f / std::sqrt(Dot(in, in, dim) / static_cast<float>(dim) + eps);
    for (int64_t i = 0; i < dim; ++i) {
      out[at + i] = in[i] * unit * weight[i] * z[at + i] * Sigmoid(z[at + i]);
    }
  }
}

// d_out as z -> d_x as x, d_z as z, d_weight [dim] (added to).
void GatedNormBackward(const float* x,
                       const float* z,
                       const float* weight,
                       const float* d_out,
                       float eps,
                       int64_t batch,
                       int64_t heads,
                       int64_t length,
                       int64_t dim,
                       float* d_x,
                       float* d_z,
                       float* d_weight) {
  std::vector<float> d_unit(dim);
  for (int64_t row = 0; row < batch * heads * length; ++row) {
    const int64_t b = row / (heads * length), h = row / length % heads, t = row % length;
    const float* in = x + row * dim;
    float* d_in = d_x + row * dim;
    const int64_t at = ((b * length + t) * heads + h) * dim;
    const float* gate = z + at;
    const float* d_row = d_out + at;
    const float unit = 1.0f / std::sqrt(Dot(in, in, dim) / static_cast<float>(dim) + eps);
    for (int64_t i = 0; i < dim; ++i) {
      const float s = Sigmoid(gate[i]);
      const float swish = gate[i] * s;
      const float normed = in[i] * unit;
      d_z[at + i] = d_row[i] * normed * weight[i] * (s + swish * (1.0f - s));
      d_weight[i] += d_row[i] * normed * swish;
      d_unit[i] = d_row[i] * weight[i] * swish;
    }
    const float along = Dot(d_unit.data(), in, dim) * unit * unit / static_cast<float>(dim);
    for (int64_t i = 0; i < dim; ++i) d_in[i] = unit * (d_unit[i] - along * in[i]);
  }
}

// x [rows, stride], of which the first dim columns count, weight [dim] -> out [rows, dim]; the
// weight is 1 + weight.
void RmsNormForward(const float* x,
                    const float* weight,
                    float eps,
                    int64_t rows,
                    int64_t stride,
                    int64_t dim,
                    float* out) {
  for (int64_t row = 0; row < rows; ++row) {
    const float* in = x + row * stride;
    const float unit = 1.0f / std::sqrt(Dot(in, in, dim) / static_cast<float>(dim) + eps);
    for (int64_t i = 0; i < dim; ++i) out[row * dim + i] = in[i] * unit * (1.0f + weight[i]);
  }
}

// d_out [rows, dim] -> d_x [rows, dim], d_weight [dim] (added to).
void RmsNormBackward(const float* x,
                     const float* weight,
                     const float* d_out,
                     float eps,
                     int64_t rows,
                     int64_t stride,
                     int64_t dim,
                     float* d_x,
                     float* d_weight) {
  std::vector<float> d_unit(dim);
  for (int64_t row = 0; row < rows; ++row) {
    const float* in = x + row * stride;
    const float* d_row = d_out + row * dim;
    const float unit = 1.0f / std::sqrt(Dot(in, in, dim) / static_cast<float>(dim) + eps);
    for (int64_t i = 0; i < dim; ++i) {
      d_weight[i] += d_row[i] * in[i] * unit;
      d_unit[i] = d_row[i] * (1.0f + weight[i]);
    }
    const float along = Dot(d_unit.data(), in, dim) * unit * unit / static_cast<float>(dim);
    for (int64_t i = 0; i < dim; ++i) d_x[row * dim + i] = unit * (d_unit[i] - along * in[i]);
  }
}

// hidden [rows, 2 width]: gate, then up -> out [rows, width] = silu(gate) * up.
void SwigluForward(const float* hidden, int64_t rows, int64_t width, float* out) {
  for (int64_t row = 0; row < rows; ++row) {
    const float* gate = hidden + row * 2 * width;
    for (int64_t i = 0; i < width; ++i)
      out[row * width + i] = gate[i] * Sigmoid(gate[i]) * gate[width + i];
  }
}

void SwigluBackward(
    const float* hidden, const float* d_out, int64_t rows, int64_t width, float* d_hidden) {
  for (int64_t row = 0; row < rows; ++row) {
    const float* gate = hidden + row * 2 * width;
    const float* d_row = d_out + row * width;
    float* d_gate = d_hidden + row * 2 * width;
    for (int64_t i = 0; i < width; ++i) {
      const float s = Sigmoid(gate[i]);
      const float swish = gate[i] * s;
      d_gate[i] = d_row[i] * gate[width + i] * (s + swish * (1.0f - s));
      d_gate[width + i] = d_row[i] * swish;
    }
  }
}

// Norm and rotation of heads: x [batch * length, heads] rows of which head h begins at row * stride
// + h * head_stride; cos, sin [length, half]; weight [dim], used as 1 + weight -> out [batch,
// heads, length, dim].
void NormRotateForward(const float* x,
                       const float* weight,
                       const float* cos,
                       const float* sin,
                       float eps,
                       int64_t batch,
                       int64_t length,
                       int64_t heads,
                       int64_t dim,
                       int64_t half,
                       int64_t stride,
                       int64_t head_stride,
                       float* out) {
  for (int64_t row = 0; row < batch * heads * length; ++row) {
    const int64_t b = row / (heads * length), h = row / length % heads, t = row % length;
    const float* in = x + (b * length + t) * stride + h * head_stride;
    float* to = out + row * dim;
    const float unit = 1.0f / std::sqrt(Dot(in, in, dim) / static_cast<float>(dim) + eps);
    for (int64_t i = 0; i < dim; ++i) to[i] = in[i] * unit * (1.0f + weight[i]);
    for (int64_t i = 0; i < half; ++i) {
      const float c = cos[t * half + i], s = sin[t * half + i], first = to[i],
                  second = to[half + i];
      to[i] = first * c - second * s;
      to[half + i] = second * c + first * s;
    }
  }
}

// d_out as out -> d_x with the strides of x, d_weight [dim] (added to).
void NormRotateBackward(const float* x,
                        const float* weight,
                        const float* cos,
                        const float* sin,
                        const float* d_out,
                        float eps,
                        int64_t batch,
                        int64_t length,
                        int64_t heads,
                        int64_t dim,
                        int64_t half,
                        int64_t stride,
                        int64_t head_stride,
                        float* d_x,
                        float* d_weight) {
  std::vector<float> d_normed(dim);
  for (int64_t row = 0; row < batch * heads * length; ++row) {
    const int64_t b = row / (heads * length), h = row / length % heads, t = row % length;
    const int64_t at = (b * length + t) * stride + h * head_stride;
    const float* in = x + at;
    const float* d_row = d_out + row * dim;
    for (int64_t i = 0; i < half; ++i) {
      const float c = cos[t * half + i], s = sin[t * half + i];
      d_normed[i] = d_row[i] * c + d_row[half + i] * s;
      d_normed[half + i] = d_row[half + i] * c - d_row[i] * s;
    }
    for (int64_t i = 2 * half; i < dim; ++i) d_normed[i] = d_row[i];
    const float unit = 1.0f / std::sqrt(Dot(in, in, dim) / static_cast<float>(dim) + eps);
    for (int64_t i = 0; i < dim; ++i) {
      d_weight[i] += d_normed[i] * in[i] * unit;
      d_normed[i] *= 1.0f + weight[i];
    }
    const float along = Dot(d_normed.data(), in, dim) * unit * unit / static_cast<float>(dim);
    for (int64_t i = 0; i < dim; ++i) d_x[at + i] = unit * (d_normed[i] - along * in[i]);
  }
}

// x [batch, heads, length, dim], gate: head h of a token begins at row * stride + h * head_stride
// -> out [batch, length, heads dim] = x * sigmoid(gate).
void GateForward(const float* x,
                 const float* gate,
                 int64_t batch,
                 int64_t heads,
                 int64_t length,
                 int64_t dim,
                 int64_t stride,
                 int64_t head_stride,
                 float* out) {
  for (int64_t row = 0; row < batch * heads * length; ++row) {
    const int64_t b = row / (heads * length), h = row / length % heads, t = row % length;
    const float* from = gate + (b * length + t) * stride + h * head_stride;
    float* to = out + ((b * length + t) * heads + h) * dim;
    for (int64_t i = 0; i < dim; ++i) to[i] = x[row * dim + i] * Sigmoid(from[i]);
  }
}

// d_out as out -> d_x as x, d_gate with the strides of gate.
void GateBackward(const float* x,
                  const float* gate,
                  const float* d_out,
                  int64_t batch,
                  int64_t heads,
                  int64_t length,
                  int64_t dim,
                  int64_t stride,
                  int64_t head_stride,
                  float* d_x,
                  float* d_gate) {
  for (int64_t row = 0; row < batch * heads * length; ++row) {
    const int64_t b = row / (heads * length), h = row / length % heads, t = row % length;
    const int64_t at = (b * length + t) * stride + h * head_stride;
    const float* d_row = d_out + ((b * length + t) * heads + h) * dim;
    for (int64_t i = 0; i < dim; ++i) {
      const float s = Sigmoid(gate[at + i]);
      d_x[row * dim + i] = d_row[i] * s;
      d_gate[at + i] = d_row[i] * x[row * dim + i] * s * (1.0f - s);
    }
  }
}

}  // extern "C"
