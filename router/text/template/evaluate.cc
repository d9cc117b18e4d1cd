// The expressions of the interpreter (interpreter.h).

#include <algorithm>
#include <utility>

#include "absl/base/attributes.h"
#include "kernels/base/status_macros.h"
#include "router/text/template/arguments.h"
#include "router/text/template/cat.h"
#include "router/text/template/interpreter.h"
#include "router/text/template/iterate.h"
#include "router/text/template/lookups.h"
#include "router/text/template/methods.h"
#include "router/text/template/nesting.h"
#include "router/text/template/operators.h"
#include "router/text/template/repr.h"

// Each kind of node is a function of its own, not inlined, so that one level of a deep expression
// takes little of the stack.
#define DS_NODE ABSL_ATTRIBUTE_NOINLINE absl::StatusOr<Value>

namespace deltaserve::jinja {
namespace {

absl::Status TooManyArguments() {
  return absl::ResourceExhaustedError(Cat("a call has more than ", kMaxArguments, " arguments"));
}

}  // namespace

absl::StatusOr<Value> Interpreter::Evaluate(const Expr& expr, Frame& frame, const Value* block) {
  const DepthScope depth(&runtime_);
  absl::Status status = depth.Check();
  if (status.ok()) status = runtime_.Step();
  if (!status.ok()) return Located(status, expr.at);
  absl::StatusOr<Value> value = EvaluateKind(expr, frame, block);
  if (!value.ok()) return Located(value.status(), expr.at);
  return value;
}

absl::StatusOr<Value> Interpreter::EvaluateKind(const Expr& expr,
                                                Frame& frame,
                                                const Value* block) {
  switch (expr.kind) {
    case ExprKind::kConstant:
      return static_cast<const ConstantExpr&>(expr).value;
    case ExprKind::kName:
      return Name(static_cast<const NameExpr&>(expr), frame);
    case ExprKind::kList:
      return List(static_cast<const ListExpr&>(expr), frame);
    case ExprKind::kDict:
      return Dict(static_cast<const DictExpr&>(expr), frame);
    case ExprKind::kUnary:
      return Unary(static_cast<const UnaryExpr&>(expr), frame);
    case ExprKind::kBinary:
      return Operation(static_cast<const BinaryExpr&>(expr), frame);
    case ExprKind::kLogic:
      return Logic(static_cast<const LogicExpr&>(expr), frame);
    case ExprKind::kCompare:
      return Comparison(static_cast<const CompareExpr&>(expr), frame);
    case ExprKind::kConcat:
      return Concat(static_cast<const ConcatExpr&>(expr), frame);
    case ExprKind::kCondition:
      return Condition(static_cast<const ConditionExpr&>(expr), frame);
    case ExprKind::kAttribute: {
      const auto& node = static_cast<const AttributeExpr&>(expr);
      DS_ASSIGN_OR_RETURN(const Value object, Evaluate(*node.object, frame));
      return GetAttribute(runtime_, object, node.name);
    }
    case ExprKind::kItem:
      return Item(static_cast<const ItemExpr&>(expr), frame);
    case ExprKind::kSlice:
      return Cut(static_cast<const SliceExpr&>(expr), frame);
    case ExprKind::kCall:
      return Call(static_cast<const CallExpr&>(expr), frame);
    case ExprKind::kFilter:
      return Filter(static_cast<const FilterExpr&>(expr), frame, block);
    case ExprKind::kTest:
      return Test(static_cast<const TestExpr&>(expr), frame);
    case ExprKind::kNamespaceTarget:
      break;
  }
  return Wrong("not an expression");
}

DS_NODE Interpreter::Name(const NameExpr& node, Frame& frame) {
  const Value& value = SlotOf(frame, node.reference);
  if (!value.IsMissing()) return value;
  return runtime_.Undefined(Cat(QuoteShort(node.reference.name), " is undefined"));
}

DS_NODE Interpreter::List(const ListExpr& node, Frame& frame) {
  std::vector<Value> items;
  items.reserve(node.items.size());
  for (const ExprPtr& item : node.items) {
    DS_ASSIGN_OR_RETURN(Value value, Evaluate(*item, frame));
    items.push_back(std::move(value));
  }
  return node.is_tuple ? runtime_.Tuple(std::move(items)) : runtime_.List(std::move(items));
}

DS_NODE Interpreter::Dict(const DictExpr& node, Frame& frame) {
  auto dict = std::make_shared<DictObject>();
  for (const auto& [key_expr, value_expr] : node.entries) {
    DS_ASSIGN_OR_RETURN(const Value key, Evaluate(*key_expr, frame));
    DS_ASSIGN_OR_RETURN(Value value, Evaluate(*value_expr, frame));
    DS_RETURN_IF_ERROR(CheckKey(runtime_, key));
    dict->Set(key, std::move(value));
  }
  return runtime_.Dict(std::move(dict));
}

DS_NODE Interpreter::Unary(const UnaryExpr& node, Frame& frame) {
  DS_ASSIGN_OR_RETURN(const Value value, Evaluate(*node.operand, frame));
  switch (node.op) {
    case UnaryOp::kNegative:
      return Negative(value);
    case UnaryOp::kPositive:
      return Positive(value);
    case UnaryOp::kNot:
      break;
  }
  return Value::Bool(!Truth(value));
}

DS_NODE Interpreter::Operation(const BinaryExpr& node, Frame& frame) {
  DS_ASSIGN_OR_RETURN(const Value left, Evaluate(*node.left, frame));
  DS_ASSIGN_OR_RETURN(const Value right, Evaluate(*node.right, frame));
  return Binary(runtime_, node.op, left, right);
}

DS_NODE Interpreter::Logic(const LogicExpr& node, Frame& frame) {
  DS_ASSIGN_OR_RETURN(Value left, Evaluate(*node.left, frame));
  if (Truth(left) != node.is_and) return left;
  return Evaluate(*node.right, frame);
}

DS_NODE Interpreter::Comparison(const CompareExpr& node, Frame& frame) {
  DS_ASSIGN_OR_RETURN(Value left, Evaluate(*node.first, frame));
  for (const auto& [op, operand] : node.rest) {
    DS_ASSIGN_OR_RETURN(Value right, Evaluate(*operand, frame));
    DS_ASSIGN_OR_RETURN(const bool holds, Compare(runtime_, op, left, right));
    if (!holds) return Value::Bool(false);
    left = std::move(right);
  }
  return Value::Bool(true);
}

DS_NODE Interpreter::Concat(const ConcatExpr& node, Frame& frame) {
  Buffer buffer(&runtime_);
  for (const ExprPtr& item : node.items) {
    DS_ASSIGN_OR_RETURN(const Value value, Evaluate(*item, frame));
    DS_RETURN_IF_ERROR(AppendText(runtime_, value, &buffer));
  }
  return runtime_.String(buffer.Take());
}

DS_NODE Interpreter::Condition(const ConditionExpr& node, Frame& frame) {
  DS_ASSIGN_OR_RETURN(const Value test, Evaluate(*node.test, frame));
  if (Truth(test)) return Evaluate(*node.then, frame);
  if (node.otherwise != nullptr) return Evaluate(*node.otherwise, frame);
  return runtime_.Undefined(Cat("the inline if-expression on line ", node.at.line,
                                " evaluated to false and no else section was defined."));
}

DS_NODE Interpreter::Item(const ItemExpr& node, Frame& frame) {
  DS_ASSIGN_OR_RETURN(const Value object, Evaluate(*node.object, frame));
  DS_ASSIGN_OR_RETURN(const Value key, Evaluate(*node.key, frame));
  return GetItem(runtime_, object, key);
}

DS_NODE Interpreter::Cut(const SliceExpr& node, Frame& frame) {
  DS_ASSIGN_OR_RETURN(const Value object, Evaluate(*node.object, frame));
  Value bounds[3];
  const Expr* const exprs[3] = {node.start.get(), node.stop.get(), node.step.get()};
  for (size_t i = 0; i < 3; ++i) {
    if (exprs[i] == nullptr) continue;
    DS_ASSIGN_OR_RETURN(bounds[i], Evaluate(*exprs[i], frame));
  }
  return GetSlice(runtime_, object, bounds[0], bounds[1], bounds[2]);
}

absl::StatusOr<Arguments> Interpreter::EvaluateArguments(const CallArguments& arguments,
                                                         Frame& frame) {
  Arguments result;
  for (const ExprPtr& expr : arguments.positional) {
    DS_ASSIGN_OR_RETURN(Value value, Evaluate(*expr, frame));
    result.positional.push_back(std::move(value));
  }
  for (const auto& [name, expr] : arguments.keywords) {
    DS_ASSIGN_OR_RETURN(Value value, Evaluate(*expr, frame));
    result.keywords.emplace_back(name, std::move(value));
  }
  if (arguments.more_positional != nullptr) {
    DS_ASSIGN_OR_RETURN(const Value more, Evaluate(*arguments.more_positional, frame));
    std::vector<Value> items;
    DS_ASSIGN_OR_RETURN(items, Collect(runtime_, more));
    if (items.size() > kMaxArguments) return TooManyArguments();
    result.positional.insert(result.positional.end(), items.begin(), items.end());
  }
  if (arguments.more_keywords != nullptr) {
    DS_ASSIGN_OR_RETURN(const Value more, Evaluate(*arguments.more_keywords, frame));
    if (!more.Is(Type::kDict)) {
      return Wrong("argument after ** must be a mapping, not ", TypeName(more));
    }
    if (more.dict().entries.size() > kMaxArguments) return TooManyArguments();
    for (const auto& [key, value] : more.dict().entries) {
      if (!key.IsString()) return Wrong("keywords must be strings");
      if (key.text().size() > kMaxNameBytes) {
        return absl::ResourceExhaustedError(
            Cat("the name of an argument is longer than ", kMaxNameBytes, " bytes"));
      }
      DS_RETURN_IF_ERROR(runtime_.Work(key.text().size() + 64 * result.keywords.size()));
      for (const auto& [name, expr] : arguments.keywords) {
        if (name == key.text()) {
          return Wrong("got multiple values for keyword argument '", name, "'");
        }
      }
      result.keywords.emplace_back(key.text(), value);
    }
  }
  return result;
}

DS_NODE Interpreter::Call(const CallExpr& node, Frame& frame) {
  DS_ASSIGN_OR_RETURN(const Value callee, Evaluate(*node.callee, frame));
  DS_ASSIGN_OR_RETURN(Arguments arguments, EvaluateArguments(node.arguments, frame));
  switch (callee.type()) {
    case Type::kUndefined:
      return UndefinedUse(callee);
    case Type::kFunction:
      return callee.function().call(runtime_, arguments);
    case Type::kMethod:
      return CallMethod(runtime_, callee.method().self, callee.method().name, arguments);
    case Type::kMacro:
      return CallMacro(static_cast<const MacroObject&>(*callee.object()), std::move(arguments));
    case Type::kLoop:
      return Wrong("The loop must have the 'recursive' marker to be called recursively.");
    default:
      return Wrong("'", TypeName(callee), "' object is not callable");
  }
}

DS_NODE Interpreter::Filter(const FilterExpr& node, Frame& frame, const Value* block) {
  Value value;
  if (node.value == nullptr) {
    value = *block;
  } else {
    DS_ASSIGN_OR_RETURN(value, Evaluate(*node.value, frame, block));
  }
  DS_ASSIGN_OR_RETURN(const Arguments arguments, EvaluateArguments(node.arguments, frame));
  if (node.filter != nullptr) return node.filter(runtime_, value, arguments);
  if (IsUnsupportedFilter(node.name)) {
    return absl::UnimplementedError(
        Cat("the filter '", node.name, "' is not supported in chat templates"));
  }
  return Wrong("No filter named '", node.name, "' found.");
}

DS_NODE Interpreter::Test(const TestExpr& node, Frame& frame) {
  DS_ASSIGN_OR_RETURN(const Value value, Evaluate(*node.value, frame));
  DS_ASSIGN_OR_RETURN(const Arguments arguments, EvaluateArguments(node.arguments, frame));
  if (node.test == nullptr) return Wrong("No test named '", node.name, "' found.");
  DS_ASSIGN_OR_RETURN(const bool holds, node.test(runtime_, value, arguments));
  return Value::Bool(holds);
}

absl::Status Interpreter::BindMacro(const MacroStatement& macro,
                                    Arguments arguments,
                                    Frame& frame) {
  const auto slot = [&frame](int index) -> Value& {
    return frame.slots[static_cast<size_t>(index)];
  };
  const auto take_keyword = [&arguments](std::string_view name) {
    auto& keywords = arguments.keywords;
    const auto found = std::find_if(keywords.begin(), keywords.end(),
                                    [&](const auto& k) { return k.first == name; });
    Value value;
    if (found != keywords.end()) {
      value = std::move(found->second);
      keywords.erase(found);
    }
    return value;
  };
  const size_t num_parameters = macro.parameters.size();
  const size_t num_positional = std::min(arguments.positional.size(), num_parameters);
  for (size_t i = 0; i < num_parameters; ++i) {
    slot(macro.parameter_slots[i]) =
        i < num_positional ? arguments.positional[i] : take_keyword(macro.parameters[i]);
  }
  if (macro.caller_slot >= 0) {
    Value caller = take_keyword("caller");
    if (caller.IsMissing() || caller.IsNone()) caller = Value::Undefined("No caller defined");
    slot(macro.caller_slot) = std::move(caller);
  }
  if (macro.kwargs_slot >= 0) {
    auto dict = std::make_shared<DictObject>();
    for (const auto& [name, value] : arguments.keywords) {
      DS_ASSIGN_OR_RETURN(const Value key, runtime_.String(name));
      dict->Set(key, value);
    }
    DS_ASSIGN_OR_RETURN(slot(macro.kwargs_slot), runtime_.Dict(std::move(dict)));
  } else if (!arguments.keywords.empty()) {
    return Wrong("macro '", macro.name, "' takes no keyword argument '",
                 arguments.keywords[0].first, "'");
  }
  if (macro.varargs_slot >= 0) {
    DS_ASSIGN_OR_RETURN(slot(macro.varargs_slot),
                        runtime_.Tuple(std::vector<Value>(
                            arguments.positional.begin() + static_cast<ptrdiff_t>(num_positional),
                            arguments.positional.end())));
  } else if (arguments.positional.size() > num_parameters) {
    return Wrong("macro '", macro.name, "' takes not more than ", num_parameters, " argument(s)");
  }
  const size_t first_default = num_parameters - macro.defaults.size();
  for (size_t i = 0; i < num_parameters; ++i) {
    if (!slot(macro.parameter_slots[i]).IsMissing()) continue;
    Value value =
        Value::Undefined(Cat("parameter ", QuoteText(macro.parameters[i]), " was not provided"));
    if (i >= first_default) {
      DS_ASSIGN_OR_RETURN(value, Evaluate(*macro.defaults[i - first_default], frame));
    }
    slot(macro.parameter_slots[i]) = std::move(value);
  }
  return absl::OkStatus();
}

DS_NODE Interpreter::CallMacro(const MacroObject& macro, Arguments arguments) {
  // What the macro writes may rebind its own name, so both are held here.
  const MacroStatement& statement = *macro.statement;
  DS_ASSIGN_OR_RETURN(const FramePtr frame, Enter(statement.scope, macro.closure));
  DS_RETURN_IF_ERROR(BindMacro(statement, std::move(arguments), *frame));
  Buffer buffer(&runtime_);
  DS_RETURN_IF_ERROR(Execute(statement.body, frame, &buffer).status());
  return runtime_.String(buffer.Take());
}

}  // namespace deltaserve::jinja
