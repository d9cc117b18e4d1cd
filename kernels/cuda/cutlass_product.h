#pragma once

// One instance of CUTLASS's grouped kernel, for a .cu file of its own: each compiles for 90 seconds
// and takes 3.4 GB. Only files that nvcc compiles with CUTLASS's headers include this.
//
// What the call relies on, as CUTLASS 4.5 has it
// (sm90_gemm_array_tma_warpspecialized_cooperative.hpp, sm90_tile_scheduler_group.hpp,
// sm90_mma_array_tma_gmma_ss_warpspecialized.hpp, sm90_epilogue_array_tma_warpspecialized.hpp):
//   - A problem is out^T [columns, rows] = weight . x^T: CUTLASS's A is the weight, row-major, B is
//     x^T, column-major, D is out^T, column-major. So tiles are kTileColumns of the weight by as
//     few rows as is wanted, and no expert's few rows are padded to 128.
//   - Without sizes of the host the grid is one block a multiprocessor (in whole clusters),
//     whatever the routing. Blocks walk the tiles of all groups in order; a group without rows has
//     no tile and its addresses are not looked at; where no group has a tile all blocks return.
//   - Arrays by group are read on the device, after the kernels before on the same stream: sizes as
//     Shape<int, int, int>, three ints; strides as one int64 each, the others being constants.
//   - A block writes the tensor maps of its group into `workspace` (two of the inputs, one of
//     each of two warp groups that store: 512 bytes a multiprocessor) before it uses them, so that
//     the workspace needs no initial contents and both products of a step may have the same.
//   - TMA wants addresses and strides in bytes that are multiples of 16; reads beyond a group's
//     sizes give zeros and stores beyond them are left out, so no size is a multiple of a tile.
//   - The host encodes tensor maps with made-up sizes and the aligned addresses of the arrays,
//     which are not used; the driver's function for it is looked up by the runtime, so nothing
//     links libcuda.
//   - Nothing waits for the device. run() takes an error of the launch from the runtime.

#include <array>
#include <bit>
#include <cstdint>
#include <string>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "cutlass/cutlass.h"
#include "cutlass/epilogue/collective/collective_builder.hpp"
#include "cutlass/gemm/collective/collective_builder.hpp"
#include "cutlass/gemm/device/gemm_universal_adapter.h"
#include "cutlass/gemm/group_array_problem_shape.hpp"
#include "cutlass/gemm/kernel/gemm_universal.hpp"
#include "kernels/base/check.h"
#include "kernels/cuda/expert_rows.h"
#include "kernels/cuda/queue_cuda.h"

namespace deltaserve::cuda {

// Tiles of 128 columns by kTileRows rows. kCluster blocks with neighbouring columns share the rows
// that one of them reads.
template <int kTileRows, int kCluster>
class CutlassProduct {
 public:
  static void Run(const ExpertMatrices& matrices, Arena& arena, Queue& queue) {
    const typename Gemm::Arguments args = ArgumentsOf(matrices, queue);
    const ArenaScope scope(arena);
    const TensorView workspace =
        arena.Allocate(DType::kU8, {static_cast<int64_t>(Gemm::get_workspace_size(args))});
    const auto note = [&](cutlass::Status status, const char* call) {
      if (status != cutlass::Status::kSuccess) Note(status, call, matrices, queue);
      return status == cutlass::Status::kSuccess;
    };
    Gemm gemm;
    if (note(Gemm::can_implement(args), "can_implement") &&
        note(gemm.initialize(args, workspace.data(), queue.stream()), "initialize")) {
      note(gemm.run(queue.stream()), "run");
    }
  }

 private:
  static constexpr int kTileColumns = 128;
  static constexpr int kStepDepth = 64;  // 128 bytes, the widest swizzle
  static constexpr int kAlignment = 8;   // elements of 16 bytes

