#pragma once

// Lines of deltaserve-generate: JSON in, engine requests; engine results, JSON out.

#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "router/service/answer_text.h"
#include "router/worlds/world_view.h"
#include "worker/engine/engine.h"
#include "worker/engine/request.h"
#include "worker/service/world_info.h"

namespace deltaserve {

// What lines are read against. The tokenizer of facts.text may be null: then a line must bring ids,
// and has no text in its answer.
struct LineReader {
  WorldFacts facts;
  WorldInfo info;
  EngineCapacity capacity;
  uint32_t default_max_tokens = 4096;
  uint64_t default_seed = 0;
};

// A line that can be run.
struct ParsedLine {
  Request request;
  v1::TokenRequest resolved;
  AnswerTextOptions text;  // a stop string cuts the answer after the engine has made it
};

// Errors, as proto/error.h makes them: INVALID_FIELD (not JSON, unknown or bad field, as in the
// router), UNSUPPORTED, CONTEXT_TOO_LONG. `number` counts lines from 1 and names the request.
absl::StatusOr<ParsedLine> ReadLine(const std::string& line,
                                    int64_t number,
                                    const LineReader& reader);

// What a request gave.
struct LineResult {
  std::vector<int32_t> tokens;
  std::vector<TokenLogProb> logprobs;         // empty where none were asked for
  std::vector<TokenLogProb> prompt_logprobs;  // the same; of the prompt from its second token on
  std::vector<std::vector<float>> logits;     // a row a position asked for
  Ended ended;
};

// {"id", "tokens", "text", "finish_reason", and where asked for "logprobs", "prompt_logprobs",
// "logits"}
std::string WriteLine(const std::string& id,
                      const ParsedLine& line,
                      const LineResult& result,
                      const LineReader& reader);

}  // namespace deltaserve
