// The tightest expressions of the grammar (parser.h): literals, subscripts, calls, filters, tests.

#include <algorithm>
#include <utility>

#include "kernels/base/status_macros.h"
#include "router/text/template/cat.h"
#include "router/text/template/nesting.h"
#include "router/text/template/parser.h"

namespace deltaserve::jinja {

absl::StatusOr<ExprPtr> Parser::ParseNamed(bool takes_namespace) {
  const Token& token = tokens_[next_++];
  if (token.text == "true" || token.text == "True") {
    return std::make_unique<ConstantExpr>(token.at, Value::Bool(true));
  }
  if (token.text == "false" || token.text == "False") {
    return std::make_unique<ConstantExpr>(token.at, Value::Bool(false));
  }
  if (token.text == "none" || token.text == "None") {
    return std::make_unique<ConstantExpr>(token.at, Value::None());
  }
  if (takes_namespace && SkipOperator(".")) {
    auto node = std::make_unique<NamespaceTargetExpr>(token.at);
    node->reference.name = token.text;
    DS_ASSIGN_OR_RETURN(node->attribute, ExpectAnyName());
    return node;
  }
  return std::make_unique<NameExpr>(token.at, token.text);
}

absl::StatusOr<ExprPtr> Parser::ParsePrimary(bool takes_namespace) {
  const Token& token = Current();
  switch (token.kind) {
    case TokenKind::kName:
      return ParseNamed(takes_namespace);
    case TokenKind::kString: {
      std::string text;
      while (Current().kind == TokenKind::kString) text += tokens_[next_++].text;
      return std::make_unique<ConstantExpr>(token.at, Value::Constant(std::move(text)));
    }
    case TokenKind::kNumber:
      ++next_;
      if (token.number.IsMissing()) {
        constexpr size_t kShown = 60;
        return Fail(token.at,
                    Cat(token.text.substr(0, kShown), " is beyond 127 bits; use a smaller number"));
      }
      return std::make_unique<ConstantExpr>(token.at, token.number);
    default:
      break;
  }
  if (SkipOperator("(")) {
    const Nesting nesting(&nesting_);
    DS_RETURN_IF_ERROR(CheckNesting());
    DS_ASSIGN_OR_RETURN(ExprPtr value, ParseTuple({.is_bracketed = true}));
    DS_RETURN_IF_ERROR(ExpectOperator(")"));
    return value;
  }
  if (AtOperator("[")) return ParseList();
  if (AtOperator("{")) return ParseDict();
  return Unexpected("an expression");
}

absl::StatusOr<ExprPtr> Parser::ParseList() {
  auto node = std::make_unique<ListExpr>(tokens_[next_++].at, false);
  while (!AtOperator("]")) {
    if (!node->items.empty()) {
      DS_RETURN_IF_ERROR(ExpectOperator(","));
      if (AtOperator("]")) break;
    }
    DS_ASSIGN_OR_RETURN(ExprPtr item, ParseExpression());
    Deepen(node.get(), item);
    node->items.push_back(std::move(item));
  }
  ++next_;
  return Checked(std::move(node));
}

absl::StatusOr<ExprPtr> Parser::ParseDict() {
  auto node = std::make_unique<DictExpr>(tokens_[next_++].at);
  while (!AtOperator("}")) {
    if (!node->entries.empty()) {
      DS_RETURN_IF_ERROR(ExpectOperator(","));
      if (AtOperator("}")) break;
    }
    DS_ASSIGN_OR_RETURN(ExprPtr key, ParseExpression());
    DS_RETURN_IF_ERROR(ExpectOperator(":"));
    DS_ASSIGN_OR_RETURN(ExprPtr value, ParseExpression());
    Deepen(node.get(), key);
    Deepen(node.get(), value);
    node->entries.emplace_back(std::move(key), std::move(value));
  }
  ++next_;
  return Checked(std::move(node));
}

absl::StatusOr<ExprPtr> Parser::ParsePostfix(ExprPtr value) {
  while (true) {
    if (AtOperator(".") || AtOperator("[")) {
      DS_ASSIGN_OR_RETURN(value, ParseSubscript(std::move(value)));
    } else if (AtOperator("(")) {
      DS_ASSIGN_OR_RETURN(value, ParseCall(std::move(value)));
    } else {
      return value;
    }
  }
}

absl::StatusOr<ExprPtr> Parser::ParseFilters(ExprPtr value) {
  while (true) {
    if (SkipOperator("|")) {
      DS_ASSIGN_OR_RETURN(value, ParseFilter(std::move(value)));
    } else if (AtName("is")) {
      DS_ASSIGN_OR_RETURN(value, ParseTest(std::move(value)));
    } else if (AtOperator("(")) {
      DS_ASSIGN_OR_RETURN(value, ParseCall(std::move(value)));
    } else {
      return value;
    }
  }
}

absl::StatusOr<ExprPtr> Parser::ParseSubscript(ExprPtr object) {
  const Position at = Current().at;
  if (SkipOperator(".")) {
    const Token& token = tokens_[next_++];
    if (token.kind == TokenKind::kName) {
      auto node = std::make_unique<AttributeExpr>(at);
      Deepen(node.get(), object);
      node->object = std::move(object);
      node->name = token.text;
      return Checked(std::move(node));
    }
    if (token.kind != TokenKind::kNumber || !token.number.Is(Type::kInt)) {
      return Fail(token.at, "expected a name or a number after '.'");
    }
    auto node = std::make_unique<ItemExpr>(at);
    Deepen(node.get(), object);
    node->object = std::move(object);
    node->key = std::make_unique<ConstantExpr>(token.at, token.number);
    return Checked(std::move(node));
  }
  ++next_;  // [
  auto tuple = std::make_unique<ListExpr>(at, true);
  bool has_slice = false;
  while (!AtOperator("]")) {
    if (!tuple->items.empty()) DS_RETURN_IF_ERROR(ExpectOperator(","));
    DS_ASSIGN_OR_RETURN(ExprPtr key, ParseSubscribed());
    // Only the parser makes a slice of nothing.
    has_slice = has_slice || (key->kind == ExprKind::kSlice &&
                              static_cast<const SliceExpr&>(*key).object == nullptr);
    Deepen(tuple.get(), key);
    tuple->items.push_back(std::move(key));
  }
  ++next_;
  if (has_slice && tuple->items.size() != 1)
    return Fail(at, "a slice must be alone in its brackets");
  if (has_slice) {
    ExprPtr slice = std::move(tuple->items[0]);
    Deepen(slice.get(), object);
    static_cast<SliceExpr&>(*slice).object = std::move(object);
    return Checked(std::move(slice));
  }
  auto node = std::make_unique<ItemExpr>(at);
  if (tuple->items.size() == 1) {
    node->key = std::move(tuple->items[0]);
  } else {
    node->key = std::move(tuple);
  }
  Deepen(node.get(), object);
  Deepen(node.get(), node->key);
  node->object = std::move(object);
  return Checked(std::move(node));
}

absl::StatusOr<ExprPtr> Parser::ParseSubscribed() {
  const Position at = Current().at;
  ExprPtr start;
  if (!AtOperator(":")) {
    DS_ASSIGN_OR_RETURN(start, ParseExpression());
    if (!AtOperator(":")) return start;
  }
  ++next_;
  auto node = std::make_unique<SliceExpr>(at);
  const auto at_end = [this] { return AtOperator("]") || AtOperator(","); };
  node->start = std::move(start);
  if (!AtOperator(":") && !at_end()) {
    DS_ASSIGN_OR_RETURN(node->stop, ParseExpression());
  }
  if (SkipOperator(":") && !at_end()) {
    DS_ASSIGN_OR_RETURN(node->step, ParseExpression());
  }
  Deepen(node.get(), node->start);
  Deepen(node.get(), node->stop);
  Deepen(node.get(), node->step);
  return node;
}

absl::StatusOr<CallArguments> Parser::ParseArguments() {
  const Position at = Current().at;
  DS_RETURN_IF_ERROR(ExpectOperator("("));
  CallArguments arguments;
  bool is_first = true;
  while (!AtOperator(")")) {
    if (!std::exchange(is_first, false)) {
      DS_RETURN_IF_ERROR(ExpectOperator(","));
      if (AtOperator(")")) break;
    }
    const bool has_more =
        arguments.more_positional != nullptr || arguments.more_keywords != nullptr;
    const Position argument_at = Current().at;
    if (arguments.positional.size() + arguments.keywords.size() == kMaxArguments) {
      return TooMuch(argument_at, Cat("a call has more than ", kMaxArguments, " arguments"));
    }
    if (AtOperator("*") && !has_more) {
      ++next_;
      DS_ASSIGN_OR_RETURN(arguments.more_positional, ParseExpression());
    } else if (AtOperator("**") && arguments.more_keywords == nullptr) {
      ++next_;
      DS_ASSIGN_OR_RETURN(arguments.more_keywords, ParseExpression());
    } else if (Current().kind == TokenKind::kName && After().kind == TokenKind::kOperator &&
               After().text == "=" && arguments.more_keywords == nullptr) {
      std::string name = Current().text;
      next_ += 2;
      DS_ASSIGN_OR_RETURN(ExprPtr value, ParseExpression());
      for (const auto& keyword : arguments.keywords) {
        if (keyword.first == name) {
          return Fail(argument_at, Cat("the argument '", name, "' is there twice"));
        }
      }
      arguments.keywords.emplace_back(std::move(name), std::move(value));
    } else {
      if (has_more || !arguments.keywords.empty()) {
        return Fail(at, "invalid syntax for function call expression");
      }
      DS_ASSIGN_OR_RETURN(ExprPtr value, ParseExpression());
      arguments.positional.push_back(std::move(value));
    }
  }
  ++next_;
  return arguments;
}

absl::StatusOr<ExprPtr> Parser::ParseCall(ExprPtr callee) {
  auto node = std::make_unique<CallExpr>(Current().at);
  DS_ASSIGN_OR_RETURN(node->arguments, ParseArguments());
  Deepen(node.get(), callee);
  Deepen(node.get(), node->arguments);
  node->callee = std::move(callee);
  return Checked(std::move(node));
}

absl::StatusOr<std::string> Parser::ParseDottedName() {
  DS_ASSIGN_OR_RETURN(std::string name, ExpectAnyName());
  while (SkipOperator(".")) {
    DS_ASSIGN_OR_RETURN(const std::string part, ExpectAnyName());
    CatTo(&name, ".", part);
  }
  return name;
}

absl::StatusOr<ExprPtr> Parser::ParseFilter(ExprPtr value) {
  auto node = std::make_unique<FilterExpr>(Current().at);
  DS_ASSIGN_OR_RETURN(node->name, ParseDottedName());
  if (AtOperator("(")) {
    DS_ASSIGN_OR_RETURN(node->arguments, ParseArguments());
  }
  Deepen(node.get(), value);
  Deepen(node.get(), node->arguments);
  node->value = std::move(value);
  return Checked(std::move(node));
}

absl::StatusOr<ExprPtr> Parser::ParseTest(ExprPtr value) {
  auto node = std::make_unique<TestExpr>(tokens_[next_++].at);
  const bool is_negated = SkipName("not");
  DS_ASSIGN_OR_RETURN(node->name, ParseDottedName());
  const bool starts_value =
      Current().kind == TokenKind::kString || Current().kind == TokenKind::kNumber ||
      Current().kind == TokenKind::kName || AtOperator("[") || AtOperator("{");
  if (AtOperator("(")) {
    DS_ASSIGN_OR_RETURN(node->arguments, ParseArguments());
  } else if (starts_value && !AtName("else") && !AtName("or") && !AtName("and")) {
    if (AtName("is")) return Fail(Current().at, "you cannot chain multiple tests with 'is'");
    DS_ASSIGN_OR_RETURN(ExprPtr argument, ParsePrimary());
    DS_ASSIGN_OR_RETURN(argument, ParsePostfix(std::move(argument)));
    node->arguments.positional.push_back(std::move(argument));
  }
  Deepen(node.get(), value);
  Deepen(node.get(), node->arguments);
  node->value = std::move(value);
  const Position at = node->at;
  DS_ASSIGN_OR_RETURN(ExprPtr test, Checked(std::move(node)));
  if (!is_negated) return test;
  auto negation = std::make_unique<UnaryExpr>(at);
  Deepen(negation.get(), test);
  negation->operand = std::move(test);
  return Checked(std::move(negation));
}

}  // namespace deltaserve::jinja
