#include "router/text/template/scope.h"

#include <map>
#include <set>
#include <utility>

#include "kernels/base/check.h"
#include "kernels/base/status_macros.h"
#include "router/text/template/cat.h"
#include "router/text/template/lexer.h"
#include "router/text/template/walk.h"

namespace deltaserve::jinja {
namespace {

using LoadKind = SlotLoad::Kind;

// A scope whose names are all known.
struct KnownScope {
  const KnownScope* parent;
  std::map<std::string, int> slots;
};

// The names of one scope while its statements are read. A branch of an `if` has a table of its own
// over `base`, because what only a branch sets may also come from outside.
class NameTable {
 public:
  NameTable(const KnownScope* outer, NameTable* base) : outer_(outer), base_(base) {}

  void Load(const std::string& name) {
    if (!IsOwn(name) && !IsOuter(name)) loads_.emplace(name, LoadKind::kVariable);
  }
  void Store(const std::string& name) {
    stores_.insert(name);
    if (IsOwn(name)) return;
    loads_.emplace(name, IsOuter(name) ? LoadKind::kAlias : LoadKind::kUndefined);
  }
  void Parameter(const std::string& name) {
    stores_.insert(name);
    loads_[name] = LoadKind::kParameter;
  }
  // Takes in the table of a branch over this one.
  void Merge(const NameTable& branch) {
    for (const auto& [name, kind] : branch.loads_) loads_[name] = kind;
    for (const std::string& name : branch.stores_) {
      if (IsStored(name)) continue;
      loads_[name] = IsOuter(name) ? LoadKind::kAlias : LoadKind::kVariable;
      merged_stores_.insert(name);
    }
  }
  // After all branches of one `if`: what they store counts as stored here.
  void EndMerge() { stores_.merge(merged_stores_); }

  const std::map<std::string, LoadKind>& loads() const { return loads_; }

 private:
  bool IsOwn(const std::string& name) const {
    return loads_.count(name) > 0 || (base_ != nullptr && base_->IsOwn(name));
  }
  bool IsStored(const std::string& name) const {
    return stores_.count(name) > 0 || (base_ != nullptr && base_->IsStored(name));
  }
  bool IsOuter(const std::string& name) const {
    for (const KnownScope* scope = outer_; scope != nullptr; scope = scope->parent) {
      if (scope->slots.count(name) > 0) return true;
    }
    return false;
  }

  const KnownScope* const outer_;
  NameTable* const base_;
  std::map<std::string, LoadKind> loads_;
  std::set<std::string> stores_;
  std::set<std::string> merged_stores_;
};

// Reads the statements of one scope without going into the scopes inside.
class Collector {
 public:
  // `outer`: the scope around the one that is read.
  Collector(NameTable* table, const KnownScope* outer) : table_(table), outer_(outer) {}

  void Names(Expr& expr) {
    if (expr.kind == ExprKind::kName) table_->Load(static_cast<NameExpr&>(expr).reference.name);
    ForEachChild(expr, [this](Expr& child) { Names(child); });
  }
  void Target(Expr& expr, bool is_parameter = false) {
    if (expr.kind == ExprKind::kName) {
      const std::string& name = static_cast<NameExpr&>(expr).reference.name;
      is_parameter ? table_->Parameter(name) : table_->Store(name);
    } else if (expr.kind == ExprKind::kNamespaceTarget) {
      table_->Load(static_cast<NamespaceTargetExpr&>(expr).reference.name);
    } else {
      ForEachChild(expr, [&](Expr& child) { Target(child, is_parameter); });
    }
  }
  void Statements(const Body& body) {
    for (const auto& statement : body) One(*statement);
  }

 private:
  void One(Statement& statement);
  void If(IfStatement& node);
  void Branch(absl::FunctionRef<void(Collector&)> read) {
    NameTable branch(outer_, table_);
    Collector inside(&branch, outer_);
    read(inside);
    table_->Merge(branch);
  }

