#include "tests/system/bad_requests.h"

#include <limits>
#include <memory>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "deltaserve/v1/inference.pb.h"
#include "deltaserve/v1/world.pb.h"
#include "google/protobuf/message.h"
#include "google/protobuf/stubs/logging.h"
#include "proto/grpc_server.h"
#include "tests/worker/service/raw_client.h"

namespace deltaserve::test {
namespace {

using google::protobuf::FieldDescriptor;
using google::protobuf::Message;
using Send = std::function<grpc::Status(ServedModel&)>;
template <typename Request>
using Spoil = std::function<void(Request&)>;
using G = v1::GenerateRequest;
using C = v1::ChatRequest;
using O = v1::CallOptions;
using W = v1::TokenRequest;

constexpr v1::ErrorCode kBad = v1::ERROR_CODE_INVALID_FIELD;
constexpr v1::ErrorCode kUnsupported = v1::ERROR_CODE_UNSUPPORTED;
constexpr v1::ErrorCode kTooLong = v1::ERROR_CODE_CONTEXT_TOO_LONG;
constexpr v1::ErrorCode kNoModel = v1::ERROR_CODE_MODEL_NOT_FOUND;
constexpr v1::ErrorCode kOfGrpc = v1::ERROR_CODE_UNSPECIFIED;
constexpr char kNotUtf8[] = "\xff\xfe";

std::unique_ptr<grpc::ClientContext> Context() {
  auto context = std::make_unique<grpc::ClientContext>();
  context->set_deadline(absl::ToChronoTime(absl::Now() + absl::Minutes(1)));
  return context;
}

template <typename Event>
grpc::Status End(const std::unique_ptr<grpc::ClientReader<Event>>& reader) {
  Event event;
  while (reader->Read(&event)) {
  }
  return reader->Finish();
}

Send Generate(const Spoil<G>& spoil) {
  G request = GreedyRequest("Hello", 4);
  spoil(request);
  return [request](ServedModel& served) {
    const auto context = Context();
    return End(served.inference().Generate(context.get(), request));
  };
}

// Generate with options that are spoilt.
Send Options(const Spoil<O>& spoil) {
  return Generate([&](G& request) { spoil(*request.mutable_options()); });
}

v1::Message* Say(C& request, const std::string& role, const std::string& text) {
  v1::Message* message = request.add_messages();
  message->set_role(role);
  message->add_content()->set_text(text);
  return message;
}

Send Chat(const Spoil<C>& spoil) {
  C request;
  Say(request, "user", "Hello");
  *request.mutable_options() = GreedyRequest("", 4).options();
  spoil(request);
  return [request](ServedModel& served) {
    const auto context = Context();
    return End(served.inference().Chat(context.get(), request));
  };
}

Send Tokenize(const Spoil<v1::TokenizeRequest>& spoil) {
  v1::TokenizeRequest request;
  spoil(request);
  return [request](ServedModel& served) {
    v1::TokenizeResponse response;
    return served.inference().Tokenize(Context().get(), request, &response);
  };
}

Send Detokenize(const Spoil<v1::DetokenizeRequest>& spoil) {
  v1::DetokenizeRequest request;
  spoil(request);
  return [request](ServedModel& served) {
    v1::DetokenizeResponse response;
    return served.inference().Detokenize(Context().get(), request, &response);
  };
}

// Straight to rank 0.
Send World(const Spoil<W>& spoil) {
  W request;
  request.add_prompt_ids(5);
  request.mutable_sampling()->set_temperature(0);
  request.mutable_stop()->set_max_tokens(4);
  spoil(request);
  return [request](ServedModel& served) {
    const auto context = Context();
    return End(served.world_stub().Generate(context.get(), request));
  };
}

// Any bytes to any method of the router.
Send Raw(const std::string& method, const std::string& bytes) {
  return [method, bytes](ServedModel& served) {
    RawCall call(served.router_address(), method, bytes);
    while (call.Read().has_value()) {
    }
    return call.Finish();
  };
}

// gRPC answers it by closing the connection, so it has one of its own.
grpc::Status FloodMetadata(ServedModel& served) {
  const auto stub = v1::Inference::NewStub(grpc::CreateCustomChannel(
      served.router_address(), grpc::InsecureChannelCredentials(), ClientChannelArguments()));
  const auto context = Context();
  for (int i = 0; i < 40; ++i) {
    context->AddMetadata(absl::StrCat("x-flood-", i), std::string(1000, 'x'));
  }
  return End(stub->Generate(context.get(), GreedyRequest("Hello", 4)));
}

std::vector<BadRequest> OfSampling(uint32_t num_tokens) {
  constexpr float kInf = std::numeric_limits<float>::infinity();
  constexpr float kNan = std::numeric_limits<float>::quiet_NaN();
  struct Row {
    const char* field;
    std::vector<float> values;
    const char* range;
    const char* remedy;
  };
  const Row rows[] = {
      {"temperature", {kNan, kInf, -kInf, -0.5F, 2.5F}, "in [0, 2]", "use 0 for greedy decoding"},
      {"top_p", {kNan, kInf, -0.5F, 0, 1.5F}, "in (0, 1]", "use 1 to turn it off"},
      {"min_p", {kNan, kInf, -0.5F, 1.5F}, "in [0, 1]", "use 0 to turn it off"},
      {"presence_penalty", {kNan, -kInf, -3, 3}, "in [-2, 2]", "use 0 for none"},
      {"frequency_penalty", {kNan, kInf, -3, 3}, "in [-2, 2]", "use 0 for none"},
      {"repetition_penalty", {kNan, kInf, -1, 0}, "finite and above 0", "use 1 for none"},
  };
  std::vector<BadRequest> all;
  for (const Row& row : rows) {
    for (const float value : row.values) {
      const std::string field = absl::StrCat("sampling.", row.field);
      all.push_back({absl::StrCat(field, " is ", value), kBad, field,
                     absl::StrCat(field, " must be ", row.range, ", got ", value, "; ", row.remedy),
                     Options([&](O& o) {
                       v1::SamplingParams& sampling = *o.mutable_sampling();
                       sampling.GetReflection()->SetFloat(
                           &sampling, sampling.GetDescriptor()->FindFieldByName(row.field), value);
                     })});
    }
  }
  const std::string beyond = absl::StrCat("must be below ", num_tokens, ", got ", num_tokens);
  const std::vector<BadRequest> lists = {
      {"a temperature too small for f32", kBad, "sampling.temperature", "use 0 (greedy) or",
       Options([](O& o) { o.mutable_sampling()->set_temperature(1e-9F); })},
      {"top_k is -2", kBad, "sampling.top_k", "must be -1 or more, got -2; use 0 or -1",
       Options([](O& o) { o.mutable_sampling()->set_top_k(-2); })},
      {"a bias of no token", kBad, "sampling.logit_bias[0].token_id", beyond,
       Options([=](O& o) { o.mutable_sampling()->add_logit_bias()->set_token_id(num_tokens); })},
      {"a bias is NaN", kBad, "sampling.logit_bias[0].bias", "in [-100, 100], got nan; 100 already",
       Options([](O& o) { o.mutable_sampling()->add_logit_bias()->set_bias(kNan); })},
      {"a bias is too large", kBad, "sampling.logit_bias[0].bias", "in [-100, 100], got 101",
       Options([](O& o) { o.mutable_sampling()->add_logit_bias()->set_bias(101); })},
      {"a bias twice", kBad, "sampling.logit_bias[1].token_id", "add its biases up to one entry",
       Options([](O& o) {
         o.mutable_sampling()->add_logit_bias()->set_token_id(3);
         o.mutable_sampling()->add_logit_bias()->set_token_id(3);
       })},
      {"nothing is allowed", kBad, "sampling.allowed_token_ids", "got 0 ids; name ids",
       Options([](O& o) { o.mutable_sampling()->mutable_allowed_token_ids(); })},
      {"what is allowed is no token", kBad, "sampling.allowed_token_ids[0]", beyond,
       Options(
           [=](O& o) { o.mutable_sampling()->mutable_allowed_token_ids()->add_ids(num_tokens); })},
      {"all that is allowed is banned", kBad, "sampling.allowed_token_ids", "some are not banned",
       Options([](O& o) {
         o.mutable_sampling()->mutable_allowed_token_ids()->add_ids(7);
         o.mutable_sampling()->add_banned_sequences()->add_ids(7);
       })},
      {"an empty sequence is banned", kBad, "sampling.banned_sequences[0]", "1 to 64 ids, got 0",
       Options([](O& o) { o.mutable_sampling()->add_banned_sequences(); })},
      {"a long sequence is banned", kBad, "sampling.banned_sequences[0]", "1 to 64 ids, got 65",
       Options([](O& o) {
         v1::TokenIds* banned = o.mutable_sampling()->add_banned_sequences();
         for (uint32_t id = 0; id < 65; ++id) banned->add_ids(id);
       })},
      {"what is banned is no token", kBad, "sampling.banned_sequences[0][0]", beyond,
       Options([=](O& o) { o.mutable_sampling()->add_banned_sequences()->add_ids(num_tokens); })},
      {"too many sequences are banned", kBad, "sampling.banned_sequences",
       "at most 4096 sequences, got 4097; ban fewer", Options([](O& o) {
         for (int i = 0; i < 4097; ++i) o.mutable_sampling()->add_banned_sequences()->add_ids(1);
       })},
  };
  all.insert(all.end(), lists.begin(), lists.end());
  return all;
}

std::vector<BadRequest> OfStops(uint32_t num_tokens, uint32_t context) {
  return {
      {"no token may come", kBad, "stop.max_tokens", "must be 1 or more, got 0; leave it out",
       Options([](O& o) { o.mutable_stop()->set_max_tokens(0); })},
      {"more tokens than the context", kTooLong, "stop.max_tokens",
       absl::StrCat("the context holds ", context, "; lower stop.max_tokens to"),
       Options([=](O& o) { o.mutable_stop()->set_max_tokens(context); })},
      {"the most tokens that there are", kTooLong, "stop.max_tokens", "4294967295, together",
       Options([](O& o) { o.mutable_stop()->set_max_tokens(0xffffffffU); })},
      {"least above most", kBad, "stop.min_tokens", "at most max_tokens 4, got 5; lower it",
       Options([](O& o) { o.mutable_stop()->set_min_tokens(5); })},
      {"a stop id is no token", kBad, "stop.stop_token_ids[1]",
       absl::StrCat("must be below ", num_tokens, ", got 4294967295"), Options([](O& o) {
         o.mutable_stop()->add_stop_token_ids(1);
         o.mutable_stop()->add_stop_token_ids(0xffffffffU);
       })},
      {"an empty stop string", kBad, "stop_strings[1]", "1 character or more, got an empty string",
       Options([](O& o) {
         o.add_stop_strings("x");
         o.add_stop_strings("");
       })},
      {"a long stop string", kBad, "stop_strings[0]", "bytes; shorten it",
       Options([](O& o) { o.add_stop_strings(std::string(5000, 'x')); })},
      {"many stop strings", kBad, "stop_strings", "got 200 strings; leave some out",
       Options([](O& o) {
         for (int i = 0; i < 200; ++i) o.add_stop_strings("x");
       })},
      {"too many alternatives", kBad, "output.logprobs", "in [0, 20], got 21; ask for fewer",
       Options([](O& o) { o.mutable_output()->set_logprobs(21); })},
  };
}

std::vector<BadRequest> OfOptions() {
  return {
      {"a long request_id", kBad, "request_id", "at most 256 bytes, got 257 bytes; shorten it",
       Options([](O& o) { o.set_request_id(std::string(257, 'x')); })},
      {"a model that is not there", kNoModel, "model", "model nobody's is not served; name one of",
       Options([](O& o) { o.set_model("nobody's"); })},
      {"a regex", kUnsupported, "constraint.regex", "leave constraint out",
       Options([](O& o) { o.mutable_constraint()->set_regex("a+"); })},
      {"a JSON schema", kUnsupported, "constraint.json_schema", "leave constraint out",
       Options([](O& o) { o.mutable_constraint()->set_json_schema("{}"); })},
      {"a grammar", kUnsupported, "constraint.ebnf", "leave constraint out",
       Options([](O& o) { o.mutable_constraint()->set_ebnf("root ::= x"); })},
      {"choices", kUnsupported, "constraint.choices", "leave constraint out",
       Options([](O& o) { o.mutable_constraint()->mutable_choices(); })},
      {"a constraint's start alone", kUnsupported, "constraint.start_after_token_id",
       "leave constraint out",
       Options([](O& o) { o.mutable_constraint()->set_start_after_token_id(1); })},
      {"drafts", kUnsupported, "speculation.max_draft_tokens", "leave it out or set it to 0",
       Options([](O& o) { o.mutable_speculation()->set_max_draft_tokens(3); })},
      {"an adapter", kUnsupported, "adapter", "adapters are not part of this version; leave it out",
       Options([](O& o) { o.set_adapter("mine"); })},
      {"a continuation of no token", kBad, "continue_token_ids[0]", "got 4294967295",
       Options([](O& o) { o.mutable_continue_token_ids()->add_ids(0xffffffffU); })},
      {"a continuation that is whole", kBad, "continue_token_ids", "raise stop.max_tokens",
       Options([](O& o) {
         for (uint32_t i = 0; i < 4; ++i) o.mutable_continue_token_ids()->add_ids(i);
       })},
      {"a continuation without its seed", kBad, "sampling.seed", "send the seed that Started told",
       Options([](O& o) {
         o.mutable_sampling()->set_temperature(1);
         o.mutable_continue_token_ids()->add_ids(1);
       })},
  };
}

std::vector<BadRequest> OfPrompts(uint32_t num_tokens, uint32_t context) {
  return {
      {"no prompt", kBad, "prompt", "set text or tokens", Generate([](G& r) { r.clear_prompt(); })},
      {"an empty text", kBad, "text", "1 character or more, got an empty string; send a prompt",
       Generate([](G& r) { r.set_text(""); })},
      {"no tokens", kBad, "tokens", "1 id or more, got none; send a prompt",
       Generate([](G& r) { r.mutable_tokens(); })},
      {"an id that is no token", kBad, "tokens[1]",
       absl::StrCat("must be below ", num_tokens, ", got ", num_tokens), Generate([=](G& r) {
         r.mutable_tokens()->add_ids(1);
         r.mutable_tokens()->add_ids(num_tokens);
       })},
      {"a prompt as long as the context", kTooLong, "prompt",
       absl::StrCat("shorten the prompt to fewer than ", context, " tokens"), Generate([=](G& r) {
         for (uint32_t i = 0; i < context; ++i) r.mutable_tokens()->add_ids(1);
       })},
      {"nothing to tokenise", kBad, "input", "set text or chat",
       Tokenize([](v1::TokenizeRequest&) {})},
      {"special tokens where there are none", kUnsupported, "add_special_tokens", "leave it out",
       Tokenize([](v1::TokenizeRequest& r) {
         r.set_text("x");
         r.set_add_special_tokens(true);
       })},
      {"two models", kBad, "chat.options.model", "name one model",
       Tokenize([](v1::TokenizeRequest& r) {
         r.set_model("a");
         r.mutable_chat()->mutable_options()->set_model("b");
       })},
      {"text of no model", kNoModel, "model", "model none is not served; name one of",
       Tokenize([](v1::TokenizeRequest& r) {
         r.set_text("x");
         r.set_model("none");
       })},
      {"an id of no text", kBad, "tokens[0]", "got 4294967295",
       Detokenize([](v1::DetokenizeRequest& r) { r.mutable_tokens()->add_ids(0xffffffffU); })},
      {"ids of no model", kNoModel, "model", "model none is not served; name one of",
       Detokenize([](v1::DetokenizeRequest& r) { r.set_model("none"); })},
  };
}

std::vector<BadRequest> OfConversations() {
  constexpr char kTool[] = R"({"type": "function", "function": {"name": "f", "parameters": )";
  return {
      {"no messages", kBad, "messages", "send a user message",
       Chat([](C& r) { r.clear_messages(); })},
      {"no question", kBad, "messages[0].role", "add a user message",
       Chat([](C& r) { r.mutable_messages(0)->set_role("system"); })},
      {"an unknown role", kBad, "messages[1].role",
       "is \"oracle\": it is no role of a conversation; use system, user, assistant or tool",
       Chat([](C& r) { Say(r, "oracle", "x"); })},
      {"no role", kBad, "messages[1].role", "is empty", Chat([](C& r) { Say(r, "", "x"); })},
      {"a late system message", kBad, "messages[1].role", "make it messages[0]",
       Chat([](C& r) { Say(r, "system", "x"); })},
      {"a message without content", kBad, "messages[0].content", "add a part of text",
       Chat([](C& r) { r.mutable_messages(0)->clear_content(); })},
      {"a part without content", kBad, "messages[0].content[1]", "set text",
       Chat([](C& r) { r.mutable_messages(0)->add_content(); })},
      {"an image", kUnsupported, "messages[0].content[1].media", "only text is served",
       Chat([](C& r) {
         r.mutable_messages(0)->add_content()->mutable_media()->set_mime_type("image/png");
       })},
      {"a user that calls a tool", kBad, "messages[0].tool_calls", "is 1 calls: only an assistant",
       Chat([](C& r) { r.mutable_messages(0)->add_tool_calls()->set_name("f"); })},
      {"a call of no tool", kBad, "messages[1].tool_calls[0].name", "set the tool's name",
       Chat([](C& r) { Say(r, "assistant", "")->add_tool_calls(); })},
      {"a call with broken arguments", kBad, "messages[1].tool_calls[0].arguments_json",
       "send a JSON object as text", Chat([](C& r) {
         v1::ToolCall* call = Say(r, "assistant", "")->add_tool_calls();
         call->set_name("f");
         call->set_arguments_json("{\"a\": ");
       })},
      {"a choice that is no JSON", kBad, "tool_choice_json", "a string has its quotes",
       Chat([](C& r) { r.set_tool_choice_json("auto"); })},
      {"a choice that there is not", kBad, "tool_choice_json", "use \"auto\" or \"none\"",
       Chat([](C& r) { r.set_tool_choice_json("\"maybe\""); })},
      {"a choice that needs a constraint", kUnsupported, "tool_choice_json", "use \"auto\"",
       Chat([](C& r) { r.set_tool_choice_json("\"required\""); })},
      {"a tool that is no JSON", kBad, "tools_json[0]", "it is no JSON; give one tool in each",
       Chat([](C& r) { r.add_tools_json("tool"); })},
      {"a tool without a name", kBad, "tools_json[0].name", "is absent",
       Chat([](C& r) { r.add_tools_json("{\"type\": \"function\"}"); })},
      {"a schema that is no object", kBad, "tools_json[0].function.parameters",
       "is [1]: it is no JSON object; send a JSON schema",
       Chat([=](C& r) { r.add_tools_json(absl::StrCat(kTool, "[1]}}")); })},
      {"a schema with a number beyond 64 bits", kBad, "tools_json[0].function.parameters.maximum",
       "send it as a string", Chat([=](C& r) {
         r.add_tools_json(absl::StrCat(kTool, "{\"maximum\": 12345678901234567890123}}}"));
       })},
      {"arguments of the template that are no JSON", kBad, "template_args_json",
       "send a JSON object as text", Chat([](C& r) { r.set_template_args_json("{"); })},
      {"arguments of the template that are no object", kBad, "template_args_json", "no JSON object",
       Chat([](C& r) { r.set_template_args_json("[true]"); })},
      {"an argument that is the request's own", kBad, "template_args_json.messages",
       "use the request's own field",
       Chat([](C& r) { r.set_template_args_json("{\"messages\": []}"); })},
      {"a budget for no thinking", kBad, "thinking_budget", "turn thinking on", Chat([](C& r) {
         r.set_template_args_json("{\"enable_thinking\": false}");
         r.set_thinking_budget(5);
       })},
      {"a continuation in a new message", kBad, "continue_final_message", "leave it out",
       Chat([](C& r) {
         r.set_continue_final_message(true);
         r.set_add_generation_prompt(true);
       })},
  };
}

// What a router would never send.
std::vector<BadRequest> OfWorld(uint32_t num_tokens, uint32_t context) {
  const std::string beyond = absl::StrCat("must be below ", num_tokens, ", got ", num_tokens);
  return {
      {"world: no prompt", kBad, "prompt_ids", "1 id or more, got none; send the prompt's",
       World([](W& r) { r.clear_prompt_ids(); })},
      {"world: a prompt of no token", kBad, "prompt_ids[0]", beyond,
       World([=](W& r) { r.set_prompt_ids(0, num_tokens); })},
      {"world: a seed that is not resolved", kBad, "sampling.seed", "a world draws no seeds",
       World([](W& r) { r.mutable_sampling()->set_temperature(1); })},
      {"world: a length that is not resolved", kBad, "stop.max_tokens", "a world chooses no length",
       World([](W& r) { r.mutable_stop()->clear_max_tokens(); })},
      {"world: a length beyond the context", kTooLong, "stop.max_tokens",
       absl::StrCat("this world holds ", context, "; use at most ", context - 1),
       World([=](W& r) { r.mutable_stop()->set_max_tokens(context); })},
      {"world: other weights", kBad, "expect_weights_fingerprint", "call Describe again",
       World([](W& r) { r.set_expect_weights_fingerprint("0123"); })},
      {"world: another model", kNoModel, "model", "model none is not served here; name",
       World([](W& r) { r.set_model("none"); })},
      {"world: an end of no token", kBad, "eos_token_ids[0]", beyond,
       World([=](W& r) { r.add_eos_token_ids(num_tokens); })},
      {"world: a forced exit of no tokens", kBad, "forced_exit.force_token_ids", "send 1 to 1024",
       World([](W& r) { r.mutable_forced_exit()->add_watch_token_ids(1); })},
      {"world: a forced exit at no token", kBad, "forced_exit.watch_token_ids[0]", beyond,
       World([=](W& r) { r.mutable_forced_exit()->add_watch_token_ids(num_tokens); })},
      {"world: a resumed answer that is whole", kBad, "generated_ids", "raise stop.max_tokens",
       World([](W& r) {
         for (uint32_t i = 0; i < 4; ++i) r.add_generated_ids(i);
       })},
      {"world: events of a cache", kUnsupported, "WatchCache", "route by load alone",
       [](ServedModel& served) {
         const auto call = Context();
         return End(served.world_stub().WatchCache(call.get(), {}));
       }},
      {"world: text of another model", kNoModel, "model", "model none is not served here; name",
       [](ServedModel& served) {
         const auto call = Context();
         v1::GetTextAssetsRequest request;
         request.set_model("none");
         return End(served.world_stub().GetTextAssets(call.get(), request));
       }},
  };
}

// Adds `root` with text that is not UTF-8 in each of the string fields below `at`.
void AddNotUtf8(const Message& root,
                Message* at,
                const std::string& path,
                std::vector<std::pair<std::string, std::string>>* all) {
  const auto* reflection = at->GetReflection();
  for (int i = 0; i < at->GetDescriptor()->field_count(); ++i) {
    const FieldDescriptor* field = at->GetDescriptor()->field(i);
    const std::string name = absl::StrCat(path, path.empty() ? "" : ".", field->name(),
                                          field->is_repeated() ? "[0]" : "");
    if (field->cpp_type() == FieldDescriptor::CPPTYPE_MESSAGE) {
      Message* below = field->is_repeated() ? reflection->AddMessage(at, field)
                                            : reflection->MutableMessage(at, field);
      AddNotUtf8(root, below, name, all);
    } else if (field->type() == FieldDescriptor::TYPE_STRING) {
      if (field->is_repeated()) {
        reflection->AddString(at, field, kNotUtf8);
      } else {
        reflection->SetString(at, field, kNotUtf8);
      }
      all->emplace_back(name, root.SerializeAsString());
    } else {
      continue;
    }
    reflection->ClearField(at, field);
  }
}

// Below the messages: of the wire.
std::vector<BadRequest> OfBytes() {
  const std::string service = "/deltaserve.v1.Inference/";
  std::vector<BadRequest> all = {
      {"bytes that are no message", kBad, "request", "it is no deltaserve.v1.GenerateRequest",
       Raw(service + "Generate", "\x0a\xff")},
      {"bytes that are no conversation", kBad, "request", "it is no deltaserve.v1.ChatRequest",
       Raw(service + "Chat", "\x0a\xff")},
      {"bytes that are no ids", kBad, "request", "it is no deltaserve.v1.DetokenizeRequest",
       Raw(service + "Detokenize", "\x0a\xff")},
      {"a model that is not UTF-8", kBad, "model", "send text as UTF-8",
       Raw(service + "Detokenize", "\x0a\x01\xff")},
      {"an abort that is not UTF-8", kBad, "request_ids[0]", "send text as UTF-8",
       Raw(service + "Abort", "\x0a\x01\xff")},
      {"text to tokenise that is not UTF-8", kBad, "text", "send text as UTF-8",
       Raw(service + "Tokenize", "\x12\x01\xff")},
      {"a method that there is not", kOfGrpc, "", "", Raw(service + "Guess", "")},
      {"a service that there is not", kOfGrpc, "", "", Raw("/deltaserve.v9.Inference/Chat", "")},
      {"metadata without end", kOfGrpc, "", "exceeds limit", FloodMetadata},
  };
  auto* const log = google::protobuf::SetLogHandler(nullptr);  // it tells of each text
  constexpr char kSaid[] = "it is not UTF-8; send text as UTF-8";
  std::vector<std::pair<std::string, std::string>> generate, chat;
  G of_generate;
  C of_chat;
  AddNotUtf8(of_generate, &of_generate, "", &generate);
  AddNotUtf8(of_chat, &of_chat, "", &chat);
  google::protobuf::SetLogHandler(log);
  for (const auto& [field, bytes] : generate) {
    all.push_back(
        {absl::StrCat("not UTF-8: ", field), kBad, field, kSaid, Raw(service + "Generate", bytes)});
  }
  for (const auto& [field, bytes] : chat) {
    all.push_back({absl::StrCat("not UTF-8: ", field, " of a conversation"), kBad, field, kSaid,
                   Raw(service + "Chat", bytes)});
  }
  return all;
}

}  // namespace

std::vector<BadRequest> BadRequests(ServedModel& served) {
  v1::WorldDescription description;
  served.world_stub().Describe(Context().get(), {}, &description);
  const uint32_t num_tokens = description.models(0).num_tokens();
  const uint32_t context = description.models(0).max_context();
  std::vector<BadRequest> all;
  for (const std::vector<BadRequest>& rows :
       {OfSampling(num_tokens), OfStops(num_tokens, context), OfOptions(),
        OfPrompts(num_tokens, context), OfConversations(), OfWorld(num_tokens, context),
        OfBytes()}) {
    all.insert(all.end(), rows.begin(), rows.end());
  }
  return all;
}

BadRequest OversizedRequest() {
  return {"a message beyond the limit", kOfGrpc, "", "larger than max", [](ServedModel& served) {
            const auto call = Context();
            const std::string text(kMaxMessageBytes, 'x');
            return End(served.inference().Generate(call.get(), GreedyRequest(text, 4)));
          }};
}

std::vector<BadRequest> LateRequests() {
  constexpr v1::ErrorCode kDraining = v1::ERROR_CODE_DRAINING;
  return {
      {"late at the router", kDraining, "", "shutting down; send the request to another one",
       Generate([](G&) {})},
      {"a late conversation", kDraining, "", "shutting down; send the request to another one",
       Chat([](C&) {})},
      {"late at the world", kDraining, "", "this world is draining", World([](W&) {})},
  };
}

std::string Fault(const BadRequest& bad, const grpc::Status& status) {
  const v1::ErrorDetail detail = DetailOf(status);
  const std::string got = absl::StrCat(
      bad.name, ": status ", status.error_code(), " \"", status.error_message(), "\", code ",
      v1::ErrorCode_Name(detail.code()), ", field ", detail.field(), ", value ", detail.value());
  if (status.ok()) return absl::StrCat(bad.name, ": it was taken");
  if (!absl::StrContains(status.error_message(), bad.message)) {
    return absl::StrCat(got, ", where the text should say: ", bad.message);
  }
  if (bad.code == kOfGrpc) return "";
  if (static_cast<absl::StatusCode>(status.error_code()) != CodeOf(bad.code) ||
      detail.code() != bad.code || detail.field() != bad.field) {
    return absl::StrCat(got, ", where it should be ", v1::ErrorCode_Name(bad.code), " of field ",
                        bad.field);
  }
  if (detail.remedy().empty() || (!bad.field.empty() && detail.value().empty())) {
    return absl::StrCat(got, ", without a value or a remedy");
  }
  return "";
}

}  // namespace deltaserve::test
