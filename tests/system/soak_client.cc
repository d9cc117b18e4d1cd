#include "tests/system/soak_client.h"

#include <arpa/inet.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "kernels/base/check.h"
#include "proto/grpc_server.h"

namespace deltaserve::test {
namespace {

// Of a stream that nobody cuts short: one that takes longer is stuck.
constexpr absl::Duration kPatience = absl::Minutes(5);
// Of an answer that is to be cut short: its room in the cache is large, too.
constexpr uint32_t kEndless = 1000;
constexpr int kBurst = 30;
constexpr absl::Duration kAfterFullQueue = absl::Milliseconds(200);
constexpr size_t kMostFaults = 20;

std::string Words(uint32_t count, uint32_t seed) {
  std::string text = "The list";
  for (uint32_t i = 0; i < count; ++i) absl::StrAppend(&text, " ", seed * 7 + i);
  return text;
}

Question MakeQuestion(bool is_chat, uint32_t words, uint32_t max_tokens, uint32_t seed) {
  Question question;
  question.is_chat = is_chat;
  const std::string text = Words(words, seed);
  if (is_chat) {
    v1::Message* message = question.chat.add_messages();
    message->set_role("user");
    message->add_content()->set_text(text);
    if (seed % 2 == 0) question.chat.set_thinking_budget(8);
  } else {
    question.generate.set_text(text);
  }
  *question.options() = GreedyRequest("", max_tokens).options();
  if (seed % 4 >= 2) {
    v1::SamplingParams* sampling = question.options()->mutable_sampling();
    sampling->set_temperature(1);
    sampling->set_seed(seed);
    if (seed % 8 >= 6) sampling->set_top_p(0.9F);
    if (seed % 16 >= 14) sampling->set_repetition_penalty(1.3F);
  }
  return question;
}

// Connects to HOST:PORT, writes `bytes` and breaks the connection off; false where it cannot.
bool SendBytesAndReset(const std::string& address, const std::string& bytes) {
  const size_t colon = address.rfind(':');
  int port = 0;
  sockaddr_in to = {};
  to.sin_family = AF_INET;
  if (!absl::SimpleAtoi(address.substr(colon + 1), &port) ||
      inet_pton(AF_INET, address.substr(0, colon).c_str(), &to.sin_addr) != 1) {
    return false;
  }
  to.sin_port = htons(static_cast<uint16_t>(port));
  const int file = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  const bool sent =
      connect(file, reinterpret_cast<const sockaddr*>(&to), sizeof(to)) == 0 &&
      send(file, bytes.data(), bytes.size(), MSG_NOSIGNAL) == static_cast<ssize_t>(bytes.size());
  const linger reset = {.l_onoff = 1, .l_linger = 0};
  setsockopt(file, SOL_SOCKET, SO_LINGER, &reset, sizeof(reset));
  close(file);
  return sent;
}

}  // namespace

void SoakTally::Count(const std::string& outcome, absl::Duration took) {
  absl::MutexLock lock(&mutex_);
  Outcome& one = outcomes_[outcome];
  ++one.count;
  one.longest = std::max(one.longest, took);
}

void SoakTally::Fault(const std::string& what) {
  absl::MutexLock lock(&mutex_);
  ++outcomes_["FAULT"].count;
  if (faults_.size() < kMostFaults) faults_.push_back(what);
}

std::map<std::string, SoakTally::Outcome> SoakTally::outcomes() const {
  absl::MutexLock lock(&mutex_);
  return outcomes_;
}

std::vector<std::string> SoakTally::faults() const {
  absl::MutexLock lock(&mutex_);
  return faults_;
}

// One streaming call of a question.
struct SoakClient::Call {
  std::string kind;
  Question question;
  Answer answer = {};
  absl::Duration patience = kPatience;
  absl::Time start = absl::InfiniteFuture();
  std::unique_ptr<grpc::ClientContext> context = std::make_unique<grpc::ClientContext>();
  std::unique_ptr<grpc::ClientReader<v1::GenerateEvent>> generate = nullptr;
  std::unique_ptr<grpc::ClientReader<v1::ChatEvent>> chat = nullptr;

  void Start(v1::Inference::Stub& stub) {
    start = absl::Now();
    context->set_deadline(absl::ToChronoTime(start + patience));
    if (question.is_chat) {
      chat = stub.Chat(context.get(), question.chat);
    } else {
      generate = stub.Generate(context.get(), question.generate);
    }
  }

  // The next event, added to the answer; false at the end.
  bool Read() { return question.is_chat ? ReadFrom(*chat) : ReadFrom(*generate); }

