#include "router/text/template/parser.h"

#include <algorithm>
#include <set>
#include <utility>

#include "kernels/base/status_macros.h"
#include "router/text/template/cat.h"
#include "router/text/template/nesting.h"

namespace deltaserve::jinja {
namespace {

std::string Describe(const Token& token) {
  switch (token.kind) {
    case TokenKind::kEnd:
      return "the end of the template";
    case TokenKind::kBlockEnd:
      return "the end of the tag";
    case TokenKind::kPrintEnd:
      return "the end of the print tag";
    case TokenKind::kString:
      return "a string";
    default:
      return Cat("'", token.text, "'");
  }
}

}  // namespace

bool Parser::AtName(std::string_view name) const {
  return Current().kind == TokenKind::kName && Current().text == name;
}

bool Parser::AtOperator(std::string_view op) const {
  return Current().kind == TokenKind::kOperator && Current().text == op;
}

bool Parser::SkipName(std::string_view name) {
  if (!AtName(name)) return false;
  ++next_;
  return true;
}

bool Parser::SkipOperator(std::string_view op) {
  if (!AtOperator(op)) return false;
  ++next_;
  return true;
}

absl::Status Parser::Unexpected(std::string_view wanted) const {
  return Fail(Current().at, Cat("expected ", wanted, ", found ", Describe(Current())));
}

absl::Status Parser::Unsupported(Position at, std::string_view what) const {
  return absl::UnimplementedError(
      Cat(name_, ":", at.line, ":", at.column, ": ", what, " is not supported in chat templates"));
}

absl::Status Parser::ExpectOperator(std::string_view op) {
  return SkipOperator(op) ? absl::OkStatus() : Unexpected(Cat("'", op, "'"));
}

absl::Status Parser::ExpectName(std::string_view name) {
  return SkipName(name) ? absl::OkStatus() : Unexpected(Cat("'", name, "'"));
}

absl::StatusOr<std::string> Parser::ExpectAnyName() {
  if (Current().kind != TokenKind::kName) return Unexpected("a name");
  return tokens_[next_++].text;
}

absl::Status Parser::ExpectBlockEnd() {
  if (Current().kind != TokenKind::kBlockEnd) return Unexpected("the end of the tag");
  ++next_;
  return absl::OkStatus();
}

absl::StatusOr<Body> Parser::Run() {
  DS_ASSIGN_OR_RETURN(Body body, Statements({}));
  return body;
}

absl::Status Parser::ParsePrint(Body* body) {
  const Position at = tokens_[next_++].at;
  DS_ASSIGN_OR_RETURN(ExprPtr value, ParseTuple({}));
  if (Current().kind != TokenKind::kPrintEnd) return Unexpected("the end of the print tag");
  ++next_;
  body->push_back(std::make_unique<PrintStatement>(at, std::move(value)));
  return absl::OkStatus();
}

absl::StatusOr<Body> Parser::Statements(const Ends& ends) {
  const Nesting nesting(&nesting_);
  DS_RETURN_IF_ERROR(CheckNesting());
  Body body;
  while (Current().kind != TokenKind::kEnd) {
    const Token& token = Current();
    if (token.kind == TokenKind::kText) {
      body.push_back(std::make_unique<TextStatement>(token.at, token.text));
      ++next_;
    } else if (token.kind == TokenKind::kPrintBegin) {
      DS_RETURN_IF_ERROR(ParsePrint(&body));
    } else {
      ++next_;  // the begin of a tag
      if (Current().kind == TokenKind::kName &&
          std::find(ends.begin(), ends.end(), Current().text) != ends.end()) {
        return body;
      }
      DS_ASSIGN_OR_RETURN(std::unique_ptr<Statement> statement, ParseStatement());
      if (statement != nullptr) body.push_back(std::move(statement));
      DS_RETURN_IF_ERROR(ExpectBlockEnd());
    }
  }
  if (ends.empty()) return body;
  std::string owed;
  for (const std::string_view end : ends) CatTo(&owed, owed.empty() ? "'" : " or '", end, "'");
  return Fail(Current().at, Cat("the template ends where ", owed, " is owed"));
}

absl::StatusOr<Body> Parser::BodyUntil(const Ends& ends) {
  SkipOperator(":");
  DS_RETURN_IF_ERROR(ExpectBlockEnd());
  return Statements(ends);
}

absl::StatusOr<std::unique_ptr<Statement>> Parser::ParseStatement() {
  const Position at = Current().at;
  DS_ASSIGN_OR_RETURN(const std::string tag, ExpectAnyName());
  if (tag == "for") return ParseFor(at);
  if (tag == "if") return ParseIf(at);
  if (tag == "set") return ParseSet(at);
  if (tag == "macro") return ParseMacro(at);
  if (tag == "filter") return ParseFilterBlock(at);
  if (tag == "generation") return ParseGeneration(at);
  if (tag == "with") return ParseWith(at);
  if (tag == "break") return std::make_unique<BreakStatement>(at);
  if (tag == "continue") return std::make_unique<ContinueStatement>(at);
  static const std::set<std::string, std::less<>> kUnsupported = {
      "include", "import", "from", "extends", "block", "call", "autoescape", "print"};
  if (kUnsupported.count(tag) > 0) return Unsupported(at, Cat("'", tag, "'"));
  return Fail(at, Cat("unknown tag '", tag, "'"));
}

absl::StatusOr<std::unique_ptr<Statement>> Parser::ParseFor(Position at) {
  auto statement = std::make_unique<ForStatement>(at);
  const size_t target_token = next_;
  DS_ASSIGN_OR_RETURN(statement->target, ParseTarget({.is_target = true}));
  const size_t after_target = next_;
  DS_RETURN_IF_ERROR(ExpectName("in"));
  DS_ASSIGN_OR_RETURN(statement->sequence, ParseTuple({.takes_condition = false}));
  if (SkipName("if")) {
    DS_ASSIGN_OR_RETURN(statement->test, ParseExpression());
    // The test has a scope of its own, so the target is read a second time for it.
    const size_t resume = std::exchange(next_, target_token);
    DS_ASSIGN_OR_RETURN(statement->test_target, ParseTarget({.is_target = true}));
    if (next_ != after_target) return Unexpected("'in'");
    next_ = resume;
  }
  if (AtName("recursive")) return Unsupported(Current().at, "a recursive loop");
  DS_ASSIGN_OR_RETURN(statement->body, BodyUntil({"endfor", "else"}));
  if (SkipName("else")) {
    DS_ASSIGN_OR_RETURN(statement->otherwise, BodyUntil({"endfor"}));
  }
  ++next_;
  return statement;
}

absl::StatusOr<std::unique_ptr<Statement>> Parser::ParseIf(Position at) {
  auto statement = std::make_unique<IfStatement>(at);
  while (true) {
    DS_ASSIGN_OR_RETURN(ExprPtr test, ParseTuple({.takes_condition = false}));
    DS_ASSIGN_OR_RETURN(Body body, BodyUntil({"elif", "else", "endif"}));
    statement->branches.emplace_back(std::move(test), std::move(body));
    if (!SkipName("elif")) break;
  }
  if (SkipName("else")) {
    DS_ASSIGN_OR_RETURN(statement->otherwise, BodyUntil({"endif"}));
  }
  ++next_;
  return statement;
}

absl::StatusOr<std::unique_ptr<Statement>> Parser::ParseSet(Position at) {
  DS_ASSIGN_OR_RETURN(ExprPtr target, ParseTarget({.is_target = true, .takes_namespace = true}));
  if (SkipOperator("=")) {
    auto statement = std::make_unique<SetStatement>(at);
    statement->target = std::move(target);
    DS_ASSIGN_OR_RETURN(statement->value, ParseTuple({}));
    return statement;
  }
  auto statement = std::make_unique<SetBlockStatement>(at);
  statement->target = std::move(target);
  while (SkipOperator("|")) {
    DS_ASSIGN_OR_RETURN(statement->filter, ParseFilter(std::move(statement->filter)));
  }
  DS_ASSIGN_OR_RETURN(statement->body, BodyUntil({"endset"}));
  ++next_;
  return statement;
}

absl::StatusOr<std::unique_ptr<Statement>> Parser::ParseMacro(Position at) {
  auto statement = std::make_unique<MacroStatement>(at);
  DS_ASSIGN_OR_RETURN(statement->name, ExpectAnyName());
  statement->target.name = statement->name;
  DS_RETURN_IF_ERROR(ExpectOperator("("));
  while (!AtOperator(")")) {
    if (!statement->parameters.empty()) DS_RETURN_IF_ERROR(ExpectOperator(","));
    const Position name_at = Current().at;
    DS_ASSIGN_OR_RETURN(std::string name, ExpectAnyName());
    DS_RETURN_IF_ERROR(CheckTarget(NameExpr(name_at, name)));
    if (statement->parameters.size() == kMaxArguments) {
      return TooMuch(name_at, Cat("a macro has more than ", kMaxArguments, " parameters"));
    }
    const auto& names = statement->parameters;
    if (std::find(names.begin(), names.end(), name) != names.end()) {
      return Fail(name_at, Cat("the parameter '", name, "' is there twice"));
    }
    if (SkipOperator("=")) {
      DS_ASSIGN_OR_RETURN(ExprPtr value, ParseExpression());
      statement->defaults.push_back(std::move(value));
    } else if (!statement->defaults.empty()) {
      return Fail(name_at, "a parameter without default follows one with a default");
    }
    statement->parameters.push_back(std::move(name));
  }
  ++next_;
  DS_ASSIGN_OR_RETURN(statement->body, BodyUntil({"endmacro"}));
  ++next_;
  return statement;
}

absl::StatusOr<std::unique_ptr<Statement>> Parser::ParseFilterBlock(Position at) {
  auto statement = std::make_unique<FilterBlockStatement>(at);
  do {
    DS_ASSIGN_OR_RETURN(statement->filter, ParseFilter(std::move(statement->filter)));
  } while (SkipOperator("|"));
  DS_ASSIGN_OR_RETURN(statement->body, BodyUntil({"endfilter"}));
  ++next_;
  return statement;
}

absl::StatusOr<std::unique_ptr<Statement>> Parser::ParseGeneration(Position at) {
  auto statement = std::make_unique<GenerationStatement>(at);
  DS_ASSIGN_OR_RETURN(statement->body, BodyUntil({"endgeneration"}));
  ++next_;
  return statement;
}

absl::StatusOr<std::unique_ptr<Statement>> Parser::ParseWith(Position at) {
  auto statement = std::make_unique<WithStatement>(at);
  while (Current().kind != TokenKind::kBlockEnd) {
    if (!statement->bindings.empty()) DS_RETURN_IF_ERROR(ExpectOperator(","));
    DS_ASSIGN_OR_RETURN(ExprPtr target, ParseTarget({.is_target = true}));
    DS_RETURN_IF_ERROR(ExpectOperator("="));
    DS_ASSIGN_OR_RETURN(ExprPtr value, ParseExpression());
    statement->bindings.emplace_back(std::move(target), std::move(value));
  }
  DS_ASSIGN_OR_RETURN(statement->body, BodyUntil({"endwith"}));
  ++next_;
  return statement;
}

absl::StatusOr<Body> ParseBody(std::vector<Token> tokens, const std::string& name) {
  return Parser(std::move(tokens), name).Run();
}

}  // namespace deltaserve::jinja
