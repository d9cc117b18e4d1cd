#include "router/service/request_text.h"

#include <map>

#include "absl/strings/str_cat.h"
#include "google/protobuf/io/coded_stream.h"
#include "google/protobuf/wire_format_lite.h"
#include "kernels/base/utf8.h"

namespace deltaserve {

using google::protobuf::FieldDescriptor;
using google::protobuf::internal::WireFormatLite;

std::optional<BadText> FindTextNotUtf8(std::string_view bytes,
                                       const google::protobuf::Descriptor& type) {
  google::protobuf::io::CodedInputStream in(reinterpret_cast<const uint8_t*>(bytes.data()),
                                            static_cast<int>(bytes.size()));
  std::map<int, int> counts;  // of a repeated field's values so far
  while (const uint32_t tag = in.ReadTag()) {
    const FieldDescriptor* field = type.FindFieldByNumber(WireFormatLite::GetTagFieldNumber(tag));
    if (field == nullptr ||
        WireFormatLite::GetTagWireType(tag) != WireFormatLite::WIRETYPE_LENGTH_DELIMITED ||
        (field->type() != FieldDescriptor::TYPE_STRING &&
         field->type() != FieldDescriptor::TYPE_MESSAGE)) {
      if (!WireFormatLite::SkipField(&in, tag)) return std::nullopt;
      continue;
    }
    uint32_t length = 0;
    std::string value;
    if (!in.ReadVarint32(&length) || !in.ReadString(&value, static_cast<int>(length))) {
      return std::nullopt;
    }
    std::string name = field->name();
    if (field->is_repeated()) absl::StrAppend(&name, "[", counts[field->number()]++, "]");
    if (field->type() == FieldDescriptor::TYPE_MESSAGE) {
      if (std::optional<BadText> found = FindTextNotUtf8(value, *field->message_type())) {
        found->field = absl::StrCat(name, ".", found->field);
        return found;
      }
    } else if (FindInvalidUtf8(value).has_value()) {
      return BadText{std::move(name), std::move(value)};
    }
  }
  return std::nullopt;
}

}  // namespace deltaserve
