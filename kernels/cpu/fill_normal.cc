#include "kernels/cpu/fill_normal.h"

#include <algorithm>

#include "kernels/cpu/parallel.h"
#include "kernels/random_weights.h"

namespace deltaserve::cpu {
namespace {

constexpr int64_t kGrain = 64;  // elements; of some 30 operations each

void Put(float value, float* out) { *out = value; }
void Put(float value, BFloat16* out) { *out = ToBFloat16(value); }

// `count` elements of one row, whose first has this index.
template <typename T>
void FillRun(const FillNormalArgs& args, int64_t element, int64_t count, T* out) {
  for (int64_t i = 0; i < count; ++i) {
    const float x = StandardNormal(args.key, static_cast<uint64_t>(element + i));
    Put(args.scale * (args.mean + args.deviation * x) + args.offset, out + i);
  }
}

template <typename T>
void FillAs(const FillNormalArgs& args, ThreadPool& pool) {
  const int64_t columns = args.out.dim(1);
  T* const out = args.out.as<T>();
  ParallelFor(pool, args.out.numel(), kGrain, 30, [&](int64_t begin, int64_t end, int) {
    while (begin < end) {
      const int64_t column = begin % columns;
      const int64_t count = std::min(end - begin, columns - column);
      FillRun(args, args.first + begin / columns * args.stride + column, count, out + begin);
      begin += count;
    }
  });
}

}  // namespace

void FillNormal(const FillNormalArgs& args, ThreadPool& pool) {
  if (args.out.dtype() == DType::kBF16) {
    FillAs<BFloat16>(args, pool);
  } else {
    FillAs<float>(args, pool);
  }
}

}  // namespace deltaserve::cpu
