#pragma once

// From tokens to statements, by the grammar of jinja2 3.1 with loop controls and `generation`.

#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "router/text/template/ast.h"
#include "router/text/template/lexer.h"

namespace deltaserve::jinja {

// The statements of a whole template; names are not resolved yet (scope.h). Errors: InvalidArgument
// with position; Unimplemented for constructs that chat templates do not use (include, block, ...);
// ResourceExhausted past a bound of nesting.h.
absl::StatusOr<Body> ParseBody(std::vector<Token> tokens, const std::string& name);

// One parse. Used once. The methods for expressions are in parse_expression.cc.
class Parser {
 public:
  Parser(std::vector<Token> tokens, const std::string& name)
      : tokens_(std::move(tokens)), name_(name) {}

  absl::StatusOr<Body> Run();

 private:
  // How a list of expressions without brackets ends, and what may be in it.
  struct TupleRule {
    bool is_target = false;  // names only
    bool takes_condition = true;
    bool takes_namespace = false;  // ns.x is a target
    bool is_bracketed = false;     // () is the empty tuple
  };
  using Ends = std::vector<std::string_view>;

  const Token& Current() const { return tokens_[next_]; }
  const Token& After() const { return tokens_[std::min(next_ + 1, tokens_.size() - 1)]; }
  bool AtName(std::string_view name) const;
  bool AtOperator(std::string_view op) const;
  bool SkipName(std::string_view name);
  bool SkipOperator(std::string_view op);
  absl::Status ExpectOperator(std::string_view op);
  absl::Status ExpectName(std::string_view name);
  absl::StatusOr<std::string> ExpectAnyName();
  absl::Status ExpectBlockEnd();
  absl::Status Fail(Position at, std::string_view what) const { return ErrorAt(name_, at, what); }
  absl::Status TooMuch(Position at, std::string_view what) const {
    return BoundAt(name_, at, what);
  }
  absl::Status Unexpected(std::string_view wanted) const;
  absl::Status Unsupported(Position at, std::string_view what) const;

  // Statements.
  absl::StatusOr<Body> Statements(const Ends& ends);
  absl::StatusOr<std::unique_ptr<Statement>> ParseStatement();
  // The body after a tag, up to one of `ends`, which is left as the current token.
  absl::StatusOr<Body> BodyUntil(const Ends& ends);
  absl::Status ParsePrint(Body* body);
  absl::StatusOr<std::unique_ptr<Statement>> ParseFor(Position at);
  absl::StatusOr<std::unique_ptr<Statement>> ParseIf(Position at);
  absl::StatusOr<std::unique_ptr<Statement>> ParseSet(Position at);
  absl::StatusOr<std::unique_ptr<Statement>> ParseMacro(Position at);
  absl::StatusOr<std::unique_ptr<Statement>> ParseFilterBlock(Position at);
  absl::StatusOr<std::unique_ptr<Statement>> ParseGeneration(Position at);
  absl::StatusOr<std::unique_ptr<Statement>> ParseWith(Position at);

  // Expressions, from loose to tight.
  absl::StatusOr<ExprPtr> ParseTuple(const TupleRule& rule);
  absl::StatusOr<ExprPtr> ParseTarget(const TupleRule& rule);
  absl::Status CheckTarget(const Expr& target) const;
  absl::StatusOr<ExprPtr> ParseExpression(bool takes_condition = true);
  absl::StatusOr<ExprPtr> ParseOr();
  absl::StatusOr<ExprPtr> ParseAnd();
  absl::StatusOr<ExprPtr> ParseNot();
  absl::StatusOr<ExprPtr> ParseCompare();
  absl::StatusOr<ExprPtr> ParseSum();
  absl::StatusOr<ExprPtr> ParseConcat();
  absl::StatusOr<ExprPtr> ParseProduct();
  absl::StatusOr<ExprPtr> ParsePower();
  absl::StatusOr<ExprPtr> ParseUnary(bool takes_filter = true);
  absl::StatusOr<ExprPtr> ParsePrimary(bool takes_namespace = false);
  absl::StatusOr<ExprPtr> ParseNamed(bool takes_namespace);
  absl::StatusOr<ExprPtr> ParseList();
  absl::StatusOr<ExprPtr> ParseDict();
  absl::StatusOr<ExprPtr> ParsePostfix(ExprPtr value);
  absl::StatusOr<ExprPtr> ParseFilters(ExprPtr value);
  absl::StatusOr<ExprPtr> ParseSubscript(ExprPtr object);
  absl::StatusOr<ExprPtr> ParseSubscribed();
  absl::StatusOr<ExprPtr> ParseCall(ExprPtr callee);
  absl::StatusOr<CallArguments> ParseArguments();
  absl::StatusOr<ExprPtr> ParseFilter(ExprPtr value);  // at the filter's name
  absl::StatusOr<ExprPtr> ParseTest(ExprPtr value);    // after `is`
  absl::StatusOr<std::string> ParseDottedName();
  // `left op right`.
  absl::StatusOr<ExprPtr> MakeBinary(Position at, BinaryOp op, ExprPtr left, ExprPtr right) const;
  // The node, unless its tree is too deep.
  absl::StatusOr<ExprPtr> Checked(ExprPtr expr) const;
  absl::Status CheckNesting() const;

  const std::vector<Token> tokens_;
  const std::string& name_;
  size_t next_ = 0;
  int nesting_ = 0;
};

}  // namespace deltaserve::jinja
