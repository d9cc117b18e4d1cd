#include "router/text/template/repr.h"

#include <algorithm>

#include "absl/strings/str_format.h"
#include "kernels/base/status_macros.h"
#include "kernels/base/utf8.h"
#include "router/text/template/cat.h"
#include "router/text/template/format_number.h"
#include "router/text/template/loop.h"
#include "router/text/template/macro.h"
#include "router/text/template/text.h"

namespace deltaserve::jinja {
namespace {

// One walk through a value; knows the namespaces it is inside of.
class ReprWriter {
 public:
  ReprWriter(Runtime& runtime, Buffer* out) : runtime_(runtime), out_(out) {}

  absl::Status Write(const Value& value);

 private:
  absl::Status WriteItems(const std::vector<Value>& items,
                          std::string_view open,
                          std::string_view close);
  absl::Status WriteDict(const DictObject& dict);
  absl::Status WriteView(const DictViewObject& view);
  absl::Status WriteNamespace(const NamespaceObject& space);
  absl::Status WriteRange(const RangeObject& range);

  Runtime& runtime_;
  Buffer* const out_;
  std::vector<const NamespaceObject*> inside_;
};

absl::Status ReprWriter::WriteItems(const std::vector<Value>& items,
                                    std::string_view open,
                                    std::string_view close) {
  DS_RETURN_IF_ERROR(out_->Append(open));
  for (size_t i = 0; i < items.size(); ++i) {
    if (i > 0) DS_RETURN_IF_ERROR(out_->Append(", "));
    DS_RETURN_IF_ERROR(Write(items[i]));
  }
  return out_->Append(close);
}

absl::Status ReprWriter::WriteDict(const DictObject& dict) {
  DS_RETURN_IF_ERROR(out_->Append("{"));
  for (size_t i = 0; i < dict.entries.size(); ++i) {
    if (i > 0) DS_RETURN_IF_ERROR(out_->Append(", "));
    DS_RETURN_IF_ERROR(Write(dict.entries[i].first));
    DS_RETURN_IF_ERROR(out_->Append(": "));
    DS_RETURN_IF_ERROR(Write(dict.entries[i].second));
  }
  return out_->Append("}");
}

absl::Status ReprWriter::WriteView(const DictViewObject& view) {
  std::string_view name = "dict_items([";
  if (view.kind == DictViewObject::Kind::kKeys) name = "dict_keys([";
  if (view.kind == DictViewObject::Kind::kValues) name = "dict_values([";
  DS_RETURN_IF_ERROR(out_->Append(name));
  bool is_first = true;
  for (const auto& [key, value] : view.dict.dict().entries) {
    if (!std::exchange(is_first, false)) DS_RETURN_IF_ERROR(out_->Append(", "));
    if (view.kind == DictViewObject::Kind::kItems) {
      DS_RETURN_IF_ERROR(out_->Append("("));
      DS_RETURN_IF_ERROR(Write(key));
      DS_RETURN_IF_ERROR(out_->Append(", "));
      DS_RETURN_IF_ERROR(Write(value));
      DS_RETURN_IF_ERROR(out_->Append(")"));
    } else {
      DS_RETURN_IF_ERROR(Write(view.kind == DictViewObject::Kind::kKeys ? key : value));
    }
  }
  return out_->Append("])");
}

absl::Status ReprWriter::WriteNamespace(const NamespaceObject& space) {
  if (std::find(inside_.begin(), inside_.end(), &space) != inside_.end()) {
    return out_->Append("<Namespace {...}>");
  }
  inside_.push_back(&space);
  DS_RETURN_IF_ERROR(out_->Append("<Namespace {"));
  bool is_first = true;
  for (const auto& [name, value] : space.attributes) {
    if (!std::exchange(is_first, false)) DS_RETURN_IF_ERROR(out_->Append(", "));
    DS_RETURN_IF_ERROR(out_->Append(Cat(QuoteText(name), ": ")));
    DS_RETURN_IF_ERROR(Write(value));
  }
  inside_.pop_back();
  return out_->Append("}>");
}

absl::Status ReprWriter::WriteRange(const RangeObject& range) {
  std::string text = Cat("range(", IntText(range.start), ", ", IntText(range.stop));
  if (range.step != 1) CatTo(&text, ", ", IntText(range.step));
  return out_->Append(text + ")");
}

absl::Status ReprWriter::Write(const Value& value) {
  const DepthScope depth(&runtime_);
  DS_RETURN_IF_ERROR(depth.Check());
  DS_RETURN_IF_ERROR(runtime_.Step());
  switch (value.type()) {
    case Type::kMissing:
    case Type::kUndefined:
      return out_->Append("Undefined");
    case Type::kNone:
      return out_->Append("None");
    case Type::kBool:
      return out_->Append(value.bool_value() ? "True" : "False");
    case Type::kInt:
      return out_->Append(IntText(value.int_value()));
    case Type::kFloat:
      return out_->Append(FloatText(value.float_value()));
    case Type::kString:
      DS_RETURN_IF_ERROR(runtime_.CheckRoom(value.text().size() * 10));
      if (value.IsSafe()) {
        return out_->Append(Cat("Markup(", QuoteText(value.text()), ")"));
      }
      return out_->Append(QuoteText(value.text()));
    case Type::kList:
      return WriteItems(value.items(), "[", "]");
    case Type::kTuple:
      return WriteItems(value.items(), "(", value.items().size() == 1 ? ",)" : ")");
    case Type::kDict:
      return WriteDict(value.dict());
    case Type::kDictView:
      return WriteView(value.dict_view());
    case Type::kRange:
      return WriteRange(value.range());
    case Type::kNamespace:
      return WriteNamespace(value.name_space());
    case Type::kMacro:
      return out_->Append(Cat("<Macro ", QuoteText(MacroName(value)), ">"));
    case Type::kLoop: {
      auto& loop = static_cast<LoopObject&>(*value.object());
      DS_ASSIGN_OR_RETURN(const Int length, loop.Length(runtime_));
      return out_->Append(Cat("<LoopContext ", IntText(loop.index()), "/", IntText(length), ">"));
    }
    case Type::kIterator:
    case Type::kFunction:
    case Type::kMethod:
      break;
  }
  return Wrong("a ", TypeName(value), " cannot be printed; ",
               value.Is(Type::kIterator) ? "use the filter list or join" : "call it");
}

}  // namespace

std::string QuoteText(std::string_view utf8) {
  const bool has_single = utf8.find('\'') != std::string_view::npos;
  const bool has_double = utf8.find('"') != std::string_view::npos;
  const char quote = has_single && !has_double ? '"' : '\'';
  std::string text(1, quote);
  for (const char32_t c : ToCodePoints(utf8)) {
    if (c == static_cast<char32_t>(quote) || c == '\\') {
      text.push_back('\\');
      text.push_back(static_cast<char>(c));
    } else if (c == '\n') {
      text += "\\n";
    } else if (c == '\r') {
      text += "\\r";
    } else if (c == '\t') {
      text += "\\t";
    } else if (IsPrintable(c)) {
      AppendUtf8(c, &text);
    } else if (c < 0x100) {
      absl::StrAppendFormat(&text, "\\x%02x", static_cast<unsigned>(c));
    } else if (c < 0x10000) {
      absl::StrAppendFormat(&text, "\\u%04x", static_cast<unsigned>(c));
    } else {
      absl::StrAppendFormat(&text, "\\U%08x", static_cast<unsigned>(c));
    }
  }
  text.push_back(quote);
  return text;
}

std::string QuoteShort(std::string_view utf8) {
  constexpr size_t kMostBytes = 80;
  return QuoteText(utf8.substr(0, CharacterAtOrBefore(utf8, kMostBytes)));
}

absl::Status AppendRepr(Runtime& runtime, const Value& value, Buffer* out) {
  return ReprWriter(runtime, out).Write(value);
}

absl::Status AppendText(Runtime& runtime, const Value& value, Buffer* out) {
  if (value.IsString()) return out->Append(value.text());
  if (value.IsUndefined()) return absl::OkStatus();
  return AppendRepr(runtime, value, out);
}

absl::StatusOr<std::string> Text(Runtime& runtime, const Value& value) {
  Buffer buffer(&runtime);
  DS_RETURN_IF_ERROR(AppendText(runtime, value, &buffer));
  return buffer.Take();
}

absl::StatusOr<Value> TextValue(Runtime& runtime, const Value& value) {
  if (value.IsString()) return value;
  DS_ASSIGN_OR_RETURN(std::string text, Text(runtime, value));
  return runtime.String(std::move(text));
}

absl::StatusOr<std::string> Repr(Runtime& runtime, const Value& value) {
  Buffer buffer(&runtime);
  DS_RETURN_IF_ERROR(AppendRepr(runtime, value, &buffer));
  return buffer.Take();
}

}  // namespace deltaserve::jinja
