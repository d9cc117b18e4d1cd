#include "router/text/template/walk.h"

#include <optional>

namespace deltaserve::jinja {
namespace {

void ForEachArgument(CallArguments& arguments, absl::FunctionRef<void(Expr&)> visit) {
  for (const ExprPtr& value : arguments.positional) visit(*value);
  for (const auto& [name, value] : arguments.keywords) visit(*value);
  if (arguments.more_positional != nullptr) visit(*arguments.more_positional);
  if (arguments.more_keywords != nullptr) visit(*arguments.more_keywords);
}

// Looks for the first mention of one name.
class NameSearch {
 public:
  explicit NameSearch(std::string_view name) : name_(name) {}

  void Visit(const Body& body);
  bool is_read() const { return is_read_.value_or(false); }

 private:
  void Visit(const Statement& statement);
  void VisitFor(const ForStatement& statement);
  void VisitMacro(const MacroStatement& statement);
  // `is_target`: the names directly in it are set, not read.
  void Visit(const ExprPtr& expr, bool is_target = false) {
    if (expr != nullptr) Visit(*expr, is_target);
  }
  void Visit(Expr& expr, bool is_target);

  const std::string_view name_;
  std::optional<bool> is_read_;
};

void NameSearch::Visit(Expr& expr, bool is_target) {
  if (is_read_.has_value()) return;
  if (expr.kind == ExprKind::kName && static_cast<NameExpr&>(expr).reference.name == name_) {
    is_read_ = !is_target;
  }
  ForEachChild(expr, [&](Expr& child) { Visit(child, is_target); });
}

void NameSearch::Visit(const Body& body) {
  for (const auto& statement : body) {
    if (!is_read_.has_value()) Visit(*statement);
  }
}

void NameSearch::VisitFor(const ForStatement& statement) {
  Visit(statement.target, true);
  Visit(statement.sequence);
  Visit(statement.body);
  Visit(statement.otherwise);
  Visit(statement.test);
}

void NameSearch::VisitMacro(const MacroStatement& statement) {
  for (const std::string& parameter : statement.parameters) {
    if (parameter == name_ && !is_read_.has_value()) is_read_ = false;
  }
  for (const ExprPtr& value : statement.defaults) Visit(value);
  Visit(statement.body);
}

void NameSearch::Visit(const Statement& statement) {
  switch (statement.kind) {
    case StatementKind::kPrint:
      return Visit(static_cast<const PrintStatement&>(statement).value);
    case StatementKind::kIf: {
      const auto& node = static_cast<const IfStatement&>(statement);
      for (const auto& [test, body] : node.branches) {
        Visit(test);
        Visit(body);
      }
      return Visit(node.otherwise);
    }
    case StatementKind::kFor:
      return VisitFor(static_cast<const ForStatement&>(statement));
    case StatementKind::kSet: {
      const auto& node = static_cast<const SetStatement&>(statement);
      Visit(node.target, true);
      return Visit(node.value);
    }
    case StatementKind::kSetBlock: {
      const auto& node = static_cast<const SetBlockStatement&>(statement);
      Visit(node.target, true);
      Visit(node.filter);
      return Visit(node.body);
    }
    case StatementKind::kFilterBlock: {
      const auto& node = static_cast<const FilterBlockStatement&>(statement);
      Visit(node.body);
      return Visit(node.filter);
    }
    case StatementKind::kMacro:
      return VisitMacro(static_cast<const MacroStatement&>(statement));
    case StatementKind::kGeneration:
      return Visit(static_cast<const GenerationStatement&>(statement).body);
    case StatementKind::kWith: {
      const auto& node = static_cast<const WithStatement&>(statement);
      for (const auto& binding : node.bindings) Visit(binding.first, true);
      for (const auto& binding : node.bindings) Visit(binding.second);
      return Visit(node.body);
    }
    case StatementKind::kText:
    case StatementKind::kBreak:
    case StatementKind::kContinue:
      return;
  }
}

}  // namespace

void ForEachChild(Expr& expr, absl::FunctionRef<void(Expr&)> visit) {
  const auto visit_if = [&](const ExprPtr& child) {
    if (child != nullptr) visit(*child);
  };
  switch (expr.kind) {
    case ExprKind::kConstant:
    case ExprKind::kName:
    case ExprKind::kNamespaceTarget:
      return;
    case ExprKind::kList:
      for (const ExprPtr& item : static_cast<ListExpr&>(expr).items) visit(*item);
      return;
    case ExprKind::kDict:
      for (const auto& [key, value] : static_cast<DictExpr&>(expr).entries) {
        visit(*key);
        visit(*value);
      }
      return;
    case ExprKind::kUnary:
      return visit(*static_cast<UnaryExpr&>(expr).operand);
    case ExprKind::kBinary:
      visit(*static_cast<BinaryExpr&>(expr).left);
      return visit(*static_cast<BinaryExpr&>(expr).right);
    case ExprKind::kLogic:
      visit(*static_cast<LogicExpr&>(expr).left);
      return visit(*static_cast<LogicExpr&>(expr).right);
    case ExprKind::kCompare:
      visit(*static_cast<CompareExpr&>(expr).first);
      for (const auto& [op, operand] : static_cast<CompareExpr&>(expr).rest) visit(*operand);
      return;
    case ExprKind::kConcat:
      for (const ExprPtr& item : static_cast<ConcatExpr&>(expr).items) visit(*item);
      return;
    case ExprKind::kCondition:
      visit(*static_cast<ConditionExpr&>(expr).test);
      visit(*static_cast<ConditionExpr&>(expr).then);
      return visit_if(static_cast<ConditionExpr&>(expr).otherwise);
    case ExprKind::kAttribute:
      return visit(*static_cast<AttributeExpr&>(expr).object);
    case ExprKind::kItem:
      visit(*static_cast<ItemExpr&>(expr).object);
      return visit(*static_cast<ItemExpr&>(expr).key);
    case ExprKind::kSlice:
      visit(*static_cast<SliceExpr&>(expr).object);
      visit_if(static_cast<SliceExpr&>(expr).start);
      visit_if(static_cast<SliceExpr&>(expr).stop);
      return visit_if(static_cast<SliceExpr&>(expr).step);
    case ExprKind::kCall:
      visit(*static_cast<CallExpr&>(expr).callee);
      return ForEachArgument(static_cast<CallExpr&>(expr).arguments, visit);
    case ExprKind::kFilter:
      visit_if(static_cast<FilterExpr&>(expr).value);
      return ForEachArgument(static_cast<FilterExpr&>(expr).arguments, visit);
    case ExprKind::kTest:
      visit(*static_cast<TestExpr&>(expr).value);
      return ForEachArgument(static_cast<TestExpr&>(expr).arguments, visit);
  }
}

bool ReadsName(const Body& body, std::string_view name) {
  NameSearch search(name);
  search.Visit(body);
  return search.is_read();
}

}  // namespace deltaserve::jinja