  NameTable* const table_;
  const KnownScope* const outer_;
};

void Collector::If(IfStatement& node) {
  Names(*node.branches[0].first);
  Branch([&](Collector& inside) { inside.Statements(node.branches[0].second); });
  Branch([&](Collector& inside) {
    for (size_t i = 1; i < node.branches.size(); ++i) {
      inside.Names(*node.branches[i].first);
      inside.Branch([&](Collector& body) { body.Statements(node.branches[i].second); });
      inside.table_->EndMerge();
    }
  });
  Branch([&](Collector& inside) { inside.Statements(node.otherwise); });
  table_->EndMerge();
}

void Collector::One(Statement& statement) {
  switch (statement.kind) {
    case StatementKind::kPrint:
      return Names(*static_cast<PrintStatement&>(statement).value);
    case StatementKind::kIf:
      return If(static_cast<IfStatement&>(statement));
    case StatementKind::kFor:
      return Names(*static_cast<ForStatement&>(statement).sequence);
    case StatementKind::kSet:
      Names(*static_cast<SetStatement&>(statement).value);
      return Target(*static_cast<SetStatement&>(statement).target);
    case StatementKind::kSetBlock:
      return Target(*static_cast<SetBlockStatement&>(statement).target);
    case StatementKind::kFilterBlock:
      return Names(*static_cast<FilterBlockStatement&>(statement).filter);
    case StatementKind::kMacro:
      return table_->Store(static_cast<MacroStatement&>(statement).name);
    case StatementKind::kWith:
      for (const auto& binding : static_cast<WithStatement&>(statement).bindings) {
        Names(*binding.second);
      }
      return;
    default:
      return;
  }
}

// Where a statement stands.
struct Place {
  const KnownScope* scope;
  bool is_soft;  // a condition decides whether it runs, so unknown filters fail only then
  bool in_loop;  // break and continue have a loop to act on
  bool in_for;   // `loop` may not be assigned to
};

class Resolver {
 public:
  explicit Resolver(const std::string& name) : name_(name) {}

  absl::Status Statements(const Body& body, const Place& place);
  // Fixes the slots of a scope from what was collected.
  static void Finish(const NameTable& table, KnownScope* known, Scope* scope);

 private:
  absl::Status One(Statement& statement, const Place& place);
  absl::Status For(ForStatement& node, const Place& place);
  absl::Status ForTest(ForStatement& node, const Place& place);
  absl::Status Macro(MacroStatement& node, const Place& place);
  absl::Status SetBlock(SetBlockStatement& node, const Place& place);
  absl::Status FilterBlock(FilterBlockStatement& node, const Place& place);
  absl::Status Generation(GenerationStatement& node, const Place& place);
  absl::Status With(WithStatement& node, const Place& place);
  absl::Status If(IfStatement& node, const Place& place);
  absl::Status Names(Expr& expr, const Place& place);
  absl::Status Target(Expr& expr, const Place& place);
  absl::Status Functions(Expr& expr, const Place& place) const;
  static void Point(const KnownScope* scope, NameReference* reference);

