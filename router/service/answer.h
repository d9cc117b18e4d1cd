#pragma once

// Answer: what Generate and Chat do differently, for all choices of a call. AnswerStream does the
// rest.

#include <cstdint>
#include <memory>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "deltaserve/v1/inference.pb.h"
#include "deltaserve/v1/world.pb.h"
#include "grpcpp/grpcpp.h"
#include "router/service/request_resolver.h"
#include "router/worlds/world_view.h"

namespace deltaserve {

// One event of a method, serialised.
struct AnswerEvent {
  grpc::ByteBuffer bytes;
  size_t ByteSizeLong() const { return bytes.Length(); }
};
inline grpc::ByteBuffer Serialised(const AnswerEvent& event) { return event.bytes; }
using AnswerEvents = std::vector<AnswerEvent>;

// A choice is one of the options' n answers to the prompt. Threads: one call at a time. Owner: its
// AnswerStream.
class Answer {
 public:
  virtual ~Answer() = default;

  virtual const v1::CallOptions& options() const = 0;

  // The world's request, that of choice 0: everything is checked, the prompt tokenised. Before all
  // calls below, which are of choices below n.
  virtual absl::StatusOr<v1::TokenRequest> Prepare(std::shared_ptr<const WorldFacts> facts,
                                                   const ResolverDefaults& defaults) = 0;

  // Each appends the events that it makes.
  virtual void AddPromptScores(const v1::TokenEvent::PromptScores& page, AnswerEvents* events) = 0;
  virtual void Start(const v1::Started& started, AnswerEvents* events) = 0;
  virtual absl::Status Add(uint32_t choice,
                           const v1::TokenEvent::Tokens& tokens,
                           AnswerEvents* events) = 0;
  // What the choice that `finished` names held back, then `finished`, completed with what the text
  // says: the stop string, tool calls, and the tokens counted here where `counts` is true (the
  // world did not end the answer).
  virtual void Finish(v1::Finished finished, bool counts, AnswerEvents* events) = 0;

  // True once the text itself has ended the choice.
  virtual bool IsOver(uint32_t choice) const = 0;
};

}  // namespace deltaserve
