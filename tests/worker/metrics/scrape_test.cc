// What is read at a scrape, how it comes over HTTP, and that docs/metrics.md tells of all.

#include <fstream>
#include <sstream>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "prometheus/text_serializer.h"
#include "tests/worker/metrics/exposition.h"
#include "tests/worker/metrics/http_get.h"
#include "tests/worker/service/fake_engine.h"
#include "worker/metrics/metrics_server.h"
#include "worker/metrics/recorded_metrics.h"
#include "worker/metrics/sampled_metrics.h"

namespace deltaserve {
namespace {

using test::Exposition;
using test::HttpAnswer;
using test::HttpRequest;
using ::testing::AllOf;
using ::testing::HasSubstr;

struct FakeLink final : ControlLink {
  std::vector<PeerAge> PeerAges() const override { return ages; }
  void Wake() override {}
  absl::Status WaitForWake(absl::Time /*deadline*/) override { return absl::OkStatus(); }
  void SendLastWords(const PeerLoss& /*root*/) override {}
  void Close() override {}

  std::vector<PeerAge> ages;
};

class FakeCommunicator final : public Communicator {
 public:
  explicit FakeCommunicator(int size) : size_(size) {}

  int rank() const override { return 0; }
  int size() const override { return size_; }
  std::string Name() const override { return "fake"; }
  absl::StatusOr<Buffer> AllocateExchange(size_t /*bytes*/) override {
    return absl::UnimplementedError("");
  }
  void AllReduceSum(TensorView /*inout*/) override {}
  void ReduceAddNorm(const ReduceAddNormArgs& /*args*/) override {}
  void AllGather(TensorView /*in*/, TensorView /*out*/) override {}
  void Gather(TensorView /*in*/, TensorView /*out*/, int /*root*/) override {}
  void Broadcast(TensorView /*inout*/, int /*root*/) override {}
  CommunicatorStats Stats() const override {
    return {.calls = 7, .bytes = 4096, .time = absl::Milliseconds(1500)};
  }

 private:
  const int size_;
};

Exposition Parse(const std::string& text) {
  absl::StatusOr<Exposition> parsed = test::ParseExposition(text);
  EXPECT_TRUE(parsed.ok()) << parsed.status();
  return parsed.value_or(Exposition());
}

// The rows "| `name` | type | meaning |" of docs/metrics.md.
std::map<std::string, std::string> Documented() {
  std::ifstream file(DELTASERVE_SOURCE_DIR "/docs/metrics.md");
  std::map<std::string, std::string> types;
  for (std::string line; std::getline(file, line);) {
    const size_t name_end = line.find('`', 3);
    if (line.rfind("| `", 0) != 0 || name_end == std::string::npos) continue;
    const size_t type = line.find("| ", name_end) + 2;
    const std::string name = line.substr(3, name_end - 3);
    EXPECT_TRUE(
        types
            .emplace(name.substr(0, name.find('{')), line.substr(type, line.find(' ', type) - type))
            .second)
        << name;
  }
  return types;
}

class ScrapeTest : public testing::Test {
 protected:
  ScrapeTest() {
    link_.ages = {{.rank = 1, .age = absl::Milliseconds(250)},
                  {.rank = 2, .age = absl::Seconds(3)}};
    EngineLoad load;
    load.running = 5;
    load.waiting = 9;
    load.kv_blocks_used = 16;
    load.slots_used = 6;
    load.last_step_age = absl::Milliseconds(500);
    engine_.SetLoad(load);
  }

  Exposition Sampled(int ranks) {
    const FakeCommunicator comm(ranks);
    const SampledMetrics sampled("m", engine_, link_, comm);
    std::ostringstream out;
    prometheus::TextSerializer().Serialize(out, sampled.Collect());
    return Parse(out.str());
  }

