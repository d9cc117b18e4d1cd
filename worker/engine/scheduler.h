#pragma once

// Scheduler: which rows run next. Pure host logic: no device, no MPI, no clock; time and token
// budget are arguments.

#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <optional>
#include <tuple>
#include <utility>
#include <variant>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/status/status.h"
#include "absl/time/time.h"
#include "worker/cache/block_pool.h"
#include "worker/engine/admission.h"
#include "worker/engine/request.h"
#include "worker/engine/sequence.h"
#include "worker/engine/step_plan.h"
#include "worker/engine/step_result.h"

namespace deltaserve {

// What happened to one request, for its sink.
struct SchedulerEvent {
  struct Admitted {};
  struct Logits {
    int64_t position = 0;
    std::vector<float> row = {};
  };
  struct PromptScores {
    int64_t first_position = 0;
    std::vector<TokenLogProb> tokens = {};
  };
  struct Tokens {
    uint32_t first_index = 0;
    std::vector<int32_t> ids = {};
    std::vector<TokenLogProb> logprobs = {};  // empty or one an id
  };

  uint64_t ticket = 0;
  // absl::Status: the request failed. Ended and absl::Status are a request's last event.
  std::variant<Admitted, Logits, PromptScores, Tokens, Ended, absl::Status> what;
};

struct SchedulerOptions {
  int64_t slots = 0;
  int64_t kv_blocks = 0;
};

// Engine thread. Requests must have passed CheckRequest and fit into the options.
//
// A request gets a slot and KV blocks for prompt + max_tokens when it is admitted and holds them
// until it ends. Plans may be made before the results of earlier ones are committed; results must
// come back in order.
//
// Order of admission and of chunks: larger priority first, then what is due first (at its deadline,
// but at most kPatience after it came), then arrival. Nobody overtakes the head of the queue: where
// it does not fit, nobody is admitted until enough has ended, so small requests never keep a large
// one waiting. Within a priority nobody starves: only what comes within kPatience can be due before
// a request. Between priorities somebody can, and is meant to: a larger one always goes first.
class Scheduler {
 public:
  explicit Scheduler(const SchedulerOptions& options);

  // How long a request without a deadline, or with a later one, gives way to nearer deadlines.
  static constexpr absl::Duration kPatience = absl::Seconds(60);

  // Fails with DEADLINE at once where it cannot be over by its deadline, however well all goes at
  // `speed`. Where speed is not known, only if the deadline has passed.
  void Submit(uint64_t ticket, Request request, absl::Time now, const Speed& speed);

  // Ends a request wherever it is; events follow. False where it has ended or never was.
  bool Cancel(uint64_t ticket);
  bool Expire(uint64_t ticket);  // as where its deadline has passed
  bool Fail(uint64_t ticket, const absl::Status& status);
  void FailAll(const absl::Status& status);

  // Ends what is past its deadline, admits, and plans: every sequence that can decode, then chunks
  // of waiting prompts: up to `token_budget` prompt tokens (at least one chunk of 64 whatever the
  // budget), 64 for each in turn, then what is left to the first. nullopt where there is no row to
  // run.
  std::optional<StepPlan> Next(absl::Time now, int64_t token_budget);

  // How long until the head of the queue (or where it is empty, a request of one block) is
  // admitted, if all that runs goes on to its last token.
  absl::Duration TimeToAdmission(const Speed& speed) const;

  // The plan that carries only what has ended since the last one.
  StepPlan DeltasOnly(PlanKind kind);

  // The result of the oldest plan of Next() not yet committed.
  void Commit(StepResult result);

  // All since the last call, in order.
  std::vector<SchedulerEvent> TakeEvents();

  bool empty() const { return sequences_.empty(); }
  int64_t num_running() const { return static_cast<int64_t>(running_.size()); }
  int64_t num_waiting() const { return static_cast<int64_t>(waiting_.size()); }
  int64_t waiting_tokens() const { return waiting_tokens_; }
  int64_t free_slots() const { return static_cast<int64_t>(free_slots_.size()); }
  int64_t free_blocks() const { return blocks_.num_free(); }
  int64_t used_blocks() const { return blocks_.num_blocks() - blocks_.num_free(); }
  // The earliest deadline of any request.
  absl::Time next_deadline() const;

 private:
  // Priority, negated; when it is due; arrival.
  using Order = std::tuple<int64_t, absl::Time, uint64_t>;
  using Queue = std::map<Order, Sequence*>;

  // Tokens of a prompt that one chunk scores.
  struct Page {
    uint64_t ticket = 0;
    int64_t first_position = 0;
    int64_t count = 0;
  };

  // Whom the rows of a plan belong to, until its result is committed.
  struct Inflight {
    std::vector<uint64_t> sampled;
    std::vector<std::pair<uint64_t, int64_t>> logits;  // ticket, position
    std::vector<Page> pages;
  };

  static Order OrderOf(const Sequence& sequence);
  Sequence* Find(uint64_t ticket);
  void CheckDeadline(const Sequence& sequence, absl::Time now, const Speed& speed);
  Ahead AheadOf(const Sequence& sequence) const;
  void ExpireDeadlines(absl::Time now);
  void Admit(StepPlan* plan);
  void PlanDecodes(StepPlan* plan, Inflight* inflight);
  void PlanChunks(int64_t token_budget, StepPlan* plan, Inflight* inflight);
  int64_t ChunkLength(const Sequence& sequence, int64_t budget, int64_t logit_room) const;
  void AddChunk(Sequence& sequence, int64_t length, StepPlan* plan, Inflight* inflight);
  // Of the next `length` tokens, the first so many score the token after them.
  static int64_t ScoresWithin(const Sequence& sequence, int64_t length);
  // Positions of logits_at among the `length` tokens from `begin` on.
  static int64_t LogitsWithin(const Sequence& sequence, int64_t begin, int64_t length);
  // PrefillChunk::num_logit_rows of a chunk of the next `length` tokens.
  static int64_t LogitRowsWithin(const Sequence& sequence, int64_t length);
  void CommitPrompts(const Inflight& inflight, StepResult* result);
  void TakeToken(Sequence& sequence, int32_t id, TokenLogProb logprob);
  // Whether `id`, the last token generated, is the last of all, and the end that it makes.
  bool EndsAt(const Sequence& sequence, int32_t id) const;
  void EndAfter(Sequence& sequence, int32_t id);
  void End(Sequence& sequence, Ended ended);
  // Frees all that it holds and forgets it.
  void Release(Sequence& sequence);

  BlockPool blocks_;
  std::vector<int32_t> free_slots_;  // the next is at the back
  absl::flat_hash_map<uint64_t, std::unique_ptr<Sequence>> sequences_;
  Queue waiting_, running_;
  std::multimap<absl::Time, uint64_t> deadlines_;  // finite ones
  uint64_t next_arrival_ = 0;
  int64_t waiting_tokens_ = 0;
  std::vector<int32_t> closes_;  // slots that ended since the last plan
  std::deque<Inflight> inflight_;
  std::vector<SchedulerEvent> events_;
};

}  // namespace deltaserve
