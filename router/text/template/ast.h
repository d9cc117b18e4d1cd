#pragma once

// A parsed template: expressions and statements, with names resolved to slots of scopes (scope.h).
// Immutable once parsed; any thread may read it.

#include <algorithm>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "router/text/template/filters.h"
#include "router/text/template/operators.h"
#include "router/text/template/tests.h"
#include "router/text/template/value.h"

namespace deltaserve::jinja {

// Both from 1; columns count code points.
struct Position {
  int line = 0;
  int column = 0;
};

// Where a name lives: `hops` scopes outwards, then slot `slot`.
struct NameReference {
  std::string name;
  int hops = 0;
  int slot = 0;
};

// How a slot gets its value when its scope is entered.
struct SlotLoad {
  enum class Kind : uint8_t {
    kParameter,  // whoever enters the scope sets it
    kUndefined,  // nothing, until it is set
    kVariable,   // the variable or global of the name
    kAlias,      // a copy of the name in a scope further out
  };
  Kind kind = Kind::kUndefined;
  NameReference source;  // for kAlias, hops from this scope; for kVariable its name
};

struct Scope {
  std::vector<SlotLoad> slots;
};

enum class ExprKind : uint8_t {
  kConstant,
  kName,
  kNamespaceTarget,
  kList,
  kDict,
  kUnary,
  kBinary,
  kLogic,
  kCompare,
  kConcat,
  kCondition,
  kAttribute,
  kItem,
  kSlice,
  kCall,
  kFilter,
  kTest,
};

struct Expr {
  Expr(ExprKind k, Position position) : kind(k), at(position) {}
  Expr(const Expr&) = delete;
  Expr& operator=(const Expr&) = delete;
  virtual ~Expr() = default;

  const ExprKind kind;
  const Position at;
  int depth = 1;  // of nodes below each other, this one included
};
using ExprPtr = std::unique_ptr<Expr>;

struct ConstantExpr : Expr {
  ConstantExpr(Position position, Value v)
      : Expr(ExprKind::kConstant, position), value(std::move(v)) {}
  Value value;
};

struct NameExpr : Expr {
  NameExpr(Position position, std::string name) : Expr(ExprKind::kName, position) {
    reference.name = std::move(name);
  }
  NameReference reference;
};

// ns.attribute where something is assigned.
struct NamespaceTargetExpr : Expr {
  explicit NamespaceTargetExpr(Position position) : Expr(ExprKind::kNamespaceTarget, position) {}
  NameReference reference;
  std::string attribute;
};

struct ListExpr : Expr {
  ListExpr(Position position, bool tuple) : Expr(ExprKind::kList, position), is_tuple(tuple) {}
  bool is_tuple;
  std::vector<ExprPtr> items;
};

struct DictExpr : Expr {
  explicit DictExpr(Position position) : Expr(ExprKind::kDict, position) {}
  std::vector<std::pair<ExprPtr, ExprPtr>> entries;
};

enum class UnaryOp : uint8_t { kNegative, kPositive, kNot };

struct UnaryExpr : Expr {
  explicit UnaryExpr(Position position) : Expr(ExprKind::kUnary, position) {}
  UnaryOp op = UnaryOp::kNot;
  ExprPtr operand;
};

struct BinaryExpr : Expr {
  explicit BinaryExpr(Position position) : Expr(ExprKind::kBinary, position) {}
  BinaryOp op = BinaryOp::kAdd;
  ExprPtr left;
  ExprPtr right;
};

struct LogicExpr : Expr {
  explicit LogicExpr(Position position) : Expr(ExprKind::kLogic, position) {}
  bool is_and = false;
  ExprPtr left;
  ExprPtr right;
};

struct CompareExpr : Expr {
  explicit CompareExpr(Position position) : Expr(ExprKind::kCompare, position) {}
  ExprPtr first;
  std::vector<std::pair<CompareOp, ExprPtr>> rest;
};

struct ConcatExpr : Expr {
  explicit ConcatExpr(Position position) : Expr(ExprKind::kConcat, position) {}
  std::vector<ExprPtr> items;
};

struct ConditionExpr : Expr {
  explicit ConditionExpr(Position position) : Expr(ExprKind::kCondition, position) {}
  ExprPtr test;
  ExprPtr then;
  ExprPtr otherwise;  // null: undefined
};

struct AttributeExpr : Expr {
  explicit AttributeExpr(Position position) : Expr(ExprKind::kAttribute, position) {}
  ExprPtr object;
  std::string name;
};

struct ItemExpr : Expr {
  explicit ItemExpr(Position position) : Expr(ExprKind::kItem, position) {}
  ExprPtr object;
  ExprPtr key;
};

struct SliceExpr : Expr {
  explicit SliceExpr(Position position) : Expr(ExprKind::kSlice, position) {}
  ExprPtr object;  // null until the parser puts it under what it cuts
  ExprPtr start;   // these may be null
  ExprPtr stop;
  ExprPtr step;
};

struct CallArguments {
  std::vector<ExprPtr> positional;
  std::vector<std::pair<std::string, ExprPtr>> keywords;
  ExprPtr more_positional;  // *x, or null
  ExprPtr more_keywords;    // **x, or null
};

struct CallExpr : Expr {
  explicit CallExpr(Position position) : Expr(ExprKind::kCall, position) {}
  ExprPtr callee;
  CallArguments arguments;
};

struct FilterExpr : Expr {
  explicit FilterExpr(Position position) : Expr(ExprKind::kFilter, position) {}
  ExprPtr value;  // null: the text of the block that the filter ends
  std::string name;
  CallArguments arguments;
  FilterFunction filter = nullptr;  // null: there is none, which fails when it is run
};

struct TestExpr : Expr {
  explicit TestExpr(Position position) : Expr(ExprKind::kTest, position) {}
  ExprPtr value;
  std::string name;
  CallArguments arguments;
  TestFunction test = nullptr;
};

// Makes `parent` deeper than a child, which may be null.
inline void Deepen(Expr* parent, const ExprPtr& child) {
  if (child != nullptr) parent->depth = std::max(parent->depth, child->depth + 1);
}
inline void Deepen(Expr* parent, const CallArguments& arguments) {
  for (const ExprPtr& value : arguments.positional) Deepen(parent, value);
  for (const auto& [name, value] : arguments.keywords) Deepen(parent, value);
  Deepen(parent, arguments.more_positional);
  Deepen(parent, arguments.more_keywords);
}

enum class StatementKind : uint8_t {
  kText,
  kPrint,
  kIf,
  kFor,
  kSet,
  kSetBlock,
  kFilterBlock,
  kMacro,
  kGeneration,
  kWith,
  kBreak,
  kContinue,
};

struct Statement {
  Statement(StatementKind k, Position position) : kind(k), at(position) {}
  Statement(const Statement&) = delete;
  Statement& operator=(const Statement&) = delete;
  virtual ~Statement() = default;

