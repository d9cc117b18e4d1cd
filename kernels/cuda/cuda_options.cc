#include "kernels/cuda/cuda_options.h"

#include "absl/strings/str_cat.h"
#include "kernels/base/status_macros.h"

namespace deltaserve::cuda {
namespace {

constexpr char kNative[] = "native";
constexpr char kFlashInfer[] = "flashinfer";
constexpr char kCutlass[] = "cutlass";

// Whether `value` of `flag` is `other` and not native.
absl::StatusOr<bool> IsOther(const char* flag,
                             const std::string& value,
                             const char* other,
                             const std::string& device) {
  if (value == kNative) return false;
  const std::string given = absl::StrCat(flag, " is ", value);
  if (value != other) {
    return absl::InvalidArgumentError(absl::StrCat(given, "; use native or ", other));
  }
  if (device == "cuda") return true;
  return absl::InvalidArgumentError(
      absl::StrCat(given, ": it means nothing with --device ", device, "; leave it out"));
}

}  // namespace

void AddBackendFlags(CommandLine& line, BackendFlags* flags) {
  line.Add("--attention-backend", &flags->attention,
           "Kernels of attention (cuda): native, this program's own, or flashinfer")
      .OneOf({kNative, kFlashInfer});
  line.Add("--moe-backend", &flags->moe,
           "Kernels of the experts' products for many rows (cuda): native, this program's own, or "
           "cutlass")
      .OneOf({kNative, kCutlass});
}

absl::StatusOr<CudaOptions> ReadBackends(const BackendFlags& flags, const std::string& device) {
  CudaOptions options;
  DS_ASSIGN_OR_RETURN(const bool flashinfer,
                      IsOther("--attention-backend", flags.attention, kFlashInfer, device));
  DS_ASSIGN_OR_RETURN(const bool cutlass, IsOther("--moe-backend", flags.moe, kCutlass, device));
  if (flashinfer) options.attention = AttentionBackend::kFlashInfer;
  if (cutlass) options.moe = MoeBackend::kCutlass;
  return options;
}

absl::Status NotInThisBuild(const std::string& given) {
  return absl::UnimplementedError(
      absl::StrCat(given,
                   ": this build has no such kernels; use native, or configure with 'cmake "
                   "--preset cuda' and without -DDELTASERVE_FLASHINFER=OFF"));
}

std::string BackendsText(const CudaOptions& options) {
  return absl::StrCat(
      options.attention == AttentionBackend::kFlashInfer ? ", attention of flashinfer" : "",
      options.moe == MoeBackend::kCutlass ? ", experts of cutlass" : "");
}

}  // namespace deltaserve::cuda
