#include "worker/checkpoint/weight_source.h"

namespace deltaserve {

WeightItem ItemOf(const ShardPlan& plan, const WeightSpec& spec, DType stored_dtype) {
  WeightItem item{.name = spec.name,
                  .dtype = stored_dtype,
                  .shape = plan.LocalShape(spec),
                  .precision = spec.precision};
  item.bytes = static_cast<size_t>(NumElements(item.shape)) * DTypeSize(stored_dtype);
  return item;
}

}  // namespace deltaserve
