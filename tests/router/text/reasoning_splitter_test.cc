#include "router/text/reasoning_splitter.h"

#include <gtest/gtest.h>

#include "tests/router/text/pieces.h"

namespace deltaserve {
namespace {

constexpr ReasoningNewlines kKeep = ReasoningNewlines::kKeep;
constexpr ReasoningNewlines kTrim = ReasoningNewlines::kTrim;
constexpr bool kInside = true;    // the prompt opened the reasoning
constexpr bool kOutside = false;  // it did not

struct Sample {
  bool starts_in_reasoning;
  ReasoningNewlines newlines;
  std::string text;
  std::string reasoning;
  std::string content;
};

const std::vector<Sample>& Samples() {
  static const std::string& call = *new std::string(
      "<tool_call>\n<function=f>\n<parameter=a>\n1\n</parameter>\n</function>\n</tool_call>");
  static const std::string& spaces = *new std::string(64, ' ');
  static const auto& samples = *new std::vector<Sample>{
      {kInside, kKeep, "", "", ""},
      {kInside, kKeep, "thought</think>answer", "thought", "answer"},
      {kInside, kKeep, "thought\n</think>\n\nanswer\n", "thought\n", "\n\nanswer\n"},
      {kInside, kTrim, "\nthought\n</think>\n\nanswer\n", "thought", "answer\n"},
      {kInside, kTrim, "\n\na\n\nb\n\n\n</think>\n\n\n\n c\n\nd", "a\n\nb", " c\n\nd"},
      {kInside, kTrim, " \n a \n </think> \nb", " \n a \n ", " \nb"},  // newlines only, no spaces
      {kInside, kTrim, "\n\n</think>\n\n", "", ""},
      {kInside, kKeep, "\n\n</think>\n\n", "\n\n", "\n\n"},
      {kInside, kTrim, "cut short\n", "cut short", ""},
      {kInside, kKeep, "cut short\n", "cut short\n", ""},
      {kInside, kKeep, "cut in the tag</thi", "cut in the tag</thi", ""},
      {kInside, kKeep, "cut before the tag<", "cut before the tag<", ""},
      {kInside, kKeep, "</think>", "", ""},
      {kInside, kKeep, "<think>again</think>x", "again", "x"},  // the tag repeated
      {kInside, kKeep, "\n <think>again</think>x", "again", "x"},
      {kInside, kKeep, spaces + "<think>x", "x", ""},
      {kInside, kKeep, spaces + " <think>x", spaces + " <think>x", ""},  // too far in to be a tag
      {kInside, kKeep, "a <think> b</think>c", "a <think> b", "c"},
      {kInside, kKeep, "a</think>b</think>c", "a", "b</think>c"},
      {kInside, kKeep, "a</think>b<think>c</think>d", "a", "b<think>c</think>d"},
      {kInside, kKeep, "if a < b</ think></think>c", "if a < b</ think>", "c"},
      {kInside, kKeep, "</</think>x", "</", "x"},
      {kInside, kKeep, "思考\xF0\x9F\x98\x81</think>答え", "思考\xF0\x9F\x98\x81", "答え"},
      {kInside, kKeep, "look it up\n\n" + call + "\n", "look it up\n\n", call + "\n"},
      {kInside, kTrim, "look it up\n\n" + call + "\n", "look it up", call + "\n"},
      {kInside, kKeep, "<tool_call><function=f></function>", "",
       "<tool_call><function=f></function>"},
      {kInside, kKeep, "<think>" + call, "", call},
      {kInside, kKeep, "like " + call + " say</think>x", "like " + call + " say",
       "x"},  // a thought
      {kInside, kTrim, "a\n" + call + "\n</think>\nx", "a\n" + call, "x"},
      {kInside, kKeep, "a</think>" + call + "</think>x", "a", call + "</think>x"},
      {kInside, kKeep, call + call + "</thin", "", call + call + "</thin"},
      {kInside, kKeep, "use <tool_call> here</think>x", "use <tool_call> here", "x"},  // no call
      {kInside, kKeep, "a<tool_call>\n<func", "a<tool_call>\n<func", ""},
      {kInside, kKeep, "a<tool_call>" + spaces + "<function=f>", "a",
       "<tool_call>" + spaces + "<function=f>"},
      {kInside, kKeep, "a<tool_call> " + spaces + "<function=f>",
       "a<tool_call> " + spaces + "<function=f>", ""},
      {kInside, kKeep, "a<tool_call><tool_call>\n<function=f>", "a<tool_call>",
       "<tool_call>\n<function=f>"},
      {kInside, kKeep, "a<tool_call>\n</think>b", "a<tool_call>\n", "b"},
      {kInside, kKeep, "<function=f>", "<function=f>", ""},
      {kOutside, kKeep, "", "", ""},
      {kOutside, kKeep, "answer", "", "answer"},
      {kOutside, kTrim, "\n\nanswer\n", "", "\n\nanswer\n"},  // not behind reasoning
      {kOutside, kKeep, "<think>thought</think>answer", "thought", "answer"},
      {kOutside, kTrim, "\n<think>\nthought\n</think>\n\nanswer", "thought", "answer"},
      {kOutside, kKeep, " \n<think>cut", "cut", ""},
      {kOutside, kKeep, " \n", "", " \n"},
      {kOutside, kKeep, "<thi", "", "<thi"},
      {kOutside, kKeep, " <thin>x", "", " <thin>x"},
      {kOutside, kKeep, "a <think>b</think>", "", "a <think>b</think>"},
      {kOutside, kKeep, "stray</think>x", "", "stray</think>x"},
      {kOutside, kKeep, call, "", call},
  };
  return samples;
}

TEST(ReasoningSplitterTest, SplitsEverySampleWhateverThePieces) {
  for (const Sample& sample : Samples()) {
    ForEachSplit(sample.text, [&](const Pieces& pieces) {
      ReasoningSplitter splitter(sample.starts_in_reasoning, sample.newlines);
      std::string reasoning;
      std::string content;
      for (const std::string_view piece : pieces) {
        const ReasoningSplitter::Result result = splitter.Add(piece);
        reasoning += result.reasoning;
        EXPECT_TRUE(content.empty() || result.reasoning.empty()) << "reasoning after content";
        content += result.content;
      }
      const ReasoningSplitter::Result result = splitter.Finish();
      EXPECT_EQ(reasoning + result.reasoning, sample.reasoning) << sample.text;
      EXPECT_EQ(content + result.content, sample.content) << sample.text;
    });
  }
}

TEST(ReasoningSplitterTest, HoldsNoMoreThanMayBecomeATag) {
  ReasoningSplitter splitter(kInside, kKeep);
  EXPECT_EQ(splitter.Add("a").reasoning, "a");
  EXPECT_EQ(splitter.Add(" <").reasoning, " ");
  EXPECT_EQ(splitter.Add("b").reasoning, "<b");
  EXPECT_EQ(splitter.Add("</thin").reasoning, "");
  EXPECT_EQ(splitter.Add("g").reasoning, "</thing");
  EXPECT_EQ(splitter.Add("<tool_call> \n").reasoning, "");
  EXPECT_EQ(splitter.Add("x").reasoning, "<tool_call> \nx");
  EXPECT_TRUE(splitter.in_reasoning());
  EXPECT_EQ(splitter.Add("</think>y").content, "y");
  EXPECT_FALSE(splitter.in_reasoning());
  EXPECT_EQ(splitter.Add("<").content, "<");
}

// The bound is in bytes of the text, so it does not depend on pieces.
TEST(ReasoningSplitterTest, ACallWaitsForTheClosingTagNoLongerThanItsBound) {
  const std::string call = "<tool_call><function=f>";
  const std::string most(kMaxHeldReasoningBytes - call.size(), 'x');
  for (const size_t size : {size_t{1}, size_t{1000}, 2 * kMaxHeldReasoningBytes}) {
    for (const bool beyond : {false, true}) {
      const std::string thought = call + most + (beyond ? "x" : "");
      const std::string text = "a" + thought + "</think>b";
      ReasoningSplitter splitter(kInside, kKeep);
      ReasoningSplitter::Result all;
      for (size_t at = 0; at <= text.size(); at += size) {
        const bool last = at + size > text.size();
        const ReasoningSplitter::Result result =
            splitter.Add(std::string_view(text).substr(at, size));
        all.reasoning += result.reasoning;
        all.content += result.content;
        if (last) all.content += splitter.Finish().content;
      }
      EXPECT_EQ(all.reasoning, beyond ? "a" : "a" + thought);
      EXPECT_EQ(all.content, beyond ? thought + "</think>b" : "b");
    }
  }
}

TEST(ReasoningSplitterTest, TheRenderedPromptSaysWhereTheAnswerBegins) {
  struct Case {
    std::string prompt;
    bool inside;
  };
  const std::string user = "<|im_start|>user\nhello<|im_end|>\n<|im_start|>assistant\n";
  for (const Case& c : std::vector<Case>{
           {"", false},
           {user, false},
           {user + "<think>\n", true},
           {user + "<think>\n\n</think>\n\n", false},
           {user + "<think>\nso far", true},  // a final message that is continued
           {user + "<think>\nso far\n</think>\n\nanswer", false},
           {user + "<think>\na</think><think>", true},
           {"<|im_start|>user\nwhat is <think>?<|im_end|>\n<|im_start|>assistant\n", false},
           {"<|im_start|>user\nwhat is <think>?<|im_end|>\n", false},  // no generation prompt
           {"<|im_start|>user\nwhat is </think>?<|im_end|>\n<|im_start|>assistant\n<think>\n",
            true},
           {user + "<think>\nold\n</think>\n\nx<|im_end|>\n<|im_start|>assistant\n<think>\n", true},
           {"a template of another form <think>", true},
           {"a template of another form <think></think>", false},
       }) {
    EXPECT_EQ(EndsInsideReasoning(c.prompt), c.inside) << c.prompt;
  }
}

}  // namespace
}  // namespace deltaserve