  template <typename Event>
  bool ReadFrom(grpc::ClientReader<Event>& reader) {
    Event event;
    if (!reader.Read(&event)) return false;
    if (event.has_finished()) answer.finished = event.finished();
    if (!event.has_delta()) return true;
    if constexpr (std::is_same_v<Event, v1::ChatEvent>) {
      absl::StrAppend(&answer.text, event.delta().reasoning(), event.delta().content());
    } else {
      answer.text += event.delta().text();
    }
    if (event.delta().first_index() != answer.tokens.size()) answer.in_order = false;
    for (const uint32_t id : event.delta().tokens().ids()) answer.tokens.push_back(id);
    return true;
  }

  void ReadAll() {
    while (Read()) {
    }
    answer.status = question.is_chat ? chat->Finish() : generate->Finish();
  }
};

std::vector<Question> AskAlone(ServedModel& served) {
  std::vector<Question> questions;
  constexpr uint32_t kWords[] = {0, 1, 5, 12, 3, 20, 2, 30, 7, 9, 1, 45, 6, 4, 60, 200};
  for (uint32_t i = 0; i < std::size(kWords); ++i) {
    questions.push_back(MakeQuestion(i % 3 == 1, kWords[i], i % 5 == 0 ? 160 : 40, i));
  }
  for (Question& question : questions) {
    SoakClient::AnswerAlone(served, &question);
  }
  return questions;
}

SoakClient::SoakClient(ServedModel& served,
                       const std::vector<Question>& questions,
                       const std::vector<BadRequest>& bad_requests,
                       SoakClientOptions options,
                       SoakTally& tally)
    : served_(served),
      questions_(questions),
      bad_requests_(bad_requests),
      options_(options),
      random_(options.seed),
      tally_(tally) {
  Reconnect();
}

void SoakClient::AnswerAlone(ServedModel& served, Question* question) {
  Call call{.kind = "alone", .question = *question};
  call.Start(served.inference());
  call.ReadAll();
  DS_CHECK(call.answer.status.ok()) << call.answer.status.error_message();
  question->alone = std::move(call.answer);
}

void SoakClient::Reconnect() {
  stub_ = v1::Inference::NewStub(grpc::CreateCustomChannel(
      served_.router_address(), grpc::InsecureChannelCredentials(), ClientChannelArguments()));
}

void SoakClient::Step() {
  struct Kind {
    void (SoakClient::*step)();
    uint32_t percent;
  };
  constexpr Kind kKinds[] = {
      {&SoakClient::Complete, 30},    {&SoakClient::Cancel, 16},    {&SoakClient::MissDeadline, 16},
      {&SoakClient::Abort, 10},       {&SoakClient::SendBad, 17},   {&SoakClient::SendUnary, 4},
      {&SoakClient::StopAtString, 5}, {&SoakClient::ReadSlowly, 2},
  };
  // So that what is refused, at once, does not outnumber all else.
  if (std::exchange(met_full_queue_, false)) absl::SleepFor(kAfterFullQueue);
  size_t kind = options_.seed % std::size(kKinds);
  if (!std::exchange(is_first_, false)) {
    uint32_t left = Draw(1, 100);
    for (kind = 0; left > kKinds[kind].percent; ++kind) left -= kKinds[kind].percent;
  }
  if (Draw(1, 25) == 1) Reconnect();
  (this->*kKinds[kind].step)();
}

SoakClient::Call SoakClient::Ask(const std::string& kind) {
  Call call{.kind = kind,
            .question = questions_[Draw(0, static_cast<uint32_t>(questions_.size()) - 1)]};
  v1::CallOptions* options = call.question.options();
  options->set_request_id(absl::StrCat("soak-", options_.seed, "-", num_requests_++));
  options->set_priority(static_cast<int32_t>(Draw(0, 6)) - 3);
  return call;
}

// Judges how `call`, whose status is there, ended.
void SoakClient::Judge(const Call& call, grpc::StatusCode allowed) {
  const grpc::Status& status = call.answer.status;
  const absl::Duration took = absl::Now() - call.start;
  const auto fault = [&](const std::string& what) {
    tally_.Fault(absl::StrCat(call.kind, " ", call.question.request_id(), ": ", what));
  };
  if (!call.answer.in_order) fault("a delta's first_index does not follow");
  const std::vector<uint32_t>& tokens = call.answer.tokens;
  const std::vector<uint32_t>& alone = call.question.alone.tokens;
  const auto both = static_cast<ptrdiff_t>(std::min(tokens.size(), alone.size()));
  if (!RanksAreOnGpus() && !std::equal(tokens.begin(), tokens.begin() + both, alone.begin())) {
    fault(absl::StrCat("its tokens are not those of the same request when alone, ", both,
                       " of them compared"));
  }
  if (status.ok()) {
    if (call.answer.finished.reason() == v1::FINISH_REASON_UNSPECIFIED) fault("no reason to end");
    return tally_.Count(absl::StrCat(call.kind, " ended"), took);
  }
  if (status.error_code() == grpc::RESOURCE_EXHAUSTED) {
    const v1::ErrorDetail detail = DetailOf(status);
    if (detail.code() == v1::ERROR_CODE_QUEUE_FULL && detail.retryable() &&
        detail.has_retry_after()) {
      met_full_queue_ = true;
      return tally_.Count(absl::StrCat(call.kind, " met a full queue"), took);
    }
  }
  if (status.error_code() == allowed) {
    return tally_.Count(
        absl::StrCat(call.kind, allowed == grpc::CANCELLED ? " was cancelled" : " was out of time"),
        took);
  }
  fault(absl::StrCat("status ", status.error_code(), ": ", status.error_message()));
}

void SoakClient::Complete() {
  Call call = Ask("whole");
  const auto most = static_cast<uint32_t>(call.question.alone.tokens.size());
  const uint32_t max_tokens = Draw(1, 4) == 1 ? most : Draw(1, most);
  call.question.options()->mutable_stop()->set_max_tokens(max_tokens);
  call.Start(*stub_);
  call.ReadAll();
  Judge(call, grpc::OK);
  if (!call.answer.status.ok()) return;
  if (call.answer.tokens.size() != max_tokens ||
      call.answer.finished.reason() != v1::FINISH_REASON_LENGTH ||
      (max_tokens == most && !RanksAreOnGpus() && call.answer.text != call.question.alone.text)) {
    tally_.Fault(absl::StrCat("a whole answer of ", max_tokens, " tokens has ",
                              call.answer.tokens.size(), " and the text ", call.answer.text));
  }
}

void SoakClient::Cancel() {
  Call call = Ask("cancel");
  call.question.options()->mutable_stop()->set_max_tokens(kEndless);
  call.Start(*stub_);
  const uint32_t reads = Draw(0, 2) == 0 ? 0 : Draw(0, 30);
  bool is_open = true;
  for (uint32_t i = 0; i < reads && is_open; ++i) is_open = call.Read();
  if (reads == 0) absl::SleepFor(absl::Milliseconds(Draw(0, 40)));
  call.context->TryCancel();
  call.ReadAll();
  Judge(call, grpc::CANCELLED);
}

void SoakClient::MissDeadline() {
  Call call = Ask("deadline");
  call.question.options()->mutable_stop()->set_max_tokens(kEndless);
  call.patience = absl::Milliseconds(Draw(0, 1) == 0 ? Draw(0, 30) : Draw(30, 600));
  call.Start(*stub_);
  call.ReadAll();
  Judge(call, grpc::DEADLINE_EXCEEDED);
}

void SoakClient::ReadSlowly() {
  Call call = Ask("slow");
  call.question.options()->mutable_stop()->set_max_tokens(300);
  call.question.options()->mutable_output()->set_logprobs(20);  // more than the pipes hold
  call.Start(*stub_);
  const auto pause = [&] {
    absl::SleepFor(std::min(absl::Milliseconds(Draw(200, 4000)),
                            std::max(absl::ZeroDuration(), (options_.end - absl::Now()) / 2)));
  };
  pause();
  for (uint32_t i = Draw(1, 20); i > 0 && call.Read(); --i) {
  }
  pause();
  call.ReadAll();
  Judge(call, grpc::OK);
  if (call.answer.status.ok() && call.answer.tokens.size() != 300) {
    tally_.Fault(absl::StrCat("a slow reader got ", call.answer.tokens.size(), " of 300 tokens"));
  }
}

void SoakClient::Abort() {
  Call call = Ask("abort");
  call.question.options()->mutable_stop()->set_max_tokens(kEndless);
  call.Start(*stub_);
  bool is_open = true;
  for (uint32_t reads = Draw(0, 12); reads > 0 && is_open; --reads) is_open = call.Read();
  // A router that has not seen the call yet does not know it: then it is asked again.
  v1::AbortResponse response;
  grpc::Status status;
  const absl::Time patience = absl::Now() + kPatience;
  while (is_open && status.ok() && response.aborted_size() == 0 && absl::Now() < patience) {
    grpc::ClientContext context;
    context.set_deadline(absl::ToChronoTime(patience));
    v1::AbortRequest request;
    request.add_request_ids(call.question.options()->request_id());
    status = stub_->Abort(&context, request, &response);
    // A call that was refused is not known either.
    if (response.aborted_size() == 0) is_open = call.Read();
  }
  call.ReadAll();
  Judge(call, grpc::OK);
  if (!status.ok()) tally_.Fault(absl::StrCat("Abort: ", status.error_message()));
  if (call.answer.status.ok() && call.answer.finished.reason() != v1::FINISH_REASON_CANCELLED &&
      call.answer.tokens.size() < kEndless) {
    tally_.Fault("an aborted answer did not end as cancelled");
  }
}

void SoakClient::StopAtString() {
  Call call = Ask("stop");
  const std::string& text = call.question.alone.text;
  const std::string stop = Middle(text);
  call.question.options()->add_stop_strings(stop);
  call.question.options()->set_stop_in_reasoning(true);
  call.Start(*stub_);
  call.ReadAll();
  Judge(call, grpc::OK);
  // Where the answer may be another one than alone, it may not have the string.
  const bool is_cut = RanksAreOnGpus() ? call.answer.text.find(stop) == std::string::npos
                                       : call.answer.text == text.substr(0, text.find(stop));
  if (call.answer.status.ok() && !is_cut) {
    tally_.Fault(absl::StrCat("stop string ", stop, " left the text ", call.answer.text));
  }
}

void SoakClient::SendBad() {
  const BadRequest& bad = bad_requests_[Draw(0, static_cast<uint32_t>(bad_requests_.size()) - 1)];
  const grpc::Status status = bad.send(served_);
  // A full queue may be told first.
  const std::string fault = Fault(bad, status);
  if (!fault.empty() && DetailOf(status).code() != v1::ERROR_CODE_QUEUE_FULL) tally_.Fault(fault);
  tally_.Count("bad was refused");
}

void SoakClient::SendUnary() {
  const Question& question = questions_[Draw(0, static_cast<uint32_t>(questions_.size()) - 1)];
  const auto context = [] {
    auto made = std::make_unique<grpc::ClientContext>();
    made->set_deadline(absl::ToChronoTime(absl::Now() + kPatience));
    return made;
  };
  v1::TokenizeRequest tokenize;
  if (question.is_chat) {
    *tokenize.mutable_chat() = question.chat;
  } else {
    tokenize.set_text(question.generate.text());
  }
  v1::TokenizeResponse tokens;
  const grpc::Status tokenized = stub_->Tokenize(context().get(), tokenize, &tokens);
  v1::DetokenizeRequest detokenize;
  *detokenize.mutable_tokens() = tokens.tokens();
  detokenize.set_skip_special_tokens(false);
  v1::DetokenizeResponse text;
  const grpc::Status detokenized = stub_->Detokenize(context().get(), detokenize, &text);
  v1::ListModelsResponse models;
  const grpc::Status listed = stub_->ListModels(context().get(), {}, &models);
  for (const grpc::Status& status : {tokenized, detokenized, listed}) {
    if (!status.ok()) tally_.Fault(absl::StrCat("a unary call: ", status.error_message()));
  }
  if (text.text() != (question.is_chat ? tokens.rendered() : tokenize.text())) {
    tally_.Fault(absl::StrCat("tokens of a text are those of ", text.text()));
  }
  if (models.models_size() != 1 || models.models(0).worlds_ready() != 1) {
    tally_.Fault("ListModels knows no world that is ready");
  }
  tally_.Count("unary was answered");
}

void SoakClient::Burst() {
  std::vector<Call> calls;
  for (int i = 0; i < kBurst; ++i) {
    calls.push_back(Ask("burst"));
    calls.back().question.options()->mutable_stop()->set_max_tokens(16);
    calls.back().Start(*stub_);
  }
  for (Call& call : calls) {
    call.ReadAll();
    Judge(call, grpc::OK);
  }
}

void SoakClient::BreakOff() {
  if (Draw(0, 1) == 0) {
    const TempDir folder;
    Process client({Binary("chat"), "--router", served_.router_address(), "--prompt",
                    Words(Draw(1, 60), Draw(1, 99)), "--max-tokens", absl::StrCat(kEndless)},
                   folder / "log");
    absl::SleepFor(absl::Milliseconds(Draw(20, 400)));
    tally_.Count("a client process was killed");  // by its destructor
    return;
  }
  std::string bytes = Draw(0, 1) == 0 ? "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" : "GET / HTTP/1.1\r\n";
  for (uint32_t i = Draw(0, 200); i > 0; --i) bytes += static_cast<char>(Draw(0, 255));
  if (!SendBytesAndReset(served_.router_address(), bytes)) {
    tally_.Fault("the router takes no connection");
  }
  tally_.Count("bytes that are no call");
}

}  // namespace deltaserve::test
