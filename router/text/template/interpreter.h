#pragma once

// Runs a parsed template once. Threads: one.

#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "router/text/template/ast.h"
#include "router/text/template/macro.h"
#include "router/text/template/runtime.h"
#include "router/text/template/value.h"

namespace deltaserve::jinja {

// The runtime, the variables (a dict) and the template must outlive it. Expressions are in
// evaluate.cc.
class Interpreter {
 public:
  Interpreter(Runtime* runtime, const Value& variables, const std::string& name)
      : runtime_(*runtime), variables_(variables), name_(name) {}
  Interpreter(const Interpreter&) = delete;
  Interpreter& operator=(const Interpreter&) = delete;
  // Lets go of scopes that hold themselves through their macros.
  ~Interpreter();

  // The text that `body` writes. Errors have a position.
  absl::StatusOr<std::string> Run(const Body& body, const Scope& scope);

 private:
  // How a statement ends.
  enum class Flow : uint8_t { kNext, kBreak, kContinue };
  using FramePtr = std::shared_ptr<Frame>;

  // Scopes and names.
  absl::StatusOr<FramePtr> Enter(const Scope& scope, const FramePtr& parent);
  // Sets the slots as a scope has them on entry, again at each turn of a loop.
  absl::Status Reset(Frame& frame);
  static Value& SlotOf(Frame& frame, const NameReference& reference);
  absl::Status Assign(const Expr& target, const Value& value, Frame& frame);
  absl::Status AssignParts(const ListExpr& target, const Value& value, Frame& frame);
  absl::Status CheckNamespaces(const Expr& target, Frame& frame);

  // Statements.
  absl::StatusOr<Flow> Execute(const Body& body, const FramePtr& frame, Buffer* out);
  absl::StatusOr<Flow> One(const Statement& statement, const FramePtr& frame, Buffer* out);
  absl::StatusOr<Flow> If(const IfStatement& node, const FramePtr& frame, Buffer* out);
  absl::StatusOr<Flow> For(const ForStatement& node, const FramePtr& frame, Buffer* out);
  absl::StatusOr<Value> Tested(const ForStatement& node, const Value& items, const FramePtr& frame);
  absl::StatusOr<Flow> SetBlock(const SetBlockStatement& node, const FramePtr& frame);
  absl::StatusOr<Flow> FilterBlock(const FilterBlockStatement& node,
                                   const FramePtr& frame,
                                   Buffer* out);
  absl::StatusOr<Flow> With(const WithStatement& node, const FramePtr& frame, Buffer* out);
  absl::Status DefineMacro(const MacroStatement& node, const FramePtr& frame);

  // Expressions. `block`: the text that a filter without value works on, or null.
  absl::StatusOr<Value> Evaluate(const Expr& expr, Frame& frame, const Value* block = nullptr);
  absl::StatusOr<Value> EvaluateKind(const Expr& expr, Frame& frame, const Value* block);
  absl::StatusOr<Value> Name(const NameExpr& node, Frame& frame);
  absl::StatusOr<Value> List(const ListExpr& node, Frame& frame);
  absl::StatusOr<Value> Dict(const DictExpr& node, Frame& frame);
  absl::StatusOr<Value> Unary(const UnaryExpr& node, Frame& frame);
  absl::StatusOr<Value> Operation(const BinaryExpr& node, Frame& frame);
  absl::StatusOr<Value> Logic(const LogicExpr& node, Frame& frame);
  absl::StatusOr<Value> Comparison(const CompareExpr& node, Frame& frame);
  absl::StatusOr<Value> Concat(const ConcatExpr& node, Frame& frame);
  absl::StatusOr<Value> Condition(const ConditionExpr& node, Frame& frame);
  absl::StatusOr<Value> Item(const ItemExpr& node, Frame& frame);
  absl::StatusOr<Value> Cut(const SliceExpr& node, Frame& frame);
  absl::StatusOr<Value> Call(const CallExpr& node, Frame& frame);
  absl::StatusOr<Value> Filter(const FilterExpr& node, Frame& frame, const Value* block);
  absl::StatusOr<Value> Test(const TestExpr& node, Frame& frame);
  absl::StatusOr<Arguments> EvaluateArguments(const CallArguments& arguments, Frame& frame);
  absl::StatusOr<Value> CallMacro(const MacroObject& macro, Arguments arguments);
  absl::Status BindMacro(const MacroStatement& macro, Arguments arguments, Frame& frame);

  // The status with the position, unless it has one already.
  absl::Status Located(const absl::Status& status, Position at);

  Runtime& runtime_;
  const Value& variables_;
  const std::string& name_;
  bool is_located_ = false;
  std::vector<FramePtr> captured_;  // scopes that macros hold on to
};

}  // namespace deltaserve::jinja
