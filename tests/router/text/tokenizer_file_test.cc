// What tokenizer.json and tokenizer_config.json may not say: each refusal names file, field and
// value.

#include "router/text/tokenizer_file.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/router/text/fixture.h"

namespace deltaserve {
namespace {

using absl::StatusCode;
using testing::HasSubstr;

struct Refusal {
  const char* patch;  // RFC 6902, of the fixture's file
  StatusCode code;
  const char* message;
};

void ExpectRefusals(const std::string& name, const std::vector<Refusal>& refusals) {
  const auto original = nlohmann::json::parse(FixtureBytes(name));
  for (const Refusal& refusal : refusals) {
    const std::string bytes = original.patch(nlohmann::json::parse(refusal.patch)).dump();
    const bool is_config = name == "tokenizer_config.json";
    const auto file = is_config ? ReadTokenizerFile(FixtureBytes("tokenizer.json"), bytes)
                                : ReadTokenizerFile(bytes, "");
    EXPECT_EQ(file.status().code(), refusal.code) << refusal.patch << " " << file.status();
    EXPECT_THAT(std::string(file.status().message()), HasSubstr(refusal.message)) << refusal.patch;
  }
}

TEST(TokenizerFileTest, RefusesUnsupportedStepsByName) {
  constexpr StatusCode kNo = StatusCode::kUnimplemented;
  ExpectRefusals(
      "tokenizer.json",
      {{R"([{"op":"add","path":"/version","value":"2.0"}])", kNo,
        "tokenizer.json: version is \"2.0\""},
       {R"([{"op":"add","path":"/extra","value":1}])", kNo, "tokenizer.json: extra is 1"},
       {R"([{"op":"add","path":"/truncation","value":{"max_length":4}}])", kNo,
        "truncation is an object"},
       {R"([{"op":"add","path":"/padding","value":{}}])", kNo, "padding is an object"},
       {R"([{"op":"add","path":"/normalizer","value":{"type":"NFKC"}}])", kNo,
        "normalizer.type is \"NFKC\""},
       {R"([{"op":"add","path":"/normalizer","value":{"type":"Sequence","normalizers":[{"type":"NFC"},{"type":"Lowercase"}]}}])",
        kNo, "normalizer.normalizers[1].type is \"Lowercase\""},
       {R"([{"op":"add","path":"/pre_tokenizer","value":{"type":"ByteLevel"}}])", kNo,
        "pre_tokenizer is an object: a Sequence of one Split and one ByteLevel"},
       {R"([{"op":"replace","path":"/pre_tokenizer/pretokenizers/0/behavior","value":"Removed"}])",
        kNo, "pre_tokenizer.pretokenizers[0].behavior is \"Removed\""},
       {R"([{"op":"replace","path":"/pre_tokenizer/pretokenizers/0/invert","value":true}])", kNo,
        "pretokenizers[0].invert is true"},
       {R"([{"op":"replace","path":"/pre_tokenizer/pretokenizers/0/pattern","value":{"String":" "}}])",
        kNo, "pretokenizers[0].pattern.String is \" \""},
       {R"([{"op":"replace","path":"/pre_tokenizer/pretokenizers/0/type","value":"Digits"}])", kNo,
        "pretokenizers[0].type is \"Digits\""},
       {R"([{"op":"replace","path":"/pre_tokenizer/pretokenizers/1/add_prefix_space","value":true}])",
        kNo, "pretokenizers[1].add_prefix_space is true"},
       {R"([{"op":"remove","path":"/pre_tokenizer/pretokenizers/1/use_regex"}])", kNo,
        "pretokenizers[1].use_regex is null"},
       {R"([{"op":"replace","path":"/post_processor","value":{"type":"TemplateProcessing"}}])", kNo,
        "post_processor.type is \"TemplateProcessing\""},
       {R"([{"op":"replace","path":"/decoder","value":{"type":"WordPiece"}}])", kNo,
        "decoder.type is \"WordPiece\""},
       {R"([{"op":"replace","path":"/model/type","value":"Unigram"}])", kNo,
        "model.type is \"Unigram\""},
       {R"([{"op":"replace","path":"/model/dropout","value":0.1}])", kNo, "model.dropout is 0.1"},
       {R"([{"op":"replace","path":"/model/unk_token","value":"<unk>"}])", kNo,
        "model.unk_token is \"<unk>\""},
       {R"([{"op":"replace","path":"/model/byte_fallback","value":true}])", kNo,
        "model.byte_fallback is true"},
       {R"([{"op":"replace","path":"/model/continuing_subword_prefix","value":"##"}])", kNo,
        "model.continuing_subword_prefix is \"##\""},
       {R"([{"op":"remove","path":"/model/vocab/Ā"}])", kNo, "model.vocab has no token for byte 0"},
       {R"([{"op":"replace","path":"/added_tokens/0/single_word","value":true}])", kNo,
        "added_tokens[0].single_word is true"}});
}

TEST(TokenizerFileTest, RefusesMalformedFieldsByName) {
  constexpr StatusCode kBad = StatusCode::kInvalidArgument;
  ExpectRefusals(
      "tokenizer.json",
      {{R"([{"op":"remove","path":"/model"}])", kBad, "tokenizer.json: model is null"},
       {R"([{"op":"remove","path":"/pre_tokenizer"}])", kBad, "pre_tokenizer is null"},
       {R"([{"op":"remove","path":"/decoder"}])", kBad, "decoder is null"},
       {R"([{"op":"replace","path":"/model/ignore_merges","value":"no"}])", kBad,
        "model.ignore_merges is \"no\": true or false"},
       {R"([{"op":"replace","path":"/model/vocab","value":[]}])", kBad, "model.vocab is a list"},
       {R"([{"op":"replace","path":"/model/vocab/er","value":-1}])", kBad, "model.vocab.er is -1"},
       {R"([{"op":"replace","path":"/model/vocab/er","value":1e3}])", kBad,
        "model.vocab.er is 1000.0"},
       {R"([{"op":"replace","path":"/model/vocab/er","value":99999999999}])", kBad,
        "model.vocab.er is 99999999999: a whole number from 0 to 16777215"},
       {R"([{"op":"replace","path":"/model/vocab/er","value":0}])", kBad,
        "another token has this id"},
       {R"([{"op":"add","path":"/model/merges/3","value":"a b c"}])", kBad,
        "model.merges[3] is \"a b c\""},
       {R"([{"op":"add","path":"/model/merges/3","value":["a"]}])", kBad,
        "model.merges[3] is a list"},
       {R"([{"op":"add","path":"/model/merges/3","value":["q","Q"]}])", kBad,
        "model.merges[3] is a list: both halves and the whole must be in model.vocab"},
       {R"([{"op":"replace","path":"/added_tokens/1/id","value":967}])", kBad,
        "added_tokens[1].id is 967"},
       {R"([{"op":"replace","path":"/added_tokens/1/id","value":5}])", kBad,
        "added_tokens[1].id is 5"},
       {R"([{"op":"replace","path":"/added_tokens/1/content","value":"er"}])", kBad,
        "added_tokens[1].id is 968: model.vocab gives \"er\""},
       {R"([{"op":"replace","path":"/added_tokens/1/content","value":"<|endoftext|>"}])", kBad,
        "added_tokens[1].content is \"<|endoftext|>\""},
       {R"([{"op":"replace","path":"/added_tokens/1/content","value":""}])", kBad,
        "added_tokens[1].content is \"\""},
       {R"([{"op":"remove","path":"/added_tokens/1/special"}])", kBad,
        "added_tokens[1].special is null"}});
}

TEST(TokenizerFileTest, RefusesAConfigThatDisagrees) {
  constexpr StatusCode kBad = StatusCode::kInvalidArgument;
  constexpr StatusCode kNo = StatusCode::kUnimplemented;
  ExpectRefusals(
      "tokenizer_config.json",
      {{R"([{"op":"replace","path":"/add_bos_token","value":true}])", kNo,
        "tokenizer_config.json: add_bos_token is true"},
       {R"([{"op":"replace","path":"/add_prefix_space","value":true}])", kNo,
        "add_prefix_space is true"},
       {R"([{"op":"replace","path":"/eos_token","value":"<eos>"}])", kBad,
        "eos_token is \"<eos>\": tokenizer.json has no such token"},
       {R"([{"op":"replace","path":"/added_tokens_decoder/967/content","value":"<|im_end|>"}])",
        kBad,
        "added_tokens_decoder.967.content is \"<|im_end|>\": tokenizer.json gives it the id 969"},
       {R"([{"op":"replace","path":"/added_tokens_decoder/967/content","value":"<|x|>"}])", kBad,
        "added_tokens_decoder.967 is an object: another token has this id"},
       {R"([{"op":"move","from":"/added_tokens_decoder/967","path":"/added_tokens_decoder/first"}])",
        kBad, "added_tokens_decoder.first is an object: its key must be a token id"}});
}

TEST(TokenizerFileTest, RefusesWhatIsNotJson) {
  for (const std::string& bytes : {std::string(), std::string("{"), std::string("[]"),
                                   std::string("{\"a\": \"\xFF\"}"), std::string(100000, '[')}) {
    const auto file = ReadTokenizerFile(bytes, "");
    EXPECT_EQ(file.status().code(), StatusCode::kInvalidArgument);
    EXPECT_THAT(std::string(file.status().message()), HasSubstr("tokenizer.json"));
  }
  const auto file = ReadTokenizerFile(FixtureBytes("tokenizer.json"), "{");
  EXPECT_THAT(std::string(file.status().message()), HasSubstr("tokenizer_config.json"));
}

}  // namespace
}  // namespace deltaserve