  using Element = cutlass::bfloat16_t;
  using RowMajor = cutlass::layout::RowMajor;
  using ColumnMajor = cutlass::layout::ColumnMajor;
  using Sizes = cute::Shape<int, int, int>;
  using Problem = cutlass::gemm::GroupProblemShape<Sizes>;
  using Tile = cute::Shape<cute::Int<kTileColumns>, cute::Int<kTileRows>, cute::Int<kStepDepth>>;
  using Cluster = cute::Shape<cute::Int<kCluster>, cute::Int<1>, cute::Int<1>>;
  // A layout with a star: an array of strides, by group. C is void: nothing is added.
  using Epilogue = typename cutlass::epilogue::collective::CollectiveBuilder<
      cutlass::arch::Sm90,
      cutlass::arch::OpClassTensorOp,
      Tile,
      Cluster,
      cutlass::epilogue::collective::EpilogueTileAuto,
      float,
      float,
      void,
      ColumnMajor*,
      kAlignment,
      Element,
      ColumnMajor*,
      kAlignment,
      cutlass::epilogue::PtrArrayTmaWarpSpecializedCooperative>::CollectiveOp;
  using Mainloop = typename cutlass::gemm::collective::CollectiveBuilder<
      cutlass::arch::Sm90,
      cutlass::arch::OpClassTensorOp,
      Element,
      RowMajor*,
      kAlignment,
      Element,
      ColumnMajor*,
      kAlignment,
      float,
      Tile,
      Cluster,
      cutlass::gemm::collective::StageCountAutoCarveout<static_cast<int>(
          sizeof(typename Epilogue::SharedStorage))>,
      cutlass::gemm::KernelPtrArrayTmaWarpSpecializedCooperative>::CollectiveOp;
  using Kernel = cutlass::gemm::kernel::GemmUniversal<Problem, Mainloop, Epilogue>;
  using Gemm = cutlass::gemm::device::GemmUniversalAdapter<Kernel>;
  using StrideA = typename Kernel::InternalStrideA;
  using StrideB = typename Kernel::InternalStrideB;
  using StrideD = typename Kernel::InternalStrideD;

  // What ExpertMatrices has is what CUTLASS reads.
  static_assert(std::bit_cast<std::array<int32_t, 3>>(Sizes(1, 2, 3)) ==
                std::array<int32_t, 3>{1, 2, 3});
  static_assert(std::bit_cast<int64_t>(StrideA(5, {}, {})) == 5);
  static_assert(std::bit_cast<int64_t>(StrideB(5, {}, {})) == 5);
  static_assert(std::bit_cast<int64_t>(StrideD({}, 5, {})) == 5);

  // CUTLASS's arguments take pointers to what they do not write.
  template <typename To, typename From>
  static To* Array(const From* array) {
    return reinterpret_cast<To*>(const_cast<From*>(array));
  }

  static typename Gemm::Arguments ArgumentsOf(const ExpertMatrices& m, const Queue& queue) {
    typename Gemm::Arguments args = {
        .mode = cutlass::gemm::GemmUniversalMode::kGrouped,
        .problem_shape = {.num_groups = static_cast<int32_t>(m.num_experts),
                          .problem_shapes = Array<Sizes>(m.sizes),
                          .host_problem_shapes = nullptr},
        .mainloop = {.ptr_A = Array<const Element*>(m.weight),
                     .dA = Array<StrideA>(m.weight_stride),
                     .ptr_B = Array<const Element*>(m.x),
                     .dB = Array<StrideB>(m.x_stride)},
        .epilogue = {.thread = {},
                     .ptr_C = nullptr,
                     .dC = nullptr,
                     .ptr_D = Array<Element*>(m.out),
                     .dD = Array<StrideD>(m.out_stride)},
        .hw_info = {.device_id = 0, .sm_count = queue.num_multiprocessors()},
    };
    args.epilogue.thread.alpha = 1;
    args.epilogue.thread.beta = 0;
    return args;
  }

  // A kernel before this may have broken the device: then that is the error.
  static void Note(cutlass::Status status,
                   const char* call,
                   const ExpertMatrices& matrices,
                   Queue& queue) {
    const std::string what =
        absl::StrCat("CUTLASS's ", call, " for ", matrices.num_experts, " experts of ",
                     matrices.columns, " columns and depth ", matrices.depth, " in tiles of ",
                     kTileRows, " rows: ", cutlassGetStatusString(status));
    const cudaError_t error = cudaGetLastError();  // or the next launch would note it too
    if (error != cudaSuccess) {
      queue.Note(error, what.c_str());
    } else {
      queue.Note(absl::InternalError(absl::StrCat("CUDA: ", what)));
    }
  }
};

}  // namespace deltaserve::cuda
