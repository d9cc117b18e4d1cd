// The detokenizer: any ids give whole characters, and streamed text is the text of all ids at once.

#include "kernels/base/check.h"
#include "router/text/detokenizer.h"
#include "tests/fuzz/fixture_tokenizer.h"
#include "tests/fuzz/fuzz_target.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace deltaserve;
  std::string_view bytes = FuzzText(data, size);
  const bool skip_special_tokens = (TakeByte(&bytes) & 1) != 0;
  std::vector<int32_t> ids;
  bool all_have_tokens = true;
  while (!bytes.empty()) {
    // From a few below 0 to a few past the last token.
    const int32_t high = TakeByte(&bytes);
    const int32_t low = TakeByte(&bytes);
    ids.push_back((high * 256 + low) % (FuzzTokenizer().num_tokens() + 8) - 4);
    all_have_tokens = all_have_tokens && FuzzTokenizer().HasToken(ids.back());
  }
  Detokenizer detokenizer(FuzzTokenizer(), skip_special_tokens);
  std::string streamed;
  for (const int32_t id : ids) {
    const std::string text = detokenizer.Add(id);
    DS_CHECK(!FindInvalidUtf8(text));
    streamed += text;
  }
  streamed += detokenizer.Finish();
  DS_CHECK(!FindInvalidUtf8(streamed));
  const auto whole = Decode(FuzzTokenizer(), ids, skip_special_tokens);
  DS_CHECK(whole.ok() == all_have_tokens);
  DS_CHECK(!whole.ok() || *whole == streamed);
  return 0;
}
