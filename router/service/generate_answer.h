#pragma once

// GenerateAnswer: the answers to a prompt of text or ids, as text.

#include <memory>
#include <vector>

#include "router/service/answer.h"
#include "router/service/answer_text.h"

namespace deltaserve {

class GenerateAnswer final : public Answer {
 public:
  explicit GenerateAnswer(v1::GenerateRequest request) : request_(std::move(request)) {}

  const v1::CallOptions& options() const override { return request_.options(); }
  absl::StatusOr<v1::TokenRequest> Prepare(std::shared_ptr<const WorldFacts> facts,
                                           const ResolverDefaults& defaults) override;
  void AddPromptScores(const v1::TokenEvent::PromptScores& page, AnswerEvents* events) override;
  void Start(const v1::Started& started, AnswerEvents* events) override;
  absl::Status Add(uint32_t choice,
                   const v1::TokenEvent::Tokens& tokens,
                   AnswerEvents* events) override;
  void Finish(v1::Finished finished, bool counts, AnswerEvents* events) override;
  bool IsOver(uint32_t choice) const override { return texts_[choice].stop_string().has_value(); }

 private:
  absl::StatusOr<std::vector<int32_t>> PromptIds() const;
  void Echo(AnswerEvents* events) const;

  const v1::GenerateRequest request_;
  std::shared_ptr<const WorldFacts> facts_;
  std::vector<int32_t> prompt_;
  std::vector<AnswerText> texts_;  // one a choice
};

}  // namespace deltaserve