  const std::string& name_;
};

void Resolver::Point(const KnownScope* scope, NameReference* reference) {
  for (int hops = 0; scope != nullptr; scope = scope->parent, ++hops) {
    const auto found = scope->slots.find(reference->name);
    if (found == scope->slots.end()) continue;
    reference->hops = hops;
    reference->slot = found->second;
    return;
  }
  DS_CHECK(false) << "no scope knows the name " << reference->name;
}

void Resolver::Finish(const NameTable& table, KnownScope* known, Scope* scope) {
  for (const auto& [name, kind] : table.loads()) {
    known->slots.emplace(name, static_cast<int>(scope->slots.size()));
    SlotLoad& load = scope->slots.emplace_back();
    load.kind = kind;
    load.source.name = name;
    if (kind == LoadKind::kAlias) {
      Point(known->parent, &load.source);
      ++load.source.hops;
    }
  }
}

absl::Status Resolver::Functions(Expr& expr, const Place& place) const {
  if (expr.kind == ExprKind::kFilter) {
    auto& node = static_cast<FilterExpr&>(expr);
    node.filter = FindFilter(node.name);
    if (node.filter != nullptr || place.is_soft) return absl::OkStatus();
    if (IsUnsupportedFilter(node.name)) {
      return absl::UnimplementedError(Cat(name_, ":", node.at.line, ":", node.at.column,
                                          ": the filter '", node.name,
                                          "' is not supported in chat templates"));
    }
    return ErrorAt(name_, node.at, Cat("no filter named '", node.name, "'"));
  }
  if (expr.kind == ExprKind::kTest) {
    auto& node = static_cast<TestExpr&>(expr);
    node.test = FindTest(node.name);
    if (node.test != nullptr || place.is_soft) return absl::OkStatus();
    return ErrorAt(name_, node.at, Cat("no test named '", node.name, "'"));
  }
  return absl::OkStatus();
}

absl::Status Resolver::Names(Expr& expr, const Place& place) {
  if (expr.kind == ExprKind::kName) Point(place.scope, &static_cast<NameExpr&>(expr).reference);
  DS_RETURN_IF_ERROR(Functions(expr, place));
  Place inside = place;
  inside.is_soft = place.is_soft || expr.kind == ExprKind::kCondition;
  absl::Status status;
  ForEachChild(expr, [&](Expr& child) {
    if (status.ok()) status = Names(child, inside);
  });
  return status;
}

absl::Status Resolver::Target(Expr& expr, const Place& place) {
  if (expr.kind == ExprKind::kName) {
    NameReference& reference = static_cast<NameExpr&>(expr).reference;
    if (place.in_for && reference.name == "loop") {
      return ErrorAt(name_, expr.at, "can't assign to special loop variable in for-loop");
    }
    Point(place.scope, &reference);
    return absl::OkStatus();
  }
  if (expr.kind == ExprKind::kNamespaceTarget) {
    Point(place.scope, &static_cast<NamespaceTargetExpr&>(expr).reference);
    return absl::OkStatus();
  }
  absl::Status status;
  ForEachChild(expr, [&](Expr& child) {
    if (status.ok()) status = Target(child, place);
  });
  return status;
}

absl::Status Resolver::Statements(const Body& body, const Place& place) {
  for (const auto& statement : body) DS_RETURN_IF_ERROR(One(*statement, place));
  return absl::OkStatus();
}

absl::Status Resolver::ForTest(ForStatement& node, const Place& place) {
  NameTable table(place.scope, nullptr);
  Collector collector(&table, place.scope);
  collector.Target(*node.test_target, true);
  collector.Names(*node.test);
  KnownScope known{place.scope, {}};
  Finish(table, &known, &node.test_scope);
  const Place inside{&known, false, false, true};
  DS_RETURN_IF_ERROR(Target(*node.test_target, inside));
  return Names(*node.test, inside);
}

absl::Status Resolver::For(ForStatement& node, const Place& place) {
  DS_RETURN_IF_ERROR(Names(*node.sequence, place));
  if (node.test != nullptr) DS_RETURN_IF_ERROR(ForTest(node, place));
  {
    NameTable table(place.scope, nullptr);
    Collector collector(&table, place.scope);
    const bool names_loop = ReadsName(node.body, "loop");
    if (names_loop) table.Parameter("loop");
    collector.Target(*node.target, true);
    collector.Statements(node.body);
    KnownScope known{place.scope, {}};
    Finish(table, &known, &node.body_scope);
    if (names_loop) node.loop_slot = known.slots.at("loop");
    const Place inside{&known, false, true, true};
    DS_RETURN_IF_ERROR(Target(*node.target, inside));
    DS_RETURN_IF_ERROR(Statements(node.body, inside));
  }
  NameTable table(place.scope, nullptr);
  Collector(&table, place.scope).Statements(node.otherwise);
  KnownScope known{place.scope, {}};
  Finish(table, &known, &node.otherwise_scope);
  return Statements(node.otherwise, {&known, false, place.in_loop, true});
}

absl::Status Resolver::Macro(MacroStatement& node, const Place& place) {
  Point(place.scope, &node.target);
  NameTable table(place.scope, nullptr);
  Collector collector(&table, place.scope);
  for (const std::string& parameter : node.parameters) table.Parameter(parameter);
  for (const ExprPtr& value : node.defaults) collector.Names(*value);
  std::pair<std::string, int*> specials[] = {{"caller", &node.caller_slot},
                                             {"kwargs", &node.kwargs_slot},
                                             {"varargs", &node.varargs_slot}};
  for (auto& [special, slot] : specials) {
    const bool is_parameter =
        std::find(node.parameters.begin(), node.parameters.end(), special) != node.parameters.end();
    if (is_parameter || !ReadsName(node.body, special)) {
      slot = nullptr;
    } else {
      table.Parameter(special);
    }
  }
  collector.Statements(node.body);
  KnownScope known{place.scope, {}};
  Finish(table, &known, &node.scope);
  for (const std::string& parameter : node.parameters) {
    node.parameter_slots.push_back(known.slots.at(parameter));
  }
  for (const auto& [special, slot] : specials) {
    if (slot != nullptr) *slot = known.slots.at(special);
  }
  const Place inside{&known, false, false, place.in_for};
  for (const ExprPtr& value : node.defaults) DS_RETURN_IF_ERROR(Names(*value, inside));
  return Statements(node.body, inside);
}

absl::Status Resolver::SetBlock(SetBlockStatement& node, const Place& place) {
  DS_RETURN_IF_ERROR(Target(*node.target, place));
  NameTable table(place.scope, nullptr);
  Collector collector(&table, place.scope);
  collector.Statements(node.body);
  if (node.filter != nullptr) collector.Names(*node.filter);
  KnownScope known{place.scope, {}};
  Finish(table, &known, &node.scope);
  const Place inside{&known, false, place.in_loop, place.in_for};
  DS_RETURN_IF_ERROR(Statements(node.body, inside));
  return node.filter == nullptr ? absl::OkStatus() : Names(*node.filter, inside);
}

absl::Status Resolver::FilterBlock(FilterBlockStatement& node, const Place& place) {
  NameTable table(place.scope, nullptr);
  Collector collector(&table, place.scope);
  collector.Statements(node.body);
  collector.Names(*node.filter);
  KnownScope known{place.scope, {}};
  Finish(table, &known, &node.scope);
  const Place inside{&known, false, place.in_loop, place.in_for};
  DS_RETURN_IF_ERROR(Statements(node.body, inside));
  return Names(*node.filter, inside);
}

absl::Status Resolver::Generation(GenerationStatement& node, const Place& place) {
  NameTable table(place.scope, nullptr);
  Collector(&table, place.scope).Statements(node.body);
  KnownScope known{place.scope, {}};
  Finish(table, &known, &node.scope);
  return Statements(node.body, {&known, false, false, place.in_for});
}

absl::Status Resolver::With(WithStatement& node, const Place& place) {
  for (const auto& binding : node.bindings) DS_RETURN_IF_ERROR(Names(*binding.second, place));
  NameTable table(place.scope, nullptr);
  Collector collector(&table, place.scope);
  for (const auto& binding : node.bindings) collector.Target(*binding.first, true);
  collector.Statements(node.body);
  KnownScope known{place.scope, {}};
  Finish(table, &known, &node.scope);
  const Place inside{&known, false, place.in_loop, place.in_for};
  for (const auto& binding : node.bindings) DS_RETURN_IF_ERROR(Target(*binding.first, inside));
  return Statements(node.body, inside);
}

absl::Status Resolver::If(IfStatement& node, const Place& place) {
  Place inside = place;
  inside.is_soft = true;
  for (const auto& [test, body] : node.branches) {
    DS_RETURN_IF_ERROR(Names(*test, inside));
    DS_RETURN_IF_ERROR(Statements(body, inside));
  }
  return Statements(node.otherwise, inside);
}

absl::Status Resolver::One(Statement& statement, const Place& place) {
  switch (statement.kind) {
    case StatementKind::kText:
      return absl::OkStatus();
    case StatementKind::kPrint:
      return Names(*static_cast<PrintStatement&>(statement).value, place);
    case StatementKind::kIf:
      return If(static_cast<IfStatement&>(statement), place);
    case StatementKind::kFor:
      return For(static_cast<ForStatement&>(statement), place);
    case StatementKind::kSet: {
      auto& node = static_cast<SetStatement&>(statement);
      DS_RETURN_IF_ERROR(Names(*node.value, place));
      return Target(*node.target, place);
    }
    case StatementKind::kSetBlock:
      return SetBlock(static_cast<SetBlockStatement&>(statement), place);
    case StatementKind::kFilterBlock:
      return FilterBlock(static_cast<FilterBlockStatement&>(statement), place);
    case StatementKind::kMacro:
      return Macro(static_cast<MacroStatement&>(statement), place);
    case StatementKind::kGeneration:
      return Generation(static_cast<GenerationStatement&>(statement), place);
    case StatementKind::kWith:
      return With(static_cast<WithStatement&>(statement), place);
    case StatementKind::kBreak:
    case StatementKind::kContinue:
      if (place.in_loop) return absl::OkStatus();
      return ErrorAt(name_, statement.at,
                     statement.kind == StatementKind::kBreak ? "'break' outside loop"
                                                             : "'continue' outside loop");
  }
  return absl::OkStatus();
}

}  // namespace

absl::Status ResolveNames(const std::string& name, Body* body, Scope* top) {
  NameTable table(nullptr, nullptr);
  Collector(&table, nullptr).Statements(*body);
  KnownScope known{nullptr, {}};
  Resolver::Finish(table, &known, top);
  return Resolver(name).Statements(*body, {&known, false, false, false});
}

}  // namespace deltaserve::jinja