  const StatementKind kind;
  const Position at;
};
using Body = std::vector<std::unique_ptr<Statement>>;

struct TextStatement : Statement {
  TextStatement(Position position, std::string t)
      : Statement(StatementKind::kText, position), text(std::move(t)) {}
  std::string text;
};

struct PrintStatement : Statement {
  PrintStatement(Position position, ExprPtr v)
      : Statement(StatementKind::kPrint, position), value(std::move(v)) {}
  ExprPtr value;
};

struct IfStatement : Statement {
  explicit IfStatement(Position position) : Statement(StatementKind::kIf, position) {}
  std::vector<std::pair<ExprPtr, Body>> branches;
  Body otherwise;
};

struct ForStatement : Statement {
  explicit ForStatement(Position position) : Statement(StatementKind::kFor, position) {}
  ExprPtr target;
  ExprPtr sequence;
  ExprPtr test;         // null: every item
  ExprPtr test_target;  // `target` in the scope of the test; null where there is none
  Body body;
  Body otherwise;
  Scope body_scope;
  Scope test_scope;
  Scope otherwise_scope;
  int loop_slot = -1;  // of `loop` in body_scope; -1 where the body does not name it
};

struct SetStatement : Statement {
  explicit SetStatement(Position position) : Statement(StatementKind::kSet, position) {}
  ExprPtr target;
  ExprPtr value;
};

struct SetBlockStatement : Statement {
  explicit SetBlockStatement(Position position) : Statement(StatementKind::kSetBlock, position) {}
  ExprPtr target;
  ExprPtr filter;  // null: the text as it is
  Body body;
  Scope scope;
};

struct FilterBlockStatement : Statement {
  explicit FilterBlockStatement(Position position)
      : Statement(StatementKind::kFilterBlock, position) {}
  ExprPtr filter;
  Body body;
  Scope scope;
};

struct MacroStatement : Statement {
  explicit MacroStatement(Position position) : Statement(StatementKind::kMacro, position) {}
  std::string name;
  NameReference target;
  std::vector<std::string> parameters;
  std::vector<ExprPtr> defaults;  // of the last parameters
  Body body;
  Scope scope;
  std::vector<int> parameter_slots;
  int caller_slot = -1;  // -1 where the body does not name it
  int kwargs_slot = -1;
  int varargs_slot = -1;
};

struct GenerationStatement : Statement {
  explicit GenerationStatement(Position position)
      : Statement(StatementKind::kGeneration, position) {}
  Body body;
  Scope scope;
};

struct WithStatement : Statement {
  explicit WithStatement(Position position) : Statement(StatementKind::kWith, position) {}
  std::vector<std::pair<ExprPtr, ExprPtr>> bindings;  // target, value
  Body body;
  Scope scope;
};

struct BreakStatement : Statement {
  explicit BreakStatement(Position position) : Statement(StatementKind::kBreak, position) {}
};

struct ContinueStatement : Statement {
  explicit ContinueStatement(Position position) : Statement(StatementKind::kContinue, position) {}
};

}  // namespace deltaserve::jinja
