// deltaserve-generate under mpirun: goldens of transformers over real MPI, and its lines.

#include <cmath>
#include <fstream>
#include <set>
#include <sstream>

#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"
#include "nlohmann/json.hpp"
#include "tests/system/process.h"

namespace deltaserve::test {
namespace {

using nlohmann::json;

constexpr char kModel[] = "moe-fused";
constexpr float kTolerance = 1e-3F;  // of a logit, as in tests/worker/models

json Golden() {
  std::ifstream in(absl::StrCat(DELTASERVE_SOURCE_DIR, "/tests/data/goldens/", kModel, ".json"));
  return json::parse(in);
}

// Runs the lines through the golden model; one parsed answer a line.
std::vector<json> Generate(int ranks, const std::vector<std::string>& lines) {
  TempDir folder;
  const std::string model = folder / "model";
  const RunResult made =
      RunToEnd({Binary("make_checkpoint"), "--golden", kModel, "--output", model});
  EXPECT_EQ(made.code, 0) << made.output;
  {
    std::ofstream out(folder / "in.jsonl");
    for (const std::string& line : lines) out << line << "\n";
  }
  std::vector<std::string> command = OneThread();
  command.insert(command.begin(),
                 {Binary("generate"), "--model", model, "--prompts", folder / "in.jsonl",
                  "--output", folder / "out.jsonl", "--kv-memory", "64M", "--log-level", "warn"});
  const RunResult run =
      RunToEnd(MpirunCommand(ranks, command), absl::Minutes(2), MpirunEnvironment(folder.path()));
  EXPECT_EQ(run.code, 0) << run.output;
  std::vector<json> answers;
  std::istringstream out(ReadFile(folder / "out.jsonl").value_or(""));
  for (std::string line; std::getline(out, line);) answers.push_back(json::parse(line));
  EXPECT_EQ(answers.size(), lines.size());
  answers.resize(lines.size());
  return answers;
}

class GenerateTest : public ::testing::TestWithParam<int> {};

TEST_P(GenerateTest, IsTransformersOverMpi) {
  const json golden = Golden();
  std::ifstream rows(absl::StrCat(DELTASERVE_SOURCE_DIR, "/tests/data/goldens/", kModel, ".f32"),
                     std::ios::binary);
  std::vector<std::string> lines;
  for (const json& prompt : golden["prompts"]) {
    lines.emplace_back(json{
        {"id", lines.size()},
        {"ids", prompt["ids"]},
        {"max_tokens", 64},
        {"temperature", 0},
        {"ignore_eos", true},
        {"logits_at",
         {-1}}}.dump());
  }
  const std::vector<json> answers = Generate(GetParam(), lines);
  const auto vocab = golden["vocab_size"].get<size_t>();
  for (size_t i = 0; i < answers.size(); ++i) {
    SCOPED_TRACE(i);
    const json& prompt = golden["prompts"][i];
    EXPECT_EQ(answers[i]["id"], i);
    EXPECT_EQ(answers[i]["tokens"], prompt["greedy"]);
    // The last row of a golden prompt is that of its last position.
    const size_t last = prompt["row_positions"].size() - 1;
    std::vector<float> expected(vocab);
    rows.seekg(static_cast<std::streamoff>((prompt["rows_offset"].get<size_t>() + last * vocab) *
                                           sizeof(float)));
    rows.read(reinterpret_cast<char*>(expected.data()),
              static_cast<std::streamsize>(vocab * sizeof(float)));
    const auto row = answers[i]["logits"].at(0).get<std::vector<float>>();
    ASSERT_EQ(row.size(), vocab);
    for (size_t j = 0; j < vocab; ++j) ASSERT_NEAR(row[j], expected[j], kTolerance) << "id " << j;
  }
}

INSTANTIATE_TEST_SUITE_P(Ranks, GenerateTest, ::testing::Values(2, 4));

TEST(GenerateLinesTest, ABadLineIsAnsweredByNameAndTheRestGoOn) {
  struct Row {
    std::string line;
    std::string field;
  };
  const Row rows[] = {
      {R"({"id": "a", "ids": [1, 2], "texture": 1})", "texture"},
      {R"({"id": "b", "ids": [1, 2], "text": "both"})", "ids"},
      {R"({"id": "c"})", "ids"},
      {R"({"id": "d", "ids": [999999]})", "ids[0]"},
      {R"({"id": "e", "ids": []})", "prompt_ids"},
      {R"({"id": "f", "ids": [1], "temperature": "hot"})", "temperature"},
      {R"({"id": "g", "ids": [1], "top_p": 1.5})", "sampling.top_p"},
      {R"({"id": "h", "ids": [1], "max_tokens": 0})", "stop.max_tokens"},
      {R"({"id": "i", "ids": [1], "logprobs": 21})", "output.logprobs"},
      {R"({"id": "j", "ids": [1, 2], "logits_at": [5]})", "logits_at[0]"},
      {R"({"id": "k", "ids": [1, 2], "logits_at": [-1, 0]})", "logits_at[1]"},
      {R"({"id": "l", "ids": [1], "n": 2})", "n"},
      {R"({"id": "q", "ids": [1], "prompt_logprobs": 21})", "output.prompt_logprobs"},
      {R"({"id": "r", "ids": [1], "logprob_token_ids": [99999]})", "output.logprob_token_ids[0]"},
      {R"({"id": "m", "ids": [1], "presence_penalty": 3})", "sampling.presence_penalty"},
      {R"({"id": "n", "text": 7})", "text"},
      {"\xc3\x28 no JSON", "line"},
  };
  std::vector<std::string> lines;
  for (const Row& row : rows) lines.push_back(row.line);
  lines.emplace_back(
      R"({"id": {"any": 1}, "text": "good day", "max_tokens": 3, "logprobs": 2, "seed": 5,)"
      R"( "prompt_logprobs": 1, "logprob_token_ids": [1, 2, 3, 1]})");
  const std::vector<json> answers = Generate(1, lines);
  for (size_t i = 0; i + 1 < answers.size(); ++i) {
    SCOPED_TRACE(rows[i].line);
    ASSERT_TRUE(answers[i].contains("error")) << answers[i];
    EXPECT_EQ(answers[i]["error"]["field"], rows[i].field) << answers[i];
    EXPECT_NE(answers[i]["error"]["message"], "");
  }
  const json& good = answers.back();
  EXPECT_EQ(good["id"], (json{{"any", 1}}));
  EXPECT_FALSE(good.contains("error")) << good;
  EXPECT_EQ(good["logprobs"].size(), good["tokens"].size());
  // Two alternatives and the named ids that are not among them.
  std::set<int> ids;
  for (const json& entry : good["logprobs"][0]["top"]) ids.insert(entry["token_id"].get<int>());
  EXPECT_EQ(ids.size(), good["logprobs"][0]["top"].size());
  for (const int id : {1, 2, 3}) EXPECT_TRUE(ids.contains(id)) << id;
  ASSERT_GE(good["prompt_logprobs"].size(), 1U);
  EXPECT_EQ(good["prompt_logprobs"][0]["top"].size(), 1U);
  EXPECT_LT(good["prompt_logprobs"][0]["logprob"], 0);
}

// Over real ranks: the logits that rules change are gathered from both.
TEST(GenerateLinesTest, RulesBindTheAnswer) {
  const std::string prompt =
      R"({"id": 1, "ids": [1, 2, 3], "max_tokens": 12, "temperature": 0, "ignore_eos": true)";
  const std::vector<json> free = Generate(2, {prompt + "}"});
  const auto tokens = free[0]["tokens"].get<std::vector<int>>();
  const std::vector<json> bound = Generate(
      2, {prompt + R"(, "allowed_token_ids": [7, 300]})",
          prompt + absl::StrCat(", \"banned_sequences\": [[", tokens[0], "], [", tokens[1], "]]}"),
          prompt + R"(, "logit_bias": [{"token_id": 9, "bias": 100}]})",
          prompt + R"(, "presence_penalty": 2, "frequency_penalty": 2, "repetition_penalty": 9})"});
  const auto of = [&](size_t line) { return bound[line]["tokens"].get<std::vector<int>>(); };
  for (const int id : of(0)) EXPECT_TRUE(id == 7 || id == 300) << id;
  for (const int id : of(1)) EXPECT_TRUE(id != tokens[0] && id != tokens[1]) << id;
  EXPECT_EQ(of(2), std::vector<int>(12, 9));
  const std::vector<int> penalised = of(3);
  EXPECT_EQ(std::set<int>(penalised.begin(), penalised.end()).size(), 12U);  // none comes twice
}

}  // namespace
}  // namespace deltaserve::test
