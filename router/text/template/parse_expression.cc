// The expressions of the grammar (parser.h), each method one level of precedence.

#include <algorithm>
#include <set>
#include <utility>

#include "kernels/base/status_macros.h"
#include "router/text/template/cat.h"
#include "router/text/template/nesting.h"
#include "router/text/template/parser.h"

namespace deltaserve::jinja {
namespace {

// What an assignment calls the kind of an expression that it cannot assign to.
std::string_view KindName(const Expr& expr) {
  switch (expr.kind) {
    case ExprKind::kConstant:
      return "const";
    case ExprKind::kList:
      return "list";
    case ExprKind::kDict:
      return "dict";
    case ExprKind::kCall:
      return "call";
    case ExprKind::kAttribute:
      return "getattr";
    case ExprKind::kItem:
    case ExprKind::kSlice:
      return "getitem";
    case ExprKind::kFilter:
      return "filter";
    default:
      return "expression";
  }
}

}  // namespace

absl::Status Parser::CheckNesting() const {
  if (nesting_ <= kMaxNesting) return absl::OkStatus();
  return TooMuch(Current().at,
                 Cat("brackets and blocks lie inside each other more than ", kMaxNesting, " deep"));
}

absl::StatusOr<ExprPtr> Parser::Checked(ExprPtr expr) const {
  if (expr->depth <= kMaxTreeDepth) return expr;
  return TooMuch(expr->at, Cat("an expression is more than ", kMaxTreeDepth, " operators deep"));
}

absl::StatusOr<ExprPtr> Parser::MakeBinary(Position at,
                                           BinaryOp op,
                                           ExprPtr left,
                                           ExprPtr right) const {
  auto node = std::make_unique<BinaryExpr>(at);
  node->op = op;
  Deepen(node.get(), left);
  Deepen(node.get(), right);
  node->left = std::move(left);
  node->right = std::move(right);
  return Checked(std::move(node));
}

absl::Status Parser::CheckTarget(const Expr& target) const {
  static const std::set<std::string, std::less<>> kConstants = {"true", "false", "none",
                                                                "True", "False", "None"};
  if (target.kind == ExprKind::kNamespaceTarget) return absl::OkStatus();
  if (target.kind == ExprKind::kName) {
    const std::string& name = static_cast<const NameExpr&>(target).reference.name;
    if (kConstants.count(name) == 0) return absl::OkStatus();
    return Fail(target.at, Cat("can't assign to '", name, "'"));
  }
  if (target.kind == ExprKind::kList && static_cast<const ListExpr&>(target).is_tuple) {
    for (const ExprPtr& item : static_cast<const ListExpr&>(target).items) {
      DS_RETURN_IF_ERROR(CheckTarget(*item));
    }
    return absl::OkStatus();
  }
  return Fail(target.at, Cat("can't assign to '", KindName(target), "'"));
}

absl::StatusOr<ExprPtr> Parser::ParseTarget(const TupleRule& rule) {
  DS_ASSIGN_OR_RETURN(ExprPtr target, ParseTuple(rule));
  DS_RETURN_IF_ERROR(CheckTarget(*target));
  return target;
}

absl::StatusOr<ExprPtr> Parser::ParseTuple(const TupleRule& rule) {
  auto tuple = std::make_unique<ListExpr>(Current().at, true);
  bool is_tuple = false;
  while (true) {
    if (!tuple->items.empty()) DS_RETURN_IF_ERROR(ExpectOperator(","));
    const TokenKind kind = Current().kind;
    if (kind == TokenKind::kPrintEnd || kind == TokenKind::kBlockEnd || AtOperator(")")) break;
    absl::StatusOr<ExprPtr> item =
        rule.is_target ? ParsePrimary(rule.takes_namespace) : ParseExpression(rule.takes_condition);
    if (!item.ok()) return item;
    Deepen(tuple.get(), *item);
    tuple->items.push_back(*std::move(item));
    if (!AtOperator(",")) break;
    is_tuple = true;
  }
  if (!is_tuple && tuple->items.size() == 1) return std::move(tuple->items[0]);
  if (!is_tuple && !rule.is_bracketed) return Unexpected("an expression");
  return Checked(std::move(tuple));
}

absl::StatusOr<ExprPtr> Parser::ParseExpression(bool takes_condition) {
  const Nesting nesting(&nesting_);
  DS_RETURN_IF_ERROR(CheckNesting());
  Position at = Current().at;
  DS_ASSIGN_OR_RETURN(ExprPtr value, ParseOr());
  while (takes_condition && SkipName("if")) {
    auto node = std::make_unique<ConditionExpr>(at);
    node->then = std::move(value);
    DS_ASSIGN_OR_RETURN(node->test, ParseOr());
    if (SkipName("else")) {
      DS_ASSIGN_OR_RETURN(node->otherwise, ParseExpression());
    }
    Deepen(node.get(), node->then);
    Deepen(node.get(), node->test);
    Deepen(node.get(), node->otherwise);
    at = Current().at;
    DS_ASSIGN_OR_RETURN(value, Checked(std::move(node)));
  }
  return value;
}

absl::StatusOr<ExprPtr> Parser::ParseOr() {
  DS_ASSIGN_OR_RETURN(ExprPtr left, ParseAnd());
  while (AtName("or")) {
    auto node = std::make_unique<LogicExpr>(tokens_[next_++].at);
    DS_ASSIGN_OR_RETURN(node->right, ParseAnd());
    Deepen(node.get(), left);
    Deepen(node.get(), node->right);
    node->left = std::move(left);
    DS_ASSIGN_OR_RETURN(left, Checked(std::move(node)));
  }
  return left;
}

absl::StatusOr<ExprPtr> Parser::ParseAnd() {
  DS_ASSIGN_OR_RETURN(ExprPtr left, ParseNot());
  while (AtName("and")) {
    auto node = std::make_unique<LogicExpr>(tokens_[next_++].at);
    node->is_and = true;
    DS_ASSIGN_OR_RETURN(node->right, ParseNot());
    Deepen(node.get(), left);
    Deepen(node.get(), node->right);
    node->left = std::move(left);
    DS_ASSIGN_OR_RETURN(left, Checked(std::move(node)));
  }
  return left;
}

absl::StatusOr<ExprPtr> Parser::ParseNot() {
  if (!AtName("not")) return ParseCompare();
  const Nesting nesting(&nesting_);
  DS_RETURN_IF_ERROR(CheckNesting());
  auto node = std::make_unique<UnaryExpr>(tokens_[next_++].at);
  DS_ASSIGN_OR_RETURN(node->operand, ParseNot());
  Deepen(node.get(), node->operand);
  return Checked(std::move(node));
}

absl::StatusOr<ExprPtr> Parser::ParseCompare() {
  static constexpr std::pair<std::string_view, CompareOp> kOperators[] = {
      {"==", CompareOp::kEqual},     {"!=", CompareOp::kNotEqual}, {"<", CompareOp::kLess},
      {"<=", CompareOp::kLessEqual}, {">", CompareOp::kGreater},   {">=", CompareOp::kGreaterEqual},
  };
  const auto next_operator = [this](CompareOp* op) {
    for (const auto& [symbol, kind] : kOperators) {
      if (SkipOperator(symbol)) return *op = kind, true;
    }
    if (SkipName("in")) return *op = CompareOp::kIn, true;
    if (AtName("not") && After().kind == TokenKind::kName && After().text == "in") {
      next_ += 2;
      return *op = CompareOp::kNotIn, true;
    }
    return false;
  };
  Position at = Current().at;
  DS_ASSIGN_OR_RETURN(ExprPtr first, ParseSum());
  CompareOp op;
  Position op_at = Current().at;
  if (!next_operator(&op)) return first;
  at = op_at;
  auto node = std::make_unique<CompareExpr>(at);
  Deepen(node.get(), first);
  node->first = std::move(first);
  do {
    DS_ASSIGN_OR_RETURN(ExprPtr operand, ParseSum());
    Deepen(node.get(), operand);
    node->rest.emplace_back(op, std::move(operand));
  } while (next_operator(&op));
  return Checked(std::move(node));
}

absl::StatusOr<ExprPtr> Parser::ParseSum() {
  DS_ASSIGN_OR_RETURN(ExprPtr left, ParseConcat());
  while (AtOperator("+") || AtOperator("-")) {
    const Token& token = tokens_[next_++];
    DS_ASSIGN_OR_RETURN(ExprPtr right, ParseConcat());
    const BinaryOp op = token.text == "+" ? BinaryOp::kAdd : BinaryOp::kSub;
    DS_ASSIGN_OR_RETURN(left, MakeBinary(token.at, op, std::move(left), std::move(right)));
  }
  return left;
}

absl::StatusOr<ExprPtr> Parser::ParseConcat() {
  const Position at = Current().at;
  DS_ASSIGN_OR_RETURN(ExprPtr first, ParseProduct());
  if (!AtOperator("~")) return first;
  auto node = std::make_unique<ConcatExpr>(at);
  Deepen(node.get(), first);
  node->items.push_back(std::move(first));
  while (SkipOperator("~")) {
    DS_ASSIGN_OR_RETURN(ExprPtr item, ParseProduct());
    Deepen(node.get(), item);
    node->items.push_back(std::move(item));
  }
  return Checked(std::move(node));
}

absl::StatusOr<ExprPtr> Parser::ParseProduct() {
  static constexpr std::pair<std::string_view, BinaryOp> kOperators[] = {
      {"*", BinaryOp::kMul},
      {"/", BinaryOp::kDiv},
      {"//", BinaryOp::kFloorDiv},
      {"%", BinaryOp::kMod},
  };
  DS_ASSIGN_OR_RETURN(ExprPtr left, ParsePower());
  while (true) {
    const auto found = std::find_if(std::begin(kOperators), std::end(kOperators),
                                    [this](const auto& op) { return AtOperator(op.first); });
    if (found == std::end(kOperators)) return left;
    const Position at = tokens_[next_++].at;
    DS_ASSIGN_OR_RETURN(ExprPtr right, ParsePower());
    DS_ASSIGN_OR_RETURN(left, MakeBinary(at, found->second, std::move(left), std::move(right)));
  }
}

absl::StatusOr<ExprPtr> Parser::ParsePower() {
  DS_ASSIGN_OR_RETURN(ExprPtr left, ParseUnary());
  while (AtOperator("**")) {
    const Position at = tokens_[next_++].at;
    DS_ASSIGN_OR_RETURN(ExprPtr right, ParseUnary());
    DS_ASSIGN_OR_RETURN(left, MakeBinary(at, BinaryOp::kPow, std::move(left), std::move(right)));
  }
  return left;
}

absl::StatusOr<ExprPtr> Parser::ParseUnary(bool takes_filter) {
  const Nesting nesting(&nesting_);
  DS_RETURN_IF_ERROR(CheckNesting());
  ExprPtr value;
  if (AtOperator("-") || AtOperator("+")) {
    auto node = std::make_unique<UnaryExpr>(Current().at);
    node->op = AtOperator("-") ? UnaryOp::kNegative : UnaryOp::kPositive;
    ++next_;
    DS_ASSIGN_OR_RETURN(node->operand, ParseUnary(false));
    Deepen(node.get(), node->operand);
    value = std::move(node);
  } else {
    DS_ASSIGN_OR_RETURN(value, ParsePrimary());
  }
  DS_ASSIGN_OR_RETURN(value, ParsePostfix(std::move(value)));
  if (!takes_filter) return value;
  return ParseFilters(std::move(value));
}

}  // namespace deltaserve::jinja