  FakeEngine engine_;  // of 64 blocks and 8 slots
  FakeLink link_;
  FakeCommunicator comm_{3};
};

TEST_F(ScrapeTest, ReadsLoadRanksAndCollectives) {
  const Exposition all = Sampled(3);
  for (const Exposition::Sample& sample : all.samples) {
    EXPECT_EQ(sample.labels.at("model_name"), "m") << sample.name;
    EXPECT_EQ(sample.labels.at("engine"), "0") << sample.name;
  }
  EXPECT_EQ(all.Sum("vllm:num_requests_running"), 5);
  EXPECT_EQ(all.Sum("vllm:num_requests_waiting"), 9);
  EXPECT_EQ(all.Sum("vllm:kv_cache_usage_perc"), 0.25);
  EXPECT_EQ(all.Sum("vllm:cache_config_info", {{"block_size", "64"}, {"num_gpu_blocks", "64"}}), 1);
  EXPECT_EQ(all.Sum("deltaserve:state_slots"), 8);
  EXPECT_EQ(all.Sum("deltaserve:state_slots_used"), 6);
  EXPECT_EQ(all.Sum("deltaserve:step_age_seconds"), 0.5);
  EXPECT_EQ(all.Sum("deltaserve:rank_heartbeat_age_seconds", {{"rank", "1"}}), 0.25);
  EXPECT_EQ(all.Sum("deltaserve:rank_heartbeat_age_seconds", {{"rank", "2"}}), 3);
  EXPECT_EQ(all.Sum("deltaserve:collectives_total"), 7);
  EXPECT_EQ(all.Sum("deltaserve:collective_bytes_total"), 4096);
  EXPECT_EQ(all.Sum("deltaserve:collective_seconds_total"), 1.5);
}

TEST_F(ScrapeTest, AWorldOfOneRankHasNeitherHeartbeatsNorCollectives) {
  link_.ages.clear();
  const Exposition all = Sampled(1);
  EXPECT_EQ(all.types.size(), 7u);
  for (const auto& [name, type] : all.types) {
    EXPECT_EQ(name.find("rank_"), std::string::npos) << name;
    EXPECT_EQ(name.find("collective"), std::string::npos) << name;
  }
}

TEST_F(ScrapeTest, ComesOverHttpAsPrometheusAsksAndAsDocumented) {
  const auto recorded = std::make_shared<RecordedMetrics>("m", 4096);
  const auto sampled = std::make_shared<SampledMetrics>("m", engine_, link_, comm_);
  const auto server = MetricsServer::Start("127.0.0.1:0", {recorded, sampled});
  ASSERT_TRUE(server.ok()) << server.status();
  const std::string address = (*server)->address();
  EXPECT_EQ(address.rfind("127.0.0.1:", 0), 0u);
  recorded->OnRefused(v1::ERROR_CODE_QUEUE_FULL);
  const absl::StatusOr<HttpAnswer> answer = HttpRequest("GET", address, "/metrics");
  ASSERT_TRUE(answer.ok()) << answer.status();
  EXPECT_EQ(answer->code, 200);
  EXPECT_THAT(answer->headers, HasSubstr("Content-Type: text/plain; charset=utf-8\r\n"));
  const Exposition all = Parse(answer->body);
  EXPECT_EQ(all.Sum("deltaserve:requests_refused_total", {{"code", "QUEUE_FULL"}}), 1);
  EXPECT_EQ(all.Sum("vllm:num_requests_running"), 5);
  EXPECT_EQ(all.types, Documented());
  for (const auto& [method, path] : {std::pair("GET", "/"), std::pair("GET", "/metrics/../etc"),
                                     std::pair("GET", "/../../etc/passwd"),
                                     std::pair("PUT", "/metrics"), std::pair("POST", "/metrics")}) {
    const absl::StatusOr<HttpAnswer> other = HttpRequest(method, address, path);
    ASSERT_TRUE(other.ok()) << other.status();
    EXPECT_GE(other->code, 400) << method << " " << path << other->body;
  }

  const auto second = MetricsServer::Start(address, {});
  EXPECT_THAT(second.status().message(),
              AllOf(HasSubstr("--metrics-listen is " + address), HasSubstr("free port")));
}

TEST(MetricsServerTest, RefusesAddressesByTheFlagsName) {
  for (const std::string listen :
       {"", "9400", ":9400", "127.0.0.1", "127.0.0.1:", "127.0.0.1:x", "127.0.0.1:70000",
        "127.0.0.1:-1", "127.0.0.1:0,127.0.0.2:0", "127.0.0.1:0s", "192.0.2.1:0", "no.such:0"}) {
    const auto server = MetricsServer::Start(listen, {});
    EXPECT_EQ(server.status().code(), absl::StatusCode::kInvalidArgument) << listen;
    EXPECT_THAT(std::string(server.status().message()),
                HasSubstr("--metrics-listen is " + listen + ": "));
  }
}

}  // namespace
}  // namespace deltaserve
