// Routing and routed experts (specification 3.7).

#include <algorithm>
#include <cmath>
#include <numeric>
#include <utility>

#include "kernels/reference/reference_ops.h"

namespace deltaserve::reference {
namespace {

class ReferenceExpertWeights final : public ExpertWeights {
 public:
  struct Expert {
    Matrix gate;
    Matrix up;
    Matrix down;
  };

  explicit ReferenceExpertWeights(std::vector<Expert> experts) : experts_(std::move(experts)) {}
  int64_t num_experts() const override { return static_cast<int64_t>(experts_.size()); }
  size_t bytes() const override {
    return experts_.empty() ? 0 : experts_.size() * 3 * experts_[0].gate.data.size() * 8;
  }
  const Expert& expert(int64_t e) const { return experts_[static_cast<size_t>(e)]; }

 private:
  std::vector<Expert> experts_;
};

std::vector<double> Apply(const ReferenceExpertWeights::Expert& expert,
                          const std::vector<double>& x) {
  const auto gate = expert.gate.Times(x);
  auto act = expert.up.Times(x);
  for (size_t i = 0; i < act.size(); ++i) act[i] *= Silu(gate[i]);
  return expert.down.Times(act);
}

}  // namespace

absl::StatusOr<std::unique_ptr<ExpertWeights>> ReferenceOps::PackExperts(
    Buffer gate_up, Buffer down, DType dtype, int64_t num_experts, int64_t hidden, int64_t width) {
  std::vector<ReferenceExpertWeights::Expert> experts;
  const int64_t matrix = hidden * width;
  for (int64_t e = 0; e < num_experts; ++e) {
    experts.push_back({Matrix::From(gate_up.data(), dtype, 2 * e * matrix, width, hidden),
                       Matrix::From(gate_up.data(), dtype, (2 * e + 1) * matrix, width, hidden),
                       Matrix::From(down.data(), dtype, e * matrix, hidden, width)});
  }
  return std::make_unique<ReferenceExpertWeights>(std::move(experts));
}

void ReferenceOps::RouteExperts(const RouteExpertsArgs& args) {
  const int64_t n = args.logits.dim(1);
  const int64_t k = args.experts.dim(1);
  for (int64_t r = 0; r < args.logits.dim(0); ++r) {
    const auto logits = Widen(args.logits.as<float>() + r * n, n);
    const double max = *std::max_element(logits.begin(), logits.end());
    std::vector<double> p;
    double total = 0;
    for (const double l : logits) total += p.emplace_back(std::exp(l - max));
    std::vector<int32_t> order(static_cast<size_t>(n));
    std::iota(order.begin(), order.end(), 0);
    std::stable_sort(order.begin(), order.end(), [&](int32_t a, int32_t b) {
      return logits[static_cast<size_t>(a)] > logits[static_cast<size_t>(b)];
    });
    order.resize(static_cast<size_t>(k));
    std::sort(order.begin(), order.end());
    double chosen = 0;
    for (const int32_t e : order) chosen += p[static_cast<size_t>(e)];
    for (int64_t j = 0; j < k; ++j) {
      const int32_t e = order[static_cast<size_t>(j)];
      args.experts.as<int32_t>()[r * k + j] = e;
      args.weights.as<float>()[r * k + j] =
          static_cast<float>(p[static_cast<size_t>(e)] / (args.normalize ? chosen : total));
    }
  }
}

void ReferenceOps::Experts(const ExpertsArgs& args, Arena& /*arena*/) {
  const auto& w = *static_cast<const ReferenceExpertWeights*>(args.expert_weights);
  const int64_t hidden = args.x.dim(1);
  const int64_t k = args.experts.dim(1);
  for (int64_t r = 0; r < args.x.dim(0); ++r) {
    const auto x = Widen(args.x.as<float>() + r * hidden, hidden);
    std::vector<double> sum(static_cast<size_t>(hidden));
    for (int64_t e = 0; e < w.num_experts(); ++e) {
      for (int64_t j = 0; j < k; ++j) {
        if (args.experts.as<int32_t>()[r * k + j] != args.first_expert + e) continue;
        const auto y = Apply(w.expert(e), x);
        const double weight = static_cast<double>(args.weights.as<float>()[r * k + j]);
        for (size_t i = 0; i < sum.size(); ++i) sum[i] += weight * y[i];
      }
    }
    for (int64_t i = 0; i < hidden; ++i) {
      double value = sum[static_cast<size_t>(i)];
      if (args.shared.data() != nullptr) {
        value += static_cast<double>(args.shared.as<float>()[r * hidden + i]) *
                 Sigmoid(static_cast<double>(args.shared_gate.as<float>()[r]));
      }
      args.out.as<float>()[r * hidden + i] = static_cast<float>(value);
    }
  }
}

}  // namespace deltaserve::reference
