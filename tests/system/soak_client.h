#pragma once

// One client of the soak test: requests of many kinds, one after the other, each judged at once.

#include <map>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "tests/system/bad_requests.h"
#include "tests/system/served_model.h"

namespace deltaserve::test {

// A request whose answer is known: `alone` is what came when nothing else ran. Generate or Chat.
struct Question {
  bool is_chat = false;
  v1::GenerateRequest generate;
  v1::ChatRequest chat;
  Answer alone;

  v1::CallOptions* options() {
    return is_chat ? chat.mutable_options() : generate.mutable_options();
  }
  const std::string& request_id() const {
    return is_chat ? chat.options().request_id() : generate.options().request_id();
  }
};

// Questions of both kinds, greedy and seeded, short and long, answered by `served`, which is idle.
std::vector<Question> AskAlone(ServedModel& served);

// What all clients found. Threads: any.
class SoakTally {
 public:
  struct Outcome {
    int64_t count = 0;
    absl::Duration longest;
  };

  void Count(const std::string& outcome, absl::Duration took = absl::ZeroDuration());
  void Fault(const std::string& what);

  std::map<std::string, Outcome> outcomes() const;
  std::vector<std::string> faults() const;  // the first twenty

 private:
  mutable absl::Mutex mutex_;
  std::map<std::string, Outcome> outcomes_ ABSL_GUARDED_BY(mutex_);
  std::vector<std::string> faults_ ABSL_GUARDED_BY(mutex_);
};

struct SoakClientOptions {
  uint64_t seed = 0;  // of what it draws
  absl::Time end;     // of the load: slow readers end with it
};

// Threads: one. Owner: the soak test; all that it is made from outlives it.
class SoakClient {
 public:
  SoakClient(ServedModel& served,
             const std::vector<Question>& questions,
             const std::vector<BadRequest>& bad_requests,
             SoakClientOptions options,
             SoakTally& tally);

  // Sends `question` by itself and keeps what comes.
  static void AnswerAlone(ServedModel& served, Question* question);

  // One request, to its end: the first of a kind that goes by the seed, so that some clients send
  // every kind, the others of kinds that are drawn.
  void Step();
  // More streams at once than the world has slots and places in its queue.
  void Burst();
  // A client process that dies in the middle of its answer, or bytes that are no HTTP/2.
  void BreakOff();

 private:
  struct Call;

  uint32_t Draw(uint32_t low, uint32_t high) {  // both included
    return low + static_cast<uint32_t>(random_() % (high - low + 1));
  }
  void Reconnect();
  Call Ask(const std::string& kind);
  void Judge(const Call& call, grpc::StatusCode allowed);

  void Complete();
  void Cancel();
  void MissDeadline();
  void ReadSlowly();
  void Abort();
  void StopAtString();
  void SendBad();
  void SendUnary();

  ServedModel& served_;
  const std::vector<Question>& questions_;
  const std::vector<BadRequest>& bad_requests_;
  const SoakClientOptions options_;
  std::mt19937_64 random_;
  SoakTally& tally_;
  bool is_first_ = true;
  bool met_full_queue_ = false;  // since the last Step
  uint64_t num_requests_ = 0;
  std::unique_ptr<v1::Inference::Stub> stub_;
};

}  // namespace deltaserve::test
