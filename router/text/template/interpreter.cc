#include "router/text/template/interpreter.h"

#include <utility>

#include "absl/base/attributes.h"
#include "absl/cleanup/cleanup.h"
#include "absl/strings/cord.h"
#include "kernels/base/status_macros.h"
#include "router/text/template/cat.h"
#include "router/text/template/functions.h"
#include "router/text/template/iterate.h"
#include "router/text/template/loop.h"
#include "router/text/template/operators.h"
#include "router/text/template/repr.h"
#include "router/text/template/text.h"

namespace deltaserve::jinja {
namespace {

// Whoever asked for the rendering gets the message, which may quote what the template computed.
constexpr size_t kMostMessageBytes = 2000;

}  // namespace

Interpreter::~Interpreter() {
  for (const FramePtr& frame : captured_) {
    const auto slots = std::exchange(frame->slots, {});
  }
}

absl::Status Interpreter::Located(const absl::Status& status, Position at) {
  if (std::exchange(is_located_, true)) return status;
  const std::string_view what = std::string_view(status.message().data(), status.message().size());
  const std::string_view shown = what.substr(0, CharacterAtOrBefore(what, kMostMessageBytes));
  absl::Status located(status.code(), Cat(name_, ":", at.line, ":", at.column, ": ", shown,
                                          shown.size() < what.size() ? "..." : ""));
  status.ForEachPayload([&located](absl::string_view type, const absl::Cord& payload) {
    located.SetPayload(type, payload);
  });
  return located;
}

absl::StatusOr<Interpreter::FramePtr> Interpreter::Enter(const Scope& scope,
                                                         const FramePtr& parent) {
  DS_RETURN_IF_ERROR(runtime_.CheckRoom(Frame::Bytes(scope)));
  auto frame = std::make_shared<Frame>(&runtime_, scope, parent);
  DS_RETURN_IF_ERROR(Reset(*frame));
  return frame;
}

absl::Status Interpreter::Reset(Frame& frame) {
  const size_t size = frame.scope->slots.size();
  DS_RETURN_IF_ERROR(runtime_.Step(static_cast<int64_t>(size / 4 + 1)));
  frame.slots.assign(size, Value());
  for (size_t i = 0; i < size; ++i) {
    const SlotLoad& load = frame.scope->slots[i];
    if (load.kind == SlotLoad::Kind::kAlias) {
      frame.slots[i] = SlotOf(frame, load.source);
    } else if (load.kind == SlotLoad::Kind::kVariable) {
      const Value* found = variables_.dict().Find(load.source.name);
      if (found != nullptr) {
        frame.slots[i] = *found;
      } else {
        DS_ASSIGN_OR_RETURN(frame.slots[i], FindGlobal(runtime_, load.source.name));
      }
    }
  }
  return absl::OkStatus();
}

Value& Interpreter::SlotOf(Frame& frame, const NameReference& reference) {
  Frame* at = &frame;
  for (int i = 0; i < reference.hops; ++i) at = at->parent.get();
  return at->slots[static_cast<size_t>(reference.slot)];
}

absl::Status Interpreter::CheckNamespaces(const Expr& target, Frame& frame) {
  if (target.kind == ExprKind::kNamespaceTarget) {
    const auto& node = static_cast<const NamespaceTargetExpr&>(target);
    if (SlotOf(frame, node.reference).Is(Type::kNamespace)) return absl::OkStatus();
    return Located(Wrong("cannot assign attribute on non-namespace object"), target.at);
  }
  if (target.kind == ExprKind::kList) {
    for (const ExprPtr& item : static_cast<const ListExpr&>(target).items) {
      DS_RETURN_IF_ERROR(CheckNamespaces(*item, frame));
    }
  }
  return absl::OkStatus();
}

absl::Status Interpreter::AssignParts(const ListExpr& target, const Value& value, Frame& frame) {
  if (!IsIterable(value)) {
    return Located(Wrong("cannot unpack non-iterable ", TypeName(value), " object"), target.at);
  }
  const absl::StatusOr<std::shared_ptr<Iterator>> iterator = MakeIterator(runtime_, value);
  if (!iterator.ok()) return Located(iterator.status(), target.at);
  // One item more than is wanted is enough to know that there are too many.
  std::vector<Value> parts;
  for (size_t i = 0; i <= target.items.size(); ++i) {
    Value part;
    const absl::StatusOr<bool> has_next = (*iterator)->Next(runtime_, &part);
    if (!has_next.ok()) return Located(has_next.status(), target.at);
    if (!*has_next) break;
    parts.push_back(std::move(part));
  }
  if (parts.size() != target.items.size()) {
    const bool is_many = parts.size() > target.items.size();
    return Located(Wrong(is_many ? "too many" : "not enough", " values to unpack (expected ",
                         target.items.size(), ")"),
                   target.at);
  }
  for (size_t i = 0; i < parts.size(); ++i) {
    DS_RETURN_IF_ERROR(Assign(*target.items[i], parts[i], frame));
  }
  return absl::OkStatus();
}

absl::Status Interpreter::Assign(const Expr& target, const Value& value, Frame& frame) {
  switch (target.kind) {
    case ExprKind::kName:
      SlotOf(frame, static_cast<const NameExpr&>(target).reference) = value;
      return absl::OkStatus();
    case ExprKind::kNamespaceTarget: {
      const auto& node = static_cast<const NamespaceTargetExpr&>(target);
      const Value space = SlotOf(frame, node.reference);
      const absl::Status status = SetNamespaceAttribute(runtime_, space, node.attribute, value);
      return status.ok() ? status : Located(status, target.at);
    }
    default:
      return AssignParts(static_cast<const ListExpr&>(target), value, frame);
  }
}

absl::StatusOr<std::string> Interpreter::Run(const Body& body, const Scope& scope) {
  DS_ASSIGN_OR_RETURN(const FramePtr frame, Enter(scope, nullptr));
  Buffer out(&runtime_);
  DS_RETURN_IF_ERROR(Execute(body, frame, &out).status());
  return out.Take();
}

absl::StatusOr<Interpreter::Flow> Interpreter::Execute(const Body& body,
                                                       const FramePtr& frame,
                                                       Buffer* out) {
  const DepthScope depth(&runtime_);
  for (const auto& statement : body) {
    if (const absl::Status status = depth.Check(); !status.ok()) {
      return Located(status, statement->at);
    }
    if (const absl::Status status = runtime_.Step(); !status.ok()) {
      return Located(status, statement->at);
    }
    absl::StatusOr<Flow> flow = One(*statement, frame, out);
    if (!flow.ok()) return Located(flow.status(), statement->at);
    if (*flow != Flow::kNext) return flow;
  }
  return Flow::kNext;
}

absl::StatusOr<Interpreter::Flow> Interpreter::One(const Statement& statement,
                                                   const FramePtr& frame,
                                                   Buffer* out) {
  switch (statement.kind) {
    case StatementKind::kText:
      DS_RETURN_IF_ERROR(out->Append(static_cast<const TextStatement&>(statement).text));
      return Flow::kNext;
    case StatementKind::kPrint: {
      DS_ASSIGN_OR_RETURN(const Value value,
                          Evaluate(*static_cast<const PrintStatement&>(statement).value, *frame));
      DS_RETURN_IF_ERROR(AppendText(runtime_, value, out));
      return Flow::kNext;
    }
    case StatementKind::kIf:
      return If(static_cast<const IfStatement&>(statement), frame, out);
    case StatementKind::kFor:
      return For(static_cast<const ForStatement&>(statement), frame, out);
    case StatementKind::kSet: {
      const auto& node = static_cast<const SetStatement&>(statement);
      DS_RETURN_IF_ERROR(CheckNamespaces(*node.target, *frame));
      DS_ASSIGN_OR_RETURN(const Value value, Evaluate(*node.value, *frame));
      DS_RETURN_IF_ERROR(Assign(*node.target, value, *frame));
      return Flow::kNext;
    }
    case StatementKind::kSetBlock:
      return SetBlock(static_cast<const SetBlockStatement&>(statement), frame);
    case StatementKind::kFilterBlock:
      return FilterBlock(static_cast<const FilterBlockStatement&>(statement), frame, out);
    case StatementKind::kMacro:
      DS_RETURN_IF_ERROR(DefineMacro(static_cast<const MacroStatement&>(statement), frame));
      return Flow::kNext;
    case StatementKind::kGeneration: {
      const auto& node = static_cast<const GenerationStatement&>(statement);
      DS_ASSIGN_OR_RETURN(const FramePtr inner, Enter(node.scope, frame));
      return Execute(node.body, inner, out);
    }
    case StatementKind::kWith:
      return With(static_cast<const WithStatement&>(statement), frame, out);
    case StatementKind::kBreak:
      return Flow::kBreak;
    case StatementKind::kContinue:
      return Flow::kContinue;
  }
  return Flow::kNext;
}

ABSL_ATTRIBUTE_NOINLINE absl::StatusOr<Interpreter::Flow> Interpreter::If(const IfStatement& node,
                                                                          const FramePtr& frame,
                                                                          Buffer* out) {
  for (const auto& [test, body] : node.branches) {
    DS_ASSIGN_OR_RETURN(const Value value, Evaluate(*test, *frame));
    if (Truth(value)) return Execute(body, frame, out);
  }
  return Execute(node.otherwise, frame, out);
}

ABSL_ATTRIBUTE_NOINLINE absl::StatusOr<Value> Interpreter::Tested(const ForStatement& node,
                                                                  const Value& items,
                                                                  const FramePtr& frame) {
  DS_ASSIGN_OR_RETURN(const std::shared_ptr<Iterator> iterator, MakeIterator(runtime_, items));
  DS_ASSIGN_OR_RETURN(const FramePtr inner, Enter(node.test_scope, frame));
  return runtime_.Generator(
      IterateFunction(
          [this, &node, iterator, inner](Runtime& r, Value* item) -> absl::StatusOr<bool> {
            while (true) {
              DS_ASSIGN_OR_RETURN(const bool has_next, iterator->Next(r, item));
              if (!has_next) return false;
              DS_RETURN_IF_ERROR(Assign(*node.test_target, *item, *inner));
              DS_ASSIGN_OR_RETURN(const Value holds, Evaluate(*node.test, *inner));
              if (Truth(holds)) return true;
            }
          }),
      items.depth());
}

ABSL_ATTRIBUTE_NOINLINE absl::StatusOr<Interpreter::Flow> Interpreter::For(const ForStatement& node,
                                                                           const FramePtr& frame,
                                                                           Buffer* out) {
  DS_ASSIGN_OR_RETURN(Value items, Evaluate(*node.sequence, *frame));
  if (node.test != nullptr) {
    DS_ASSIGN_OR_RETURN(items, Tested(node, items, frame));
  }
  DS_ASSIGN_OR_RETURN(std::shared_ptr<Iterator> iterator, MakeIterator(runtime_, items));
  std::shared_ptr<LoopObject> loop;
  Value loop_value;
  if (node.loop_slot >= 0) {
    loop = std::make_shared<LoopObject>(items, std::move(iterator));
    DS_ASSIGN_OR_RETURN(loop_value,
                        runtime_.Adopt(Type::kLoop, loop, sizeof(LoopObject), items.depth()));
  }
  DS_RETURN_IF_ERROR(runtime_.CheckRoom(Frame::Bytes(node.body_scope)));
  const auto inner = std::make_shared<Frame>(&runtime_, node.body_scope, frame);
  // Leaving a loop unbinds its names, for macros made in it as well, and what `loop` holds: a chain
  // of loops that hold each other could be deeper than the stack.
  const auto leave = absl::MakeCleanup([&inner, &loop] {
    inner->slots.clear();
    if (loop != nullptr) loop->Leave();
  });
  bool is_empty = true;
  Value item;
  while (true) {
    DS_ASSIGN_OR_RETURN(const bool has_next, loop != nullptr ? loop->Advance(runtime_, &item)
                                                             : iterator->Next(runtime_, &item));
    if (!has_next) break;
    is_empty = false;
    DS_RETURN_IF_ERROR(Reset(*inner));
    if (loop != nullptr) inner->slots[static_cast<size_t>(node.loop_slot)] = loop_value;
    DS_RETURN_IF_ERROR(Assign(*node.target, item, *inner));
    DS_ASSIGN_OR_RETURN(const Flow flow, Execute(node.body, inner, out));
    if (flow == Flow::kBreak) break;
  }
  if (!is_empty || node.otherwise.empty()) return Flow::kNext;
  DS_ASSIGN_OR_RETURN(const FramePtr otherwise, Enter(node.otherwise_scope, frame));
  return Execute(node.otherwise, otherwise, out);
}

ABSL_ATTRIBUTE_NOINLINE absl::StatusOr<Interpreter::Flow> Interpreter::SetBlock(
    const SetBlockStatement& node, const FramePtr& frame) {
  DS_RETURN_IF_ERROR(CheckNamespaces(*node.target, *frame));
  DS_ASSIGN_OR_RETURN(const FramePtr inner, Enter(node.scope, frame));
  Buffer buffer(&runtime_);
  DS_ASSIGN_OR_RETURN(const Flow flow, Execute(node.body, inner, &buffer));
  if (flow != Flow::kNext) return flow;
  DS_ASSIGN_OR_RETURN(Value value, runtime_.String(buffer.Take()));
  if (node.filter != nullptr) {
    const Value block = value;
    DS_ASSIGN_OR_RETURN(value, Evaluate(*node.filter, *inner, &block));
  }
  DS_RETURN_IF_ERROR(Assign(*node.target, value, *frame));
  return Flow::kNext;
}

ABSL_ATTRIBUTE_NOINLINE absl::StatusOr<Interpreter::Flow> Interpreter::FilterBlock(
    const FilterBlockStatement& node, const FramePtr& frame, Buffer* out) {
  DS_ASSIGN_OR_RETURN(const FramePtr inner, Enter(node.scope, frame));
  Buffer buffer(&runtime_);
  DS_ASSIGN_OR_RETURN(const Flow flow, Execute(node.body, inner, &buffer));
  if (flow != Flow::kNext) return flow;
  DS_ASSIGN_OR_RETURN(const Value block, runtime_.String(buffer.Take()));
  DS_ASSIGN_OR_RETURN(const Value value, Evaluate(*node.filter, *inner, &block));
  if (!value.IsString()) {
    return Wrong("the filter of a block must give str, not ", TypeName(value));
  }
  DS_RETURN_IF_ERROR(out->Append(value.text()));
  return Flow::kNext;
}

ABSL_ATTRIBUTE_NOINLINE absl::StatusOr<Interpreter::Flow> Interpreter::With(
    const WithStatement& node, const FramePtr& frame, Buffer* out) {
  DS_ASSIGN_OR_RETURN(const FramePtr inner, Enter(node.scope, frame));
  for (const auto& [target, expr] : node.bindings) {
    DS_ASSIGN_OR_RETURN(const Value value, Evaluate(*expr, *frame));
    DS_RETURN_IF_ERROR(Assign(*target, value, *inner));
  }
  return Execute(node.body, inner, out);
}

absl::Status Interpreter::DefineMacro(const MacroStatement& node, const FramePtr& frame) {
  auto macro = std::make_shared<MacroObject>();
  macro->statement = &node;
  macro->closure = frame;
  for (FramePtr at = frame; at != nullptr && !at->is_captured; at = at->parent) {
    at->is_captured = true;
    captured_.push_back(at);
  }
  DS_ASSIGN_OR_RETURN(Value value,
                      runtime_.Adopt(Type::kMacro, std::move(macro), sizeof(MacroObject), 0));
  SlotOf(*frame, node.target) = std::move(value);
  return absl::OkStatus();
}

}  // namespace deltaserve::jinja
