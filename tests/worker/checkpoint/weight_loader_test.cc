#include "worker/checkpoint/weight_loader.h"

#include <map>
#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "kernels/reference/reference_device.h"
#include "tests/worker/checkpoint/checkpoint_fixture.h"
#include "tests/worker/checkpoint/weight_slice.h"
#include "tests/worker/comm/deferred_device.h"

namespace deltaserve {
namespace {

using testing::HasSubstr;

constexpr const char* kNested = "model.language_model.";

struct Form {
  ModelFamily family;
  ExpertForm experts;
};
constexpr Form kForms[] = {{ModelFamily::kQwen35, ExpertForm::kFused},
                           {ModelFamily::kQwen35Moe, ExpertForm::kFused},
                           {ModelFamily::kQwen35Moe, ExpertForm::kPerExpert},
                           {ModelFamily::kQwen3Next, ExpertForm::kPerExpert}};

std::map<std::string, std::string> TakeAll(WeightLoader& loader, const ModelConfig& config) {
  std::map<std::string, std::string> all;
  for (const WeightSpec& spec : WeightTable(config, ParallelOptions{})) {
    if (!loader.Has(spec.name)) continue;
    auto weight = loader.Take(spec.name);
    EXPECT_TRUE(weight.ok()) << weight.status();
    all[spec.name] = BytesOf(*weight);
  }
  return all;
}

std::map<std::string, std::string> LoadWhole(const std::string& folder, const ModelConfig& config) {
  auto loader = Load(folder, config, ParallelOptions{}, 0);
  EXPECT_TRUE(loader.ok()) << loader.status();
  return TakeAll(**loader, config);
}

// Every weight of every rank, in every mode, equals its slice of the whole by the contract.
TEST(WeightLoaderTest, EveryRankHoldsItsSliceOfTheWhole) {
  for (const Form& form : kForms) {
    const ModelConfig config = TinyConfig(form.family);
    const std::string folder = EmptyFolder();
    WriteIndexed(folder, FileTensors(config, form.experts, kNested), 3);
    const auto whole = LoadWhole(folder, config);
    for (const int ranks : {1, 2, 4}) {
      for (const MoeMode moe : {MoeMode::kTensor, MoeMode::kExpert}) {
        for (const auto linear :
             {LinearAttentionMode::kSharded, LinearAttentionMode::kReplicated}) {
          const ParallelOptions options = {ranks, moe, linear};
          for (int rank = 0; rank < ranks; ++rank) {
            auto loader = Load(folder, config, options, rank);
            ASSERT_TRUE(loader.ok()) << loader.status();
            for (const WeightSpec& spec : WeightTable(config, options)) {
              auto weight = (*loader)->Take(spec.name);
              ASSERT_TRUE(weight.ok()) << weight.status();
              const Slice slice =
                  ContractSlice(spec.name, config, options, rank, spec.rows(), spec.cols());
              EXPECT_EQ(BytesOf(*weight), Cut(whole.at(spec.name), slice, spec.rows(), spec.cols(),
                                              static_cast<int64_t>(DTypeSize(weight->dtype))))
                  << spec.name << " rank " << rank << " of " << ranks;
            }
          }
        }
      }
    }
  }
}

TEST(WeightLoaderTest, OneRankHoldsTheStoredBytes) {
  const ModelConfig config = TinyConfig(ModelFamily::kQwen35);
  auto tensors = FileTensors(config, ExpertForm::kFused);
  const std::string folder = EmptyFolder();
  WriteSingle(folder, tensors);
  const auto whole = LoadWhole(folder, config);
  for (const char* name :
       {"layers.0.linear_attn.in_proj_qkv.weight", "layers.0.linear_attn.conv1d.weight",
        "layers.0.linear_attn.A_log", "layers.1.self_attn.q_proj.weight", "norm.weight"}) {
    EXPECT_EQ(whole.at(name), Named(tensors, std::string("model.") + name).bytes) << name;
  }
  EXPECT_EQ(whole.at("layers.1.mlp.gate_up_proj.weight"),
            Named(tensors, "model.layers.1.mlp.gate_proj.weight").bytes +
                Named(tensors, "model.layers.1.mlp.up_proj.weight").bytes);
  const std::string& head = whole.at("lm_head.weight");
  const std::string& stored = Named(tensors, "lm_head.weight").bytes;
  EXPECT_EQ(head.substr(0, stored.size()), stored);
  EXPECT_EQ(head.substr(stored.size()), std::string((128 - 71) * 12 * 2, '\0'));
}

// A contiguous half of the fused q|k|v rows is not what a rank must hold: the mistake of splitting
// it so would show in the test above.
TEST(WeightLoaderTest, AContiguousSplitOfFusedRowsIsWrong) {
  const ModelConfig config = TinyConfig(ModelFamily::kQwen35);
  const std::string folder = EmptyFolder();
  WriteSingle(folder, FileTensors(config, ExpertForm::kFused));
  const std::string name = "layers.0.linear_attn.in_proj_qkv.weight";
  const ParallelOptions options = {.ranks = 2};
  auto table = WeightTable(config, options);
  for (WeightSpec& spec : table) {
    if (spec.name == name) spec.segments = {{spec.rows(), 1}};
  }
  const auto plan = ShardPlan::Create(config, options, 1);
  auto wrong = OpenCheckpoint(folder, config, *plan, table, LoaderOptions{});
  ASSERT_TRUE(wrong.ok()) << wrong.status();
  ASSERT_TRUE((*wrong)->LoadAll().ok());
  auto right = Load(folder, config, options, 1);
  ASSERT_TRUE(right.ok());
  const std::string a = BytesOf(*(*wrong)->Take(name));
  const std::string b = BytesOf(*(*right)->Take(name));
  EXPECT_EQ(a.size(), b.size());
  EXPECT_NE(a, b);
}

TEST(WeightLoaderTest, FusedAndSeparateExpertsAreTheSameWeights) {
  const ModelConfig config = TinyConfig(ModelFamily::kQwen35Moe);
  auto fused = FileTensors(config, ExpertForm::kFused);
  auto separate = FileTensors(config, ExpertForm::kPerExpert);
  // The same bytes, cut up: expert e's gate rows, then its up rows.
  for (int layer = 0; layer < 2; ++layer) {
    const std::string prefix = "model.layers." + std::to_string(layer) + ".mlp.experts.";
    const std::string& gate_up = Named(fused, prefix + "gate_up_proj").bytes;
    const std::string& down = Named(fused, prefix + "down_proj").bytes;
    const size_t part = 8 * 12 * 2;  // moe_intermediate_size x hidden_size in BF16
    for (size_t expert = 0; expert < 8; ++expert) {
      const std::string one = prefix + std::to_string(expert);
      Named(separate, one + ".gate_proj.weight").bytes = gate_up.substr(2 * expert * part, part);
      Named(separate, one + ".up_proj.weight").bytes =
          gate_up.substr((2 * expert + 1) * part, part);
      Named(separate, one + ".down_proj.weight").bytes = down.substr(expert * part, part);
    }
  }
  const std::string folder = EmptyFolder();
  WriteSingle(folder, fused);
  const auto first = LoadWhole(folder, config);
  WriteSingle(folder, separate);
  EXPECT_EQ(LoadWhole(folder, config), first);
}

// Spec 2.7, its formulas written out.
TEST(WeightLoaderTest, TakesQwen3NextsProjectionsApart) {
  const ModelConfig config = TinyConfig(ModelFamily::kQwen3Next);
  auto tensors = FileTensors(config, ExpertForm::kPerExpert);
  const std::string folder = EmptyFolder();
  WriteSingle(folder, tensors);
  const auto whole = LoadWhole(folder, config);
  const std::string prefix = "layers.0.linear_attn.";
  const size_t row = 12 * 2, dk = 4, dv = 6, heads = 4, r = 2, block = 2 * dk + 2 * r * dv;
  const std::string& qkvz = Named(tensors, "model." + prefix + "in_proj_qkvz.weight").bytes;
  const std::string& ba = Named(tensors, "model." + prefix + "in_proj_ba.weight").bytes;
  const auto expect_row = [&](const char* name, size_t logical, const std::string& stored,
                              size_t at) {
    EXPECT_EQ(whole.at(prefix + name).substr(logical * row, row), stored.substr(at * row, row))
        << name << " row " << logical;
  };
  for (size_t g = 0; g < heads; ++g) {
    for (size_t d = 0; d < dk; ++d) {
      expect_row("in_proj_qkv.weight", g * dk + d, qkvz, g * block + d);
      expect_row("in_proj_qkv.weight", heads * dk + g * dk + d, qkvz, g * block + dk + d);
    }
    for (size_t j = 0; j < r; ++j) {
      for (size_t d = 0; d < dv; ++d) {
        const size_t v = (g * r + j) * dv + d;
        const size_t at = g * block + 2 * dk + j * dv + d;
        expect_row("in_proj_qkv.weight", 2 * heads * dk + v, qkvz, at);
        expect_row("in_proj_z.weight", v, qkvz, at + r * dv);
      }
      expect_row("in_proj_b.weight", g * r + j, ba, g * 2 * r + j);
      expect_row("in_proj_a.weight", g * r + j, ba, g * 2 * r + r + j);
    }
  }
}

// Drawn by the host and by a device whose memory is out of its reach.
TEST(WeightLoaderTest, RandomWeightsAreThoseOfAFileAtAnyRankCount) {
  const auto reference = reference::CreateReferenceDevice();
  for (const ModelFamily family :
       {ModelFamily::kQwen35, ModelFamily::kQwen35Moe, ModelFamily::kQwen3Next}) {
    const ModelConfig config = TinyConfig(family);
    const std::string folder = EmptyFolder();
    WriteSingle(folder, FileTensors(config, PublishedExpertForm(config)));
    for (const auto& [ranks, moe] : {std::pair{1, MoeMode::kTensor}, std::pair{4, MoeMode::kTensor},
                                     std::pair{2, MoeMode::kExpert}}) {
      const ParallelOptions options = {.ranks = ranks, .moe = moe};
      for (int rank = 0; rank < ranks; ++rank) {
        const auto plan = ShardPlan::Create(config, options, rank);
        auto read = Load(folder, config, options, rank);
        ASSERT_TRUE(read.ok()) << read.status();
        const auto expected = TakeAll(**read, config);
        DeferredDevice device(*reference);
        for (Device* const drawer :
             {static_cast<Device*>(nullptr), static_cast<Device*>(&device)}) {
          auto drawn = RandomWeights(kFixtureSeed, config, *plan, WeightTable(config, options),
                                     LoaderOptions{.num_readers = 2, .device = drawer});
          ASSERT_TRUE(drawn.ok());
          ASSERT_TRUE((*drawn)->LoadAll().ok());
          EXPECT_EQ(TakeAll(**drawn, config), expected) << (drawer == nullptr ? "host" : "device");
        }
        EXPECT_EQ(device.host_bytes(), 0U);
      }
    }
  }
}

TEST(WeightLoaderTest, TakesEachWeightOnce) {
  const ModelConfig config = TinyConfig(ModelFamily::kQwen35);
  const std::string folder = EmptyFolder();
  WriteSingle(folder, FileTensors(config, ExpertForm::kFused));
  auto loader = Load(folder, config, ParallelOptions{}, 0);
  ASSERT_TRUE(loader.ok());
  EXPECT_TRUE((*loader)->Take("norm.weight").ok());
  EXPECT_FALSE((*loader)->Has("norm.weight"));
  const auto again = (*loader)->Take("norm.weight");
  EXPECT_EQ(again.status().code(), absl::StatusCode::kNotFound);
  EXPECT_THAT(std::string(again.status().message()), HasSubstr("norm.weight"));
}

TEST(WeightLoaderTest, WidensToF32Exactly) {
  const ModelConfig config = TinyConfig(ModelFamily::kQwen35);
  auto tensors = FileTensors(config, ExpertForm::kFused);
  const std::string folder = EmptyFolder();
  WriteSingle(folder, tensors);
  auto loader = Load(folder, config, ParallelOptions{}, 0);
  ASSERT_TRUE(loader.ok());
  auto wide = (*loader)->TakeF32("norm.weight");
  ASSERT_TRUE(wide.ok());
  EXPECT_EQ(wide->dtype, DType::kF32);
  ASSERT_EQ(wide->data.bytes(), 12 * sizeof(float));
  const std::string& stored = Named(tensors, "model.norm.weight").bytes;
  for (size_t i = 0; i < 12; ++i) {
    BFloat16 narrow;
    std::memcpy(&narrow, stored.data() + 2 * i, 2);
    EXPECT_EQ(static_cast<const float*>(wide->data.data())[i], ToFloat(narrow));
  }
  auto same = (*loader)->TakeF32("layers.0.linear_attn.A_log");
  ASSERT_TRUE(same.ok());
  EXPECT_EQ(BytesOf(*same), Named(tensors, "model.layers.0.linear_attn.A_log").bytes);
}

// What the host has to see is drawn there, all else is not.
TEST(WeightLoaderTest, ADeviceDrawsWhatTheHostNeedNotSee) {
  const auto reference = reference::CreateReferenceDevice();
  DeferredDevice device(*reference);
  const ModelConfig config = TinyConfig(ModelFamily::kQwen35);
  const ShardPlan plan = ShardPlan::Create(config, {}, 0).value();
  auto loader =
      RandomWeights(1, config, plan, WeightTable(config, {}), {.device = &device}).value();
  ASSERT_TRUE(loader->LoadAll().ok());
  for (const char* name : {"embed_tokens.weight", "layers.0.mlp.gate_up_proj.weight"}) {
    EXPECT_FALSE(loader->Take(name)->data.host_addressable()) << name;
  }
  EXPECT_TRUE(loader->TakeF32("norm.weight")->data.host_addressable());
  // Not by FillNormal.
  EXPECT_TRUE(loader->Take("layers.0.linear_attn.A_log")->data.host_addressable());
}

TEST(WeightLoaderTest, TakesF32WhereReleasesHaveBf16) {
  const ModelConfig config = TinyConfig(ModelFamily::kQwen35);
  auto tensors = FileTensors(config, ExpertForm::kFused);
  StoredTensor stored = {.name = "f32", .shape = {12, 20}};
  FileTensor& down = Named(tensors, "model.layers.0.mlp.down_proj.weight");
  down.dtype = "F32";
  down.bytes = RandomBytes(stored, DType::kF32);
  const std::string folder = EmptyFolder();
  WriteSingle(folder, tensors);
  auto loader = Load(folder, config, {.ranks = 2}, 1);
  ASSERT_TRUE(loader.ok()) << loader.status();
  auto weight = (*loader)->Take("layers.0.mlp.down_proj.weight");
  ASSERT_TRUE(weight.ok());
  EXPECT_EQ(weight->dtype, DType::kF32);
  EXPECT_EQ(BytesOf(*weight),
            Cut(down.bytes, {.rows = {{0, 12}}, .first_col = 10, .last_col = 20}, 12, 20, 4));
}

// Spec 2.6: a tied head that is stored counts only where it differs.
TEST(WeightLoaderTest, ATiedHeadThatIsStoredCountsOnlyWhereItDiffers) {
  ModelConfig config = TinyConfig(ModelFamily::kQwen35);
  auto tensors = FileTensors(config, ExpertForm::kFused);
  config.tie_word_embeddings = true;
  const std::string folder = EmptyFolder();
  WriteSingle(folder, tensors);
  auto differs = Load(folder, config, ParallelOptions{}, 0);
  ASSERT_TRUE(differs.ok());
  EXPECT_TRUE((*differs)->Has("lm_head.weight"));
  Named(tensors, "lm_head.weight").bytes = Named(tensors, "model.embed_tokens.weight").bytes;
  WriteSingle(folder, tensors);
  auto equal = Load(folder, config, ParallelOptions{}, 0);
  ASSERT_TRUE(equal.ok());
  EXPECT_FALSE((*equal)->Has("lm_head.weight"));
}

TEST(WeightLoaderTest, AMissingHeadLeavesTheEmbedding) {
  const ModelConfig config = TinyConfig(ModelFamily::kQwen35);
  auto tensors = FileTensors(config, ExpertForm::kFused);
  tensors.pop_back();
  const std::string folder = EmptyFolder();
  WriteSingle(folder, tensors);
  auto loader = Load(folder, config, ParallelOptions{}, 0);
  ASSERT_TRUE(loader.ok()) << loader.status();
  EXPECT_FALSE((*loader)->Has("lm_head.weight"));
  EXPECT_TRUE((*loader)->Has("embed_tokens.weight"));
}

TEST(WeightLoaderTest, SkipsMtpAndVision) {
  const ModelConfig config = TinyConfig(ModelFamily::kQwen35);
  auto tensors = FileTensors(config, ExpertForm::kFused, kNested);
  for (const char* name :
       {"mtp.fc.weight", "model.mtp.norm.weight", "model.visual.pos_embed.weight",
        "mtp.layers.0.mlp.experts.3.gate_proj.weight"}) {
    tensors.push_back({name, "F16", {2}, "abcd"});
  }
  const std::string folder = EmptyFolder();
  WriteSingle(folder, tensors);
  const auto loader = Load(folder, config, ParallelOptions{}, 0);
  EXPECT_TRUE(loader.ok()) << loader.status();
}

// A rank of two reads half of what is split, and the whole of what is replicated or too finely cut.
TEST(WeightLoaderTest, CountsTheBytesItReads) {
  const ModelConfig config = TinyConfig(ModelFamily::kQwen35);
  const std::string folder = EmptyFolder();
  const auto tensors = FileTensors(config, ExpertForm::kFused);
  WriteSingle(folder, tensors);
  const auto read = [&](int ranks) {
    LoadProgress last;
    const auto plan = ShardPlan::Create(config, {.ranks = ranks}, 0);
    auto loader = OpenCheckpoint(
        folder, config, *plan, WeightTable(config, {.ranks = ranks}),
        LoaderOptions{.progress = [&](const LoadProgress& progress) { last = progress; }});
    EXPECT_TRUE((*loader)->LoadAll().ok());
    EXPECT_EQ(last.bytes_read, last.bytes_total);
    return last.bytes_read;
  };
  int64_t all = 0;
  for (const FileTensor& tensor : tensors) all += static_cast<int64_t>(tensor.bytes.size());
  EXPECT_EQ(read(1), all);
  EXPECT_LT(read(2), all);
  EXPECT_GT(read(2), all / 2);
}

TEST(WeightLoaderTest, TheFingerprintIsOfTheModelAlone) {
  const ModelConfig config = TinyConfig(ModelFamily::kQwen35);
  auto tensors = FileTensors(config, ExpertForm::kFused);
  const std::string folder = EmptyFolder();
  const auto fingerprint = [&](const ParallelOptions& options, int rank) {
    auto loader = Load(folder, config, options, rank);
    EXPECT_TRUE(loader.ok()) << loader.status();
    return (*loader)->fingerprint();
  };
  WriteSingle(folder, tensors);
  const std::string first = fingerprint({}, 0);
  EXPECT_EQ(first.size(), 64U);
  EXPECT_EQ(fingerprint({.ranks = 4}, 3), first);
  EXPECT_EQ(fingerprint({.ranks = 2, .linear_attention = LinearAttentionMode::kReplicated}, 1),
            first);
  std::filesystem::remove(folder + "/model.safetensors");
  WriteIndexed(folder, FileTensors(config, ExpertForm::kFused, kNested), 2);
  EXPECT_EQ(fingerprint({}, 0), first) << "another prefix and other files";
  Named(tensors, "model.norm.weight").bytes[0] ^= 1;
  std::filesystem::remove(folder + "/model.safetensors.index.json");
  WriteSingle(folder, tensors);
  EXPECT_NE(fingerprint({}, 0), first) << "one bit of one weight";
}

TEST(WeightLoaderTest, RandomFingerprintsTellSeedsApart) {
  const ModelConfig config = TinyConfig(ModelFamily::kQwen35);
  const auto fingerprint = [&](uint64_t seed, const ParallelOptions& options) {
    const auto plan = ShardPlan::Create(config, options, 0);
    return (*RandomWeights(seed, config, *plan, WeightTable(config, options), LoaderOptions{}))
        ->fingerprint();
  };
  EXPECT_EQ(fingerprint(1, {}), fingerprint(1, {.ranks = 4}));
  EXPECT_NE(fingerprint(1, {}), fingerprint(2, {}));
}

}  // namespace
}  // namespace deltaserve
