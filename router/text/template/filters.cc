#include "router/text/template/filters.h"

#include <set>
#include <unordered_map>

#include "router/text/template/filter_functions.h"
#include "router/text/template/json.h"

namespace deltaserve::jinja {

FilterFunction FindFilter(std::string_view name) {
  static const auto* const kFilters = new std::unordered_map<std::string_view, FilterFunction>{
      {"abs", AbsFilter},
      {"attr", AttributeFilter},
      {"batch", BatchFilter},
      {"capitalize", CapitalizeFilter},
      {"center", CenterFilter},
      {"count", LengthFilter},
      {"d", DefaultFilter},
      {"default", DefaultFilter},
      {"dictsort", DictSortFilter},
      {"e", EscapeFilter},
      {"escape", EscapeFilter},
      {"first", FirstFilter},
      {"float", FloatFilter},
      {"forceescape", ForceEscapeFilter},
      {"format", FormatFilter},
      {"groupby", GroupByFilter},
      {"indent", IndentFilter},
      {"int", IntFilter},
      {"items", ItemsFilter},
      {"join", JoinFilter},
      {"last", LastFilter},
      {"length", LengthFilter},
      {"list", ListFilter},
      {"lower", LowerFilter},
      {"map", MapFilter},
      {"max", MaxFilter},
      {"min", MinFilter},
      {"reject", RejectFilter},
      {"rejectattr", RejectAttributeFilter},
      {"replace", ReplaceFilter},
      {"reverse", ReverseFilter},
      {"round", RoundFilter},
      {"safe", SafeFilter},
      {"select", SelectFilter},
      {"selectattr", SelectAttributeFilter},
      {"slice", SliceFilter},
      {"sort", SortFilter},
      {"string", StringFilter},
      {"sum", SumFilter},
      {"title", TitleFilter},
      {"tojson", ToJson},
      {"trim", TrimFilter},
      {"truncate", TruncateFilter},
      {"unique", UniqueFilter},
      {"upper", UpperFilter},
      {"wordcount", WordCountFilter},
  };
  const auto found = kFilters->find(name);
  return found == kFilters->end() ? nullptr : found->second;
}

bool IsUnsupportedFilter(std::string_view name) {
  static const auto* const kNames =
      new std::set<std::string_view>{"filesizeformat", "pprint", "random",   "striptags",
                                     "urlencode",      "urlize", "wordwrap", "xmlattr"};
  return kNames->count(name) > 0;
}

}  // namespace deltaserve::jinja
