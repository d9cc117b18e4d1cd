#pragma once

// The bodies of the filters, by file: text_filters.cc, sequence_filters.cc, select_filters.cc,
// number_filters.cc. All are FilterFunction.

#include "absl/status/statusor.h"
#include "router/text/template/runtime.h"
#include "router/text/template/value.h"

namespace deltaserve::jinja {

// Text.
absl::StatusOr<Value> CapitalizeFilter(Runtime&, const Value&, const Arguments&);
absl::StatusOr<Value> CenterFilter(Runtime&, const Value&, const Arguments&);
absl::StatusOr<Value> EscapeFilter(Runtime&, const Value&, const Arguments&);
absl::StatusOr<Value> ForceEscapeFilter(Runtime&, const Value&, const Arguments&);
absl::StatusOr<Value> FormatFilter(Runtime&, const Value&, const Arguments&);
absl::StatusOr<Value> IndentFilter(Runtime&, const Value&, const Arguments&);
absl::StatusOr<Value> LowerFilter(Runtime&, const Value&, const Arguments&);
absl::StatusOr<Value> ReplaceFilter(Runtime&, const Value&, const Arguments&);
absl::StatusOr<Value> SafeFilter(Runtime&, const Value&, const Arguments&);
absl::StatusOr<Value> StringFilter(Runtime&, const Value&, const Arguments&);
absl::StatusOr<Value> TitleFilter(Runtime&, const Value&, const Arguments&);
absl::StatusOr<Value> TrimFilter(Runtime&, const Value&, const Arguments&);
absl::StatusOr<Value> TruncateFilter(Runtime&, const Value&, const Arguments&);
absl::StatusOr<Value> UpperFilter(Runtime&, const Value&, const Arguments&);
absl::StatusOr<Value> WordCountFilter(Runtime&, const Value&, const Arguments&);

// Sequences.
absl::StatusOr<Value> AttributeFilter(Runtime&, const Value&, const Arguments&);
absl::StatusOr<Value> BatchFilter(Runtime&, const Value&, const Arguments&);
absl::StatusOr<Value> DefaultFilter(Runtime&, const Value&, const Arguments&);
absl::StatusOr<Value> DictSortFilter(Runtime&, const Value&, const Arguments&);
absl::StatusOr<Value> FirstFilter(Runtime&, const Value&, const Arguments&);
absl::StatusOr<Value> GroupByFilter(Runtime&, const Value&, const Arguments&);
absl::StatusOr<Value> ItemsFilter(Runtime&, const Value&, const Arguments&);
absl::StatusOr<Value> JoinFilter(Runtime&, const Value&, const Arguments&);
absl::StatusOr<Value> LastFilter(Runtime&, const Value&, const Arguments&);
absl::StatusOr<Value> LengthFilter(Runtime&, const Value&, const Arguments&);
absl::StatusOr<Value> ListFilter(Runtime&, const Value&, const Arguments&);
absl::StatusOr<Value> ReverseFilter(Runtime&, const Value&, const Arguments&);
absl::StatusOr<Value> SliceFilter(Runtime&, const Value&, const Arguments&);
absl::StatusOr<Value> SortFilter(Runtime&, const Value&, const Arguments&);
absl::StatusOr<Value> UniqueFilter(Runtime&, const Value&, const Arguments&);

// One function for each item.
absl::StatusOr<Value> MapFilter(Runtime&, const Value&, const Arguments&);
absl::StatusOr<Value> RejectAttributeFilter(Runtime&, const Value&, const Arguments&);
absl::StatusOr<Value> RejectFilter(Runtime&, const Value&, const Arguments&);
absl::StatusOr<Value> SelectAttributeFilter(Runtime&, const Value&, const Arguments&);
absl::StatusOr<Value> SelectFilter(Runtime&, const Value&, const Arguments&);

// Numbers.
absl::StatusOr<Value> AbsFilter(Runtime&, const Value&, const Arguments&);
absl::StatusOr<Value> FloatFilter(Runtime&, const Value&, const Arguments&);
absl::StatusOr<Value> IntFilter(Runtime&, const Value&, const Arguments&);
absl::StatusOr<Value> MaxFilter(Runtime&, const Value&, const Arguments&);
absl::StatusOr<Value> MinFilter(Runtime&, const Value&, const Arguments&);
absl::StatusOr<Value> RoundFilter(Runtime&, const Value&, const Arguments&);
absl::StatusOr<Value> SumFilter(Runtime&, const Value&, const Arguments&);

// The value in lower case where it is a string, unless `is_case_sensitive`: what sorting looks at.
absl::StatusOr<Value> SortKey(Runtime& runtime, const Value& value, bool is_case_sensitive);

}  // namespace deltaserve::jinja
