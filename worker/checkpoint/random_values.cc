#include "worker/checkpoint/random_values.h"

#include <algorithm>
#include <cmath>

#include "kernels/base/check.h"
#include "kernels/random_weights.h"

namespace deltaserve {
namespace {

double Uniform(uint64_t key, uint64_t element) {
  return static_cast<double>(WeightWord(key, 3 * element) >> 11) * 0x1p-53;
}

// Natural logarithm of a normal x > 0: exponent * ln 2 + 2 atanh((m - 1) / (m + 1)).
double Log(double x) {
  int exponent = 0;
  double mantissa = std::frexp(x, &exponent);  // exact
  if (mantissa < 0.70710678118654752) {
    mantissa *= 2;
    --exponent;
  }
  const double z = (mantissa - 1) / (mantissa + 1);  // |z| < 0.172
  double sum = 0;
  for (int n = 23; n >= 1; n -= 2) sum = sum * (z * z) + 1.0 / n;
  return exponent * 0.69314718055994530942 + 2 * z * sum;
}

// exp(t) - 1 for 0 <= t <= 0.1.
double ExpMinusOne(double t) {
  double sum = 0;
  for (int n = 12; n >= 1; --n) sum = (sum + 1) * t / n;
  return sum;
}

float Draw(uint64_t key, const RandomValues& values, uint64_t element) {
  switch (values.kind) {
    case RandomValues::Kind::kNormal:
      return values.mean + values.deviation * StandardNormal(key, element);
    case RandomValues::Kind::kDecay:
      return static_cast<float>(Log(1 + 15 * Uniform(key, element)));
    case RandomValues::Kind::kTimeStep:
      return static_cast<float>(Log(ExpMinusOne(1e-3 + 0.099 * Uniform(key, element))));
  }
  return 0;
}

void Put(float value, float* out) { *out = value; }
void Put(float value, BFloat16* out) { *out = ToBFloat16(value); }

template <typename T>
void Fill(uint64_t key, const StoredTensor& tensor, int64_t first, int64_t count, T* out) {
  const RandomValues& values = tensor.values;
  for (int64_t i = 0; i < count; ++i) {
    Put(Draw(key, values, static_cast<uint64_t>(first + i)), out + i);
  }
  const int64_t row_size = NumElements(tensor.shape) / tensor.shape[0];
  for (const RowChange& change : values.changes) {
    const int64_t begin = std::max(first, change.begin * row_size);
    const int64_t end = std::min(first + count, change.end * row_size);
    for (int64_t i = begin; i < end; ++i) {
      const float value = Draw(key, values, static_cast<uint64_t>(i));
      Put(change.scale * value + change.offset, out + (i - first));
    }
  }
}

}  // namespace

uint64_t RandomKey(uint64_t seed, const std::string& name) {
  uint64_t hash = 0xcbf29ce484222325u;
  for (const char c : name) hash = (hash ^ static_cast<uint8_t>(c)) * 0x100000001b3u;
  return Mix(hash + Mix(seed + kGoldenRatio));
}

void FillRandom(uint64_t seed,
                const StoredTensor& tensor,
                int64_t first,
                int64_t count,
                DType dtype,
                void* out) {
  DS_CHECK(first >= 0 && first + count <= NumElements(tensor.shape)) << tensor.name;
  const uint64_t key = RandomKey(seed, tensor.name);
  if (dtype == DType::kF32) {
    Fill(key, tensor, first, count, static_cast<float*>(out));
    return;
  }
  DS_CHECK(dtype == DType::kBF16) << tensor.name;
  Fill(key, tensor, first, count, static_cast<BFloat16*>(out));
}

}  // namespace deltaserve
