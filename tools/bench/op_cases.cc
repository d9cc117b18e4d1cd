#include "tools/bench/op_cases.h"

#include "tools/bench/op_groups.h"

namespace deltaserve::bench {

std::vector<OpGroup> OpGroups() {
  std::vector<OpGroup> all;
  for (const auto& part :
       {LinearGroups(), GatedDeltaNetGroups(), AttentionGroups(), ExpertGroups(), RowGroups()}) {
    all.insert(all.end(), part.begin(), part.end());
  }
  return all;
}

}  // namespace deltaserve::bench
