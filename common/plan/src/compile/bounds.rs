//! What SQL may be as large as, by [`limits`]: looked at word by word, before anything of it becomes a tree.
//!
//! A chain `x + x + x` becomes a tree as deep as it has operators, and what walks, copies or drops a tree has a frame or
//! more on the stack for every level.

use super::expr::locate;
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion, TreeNodeVisitor};
use datafusion::common::{DataFusionError, Result};
use datafusion::logical_expr::{Expr, LogicalPlan, Operator};
use datafusion::sql::sqlparser::dialect::DuckDbDialect;
use datafusion::sql::sqlparser::keywords::Keyword;
use datafusion::sql::sqlparser::tokenizer::{Token, Tokenizer};
use std::collections::HashMap;
use tidemill_common::diag::Diagnostic;
use tidemill_job::Sql;
use tidemill_job::limits::{MAX_SQL_DEPTH, MAX_SQL_PARTS, MAX_SQL_TOKENS};

/// Refuses text that would become too large or too deep a tree.
pub(super) fn check_text(sql: &Sql) -> Result<(), Diagnostic> {
    // What cannot be told apart into words is refused by the parser.
    let Ok(tokens) = Tokenizer::new(&DuckDbDialect {}, &sql.text).tokenize_with_location() else { return Ok(()) };
    let mut nesting = Nesting::default();
    let words = tokens.iter().filter(|token| !matches!(token.token, Token::Whitespace(_)));
    for (number, token) in words.enumerate() {
        let place = || locate(sql, token.span).unwrap_or_else(|| sql.span.clone());
        if number >= MAX_SQL_TOKENS {
            let wrong = Diagnostic::new(format!("this has more than {MAX_SQL_TOKENS} words and signs"));
            return Err(wrong.at(place()).label("one too many").help("join with a `table` what is a long list"));
        }
        if nesting.read(&token.token) > MAX_SQL_DEPTH {
            return Err(too_deep().at(place()).label("one too many"));
        }
    }
    Ok(())
}

fn too_deep() -> Diagnostic {
    let message = format!("this is too deep: more than {MAX_SQL_DEPTH} operators work on each other's results");
    Diagnostic::new(message).help("compute parts of it in streams before this one; a long `or` is an `in (..)`")
}

/// How deep the tree can be at a word: at most as deep as there are operators at this level and at those around it.
#[derive(Default)]
struct Nesting {
    /// Those around the innermost one: what it adds to the depth.
    outer: Vec<usize>,
    /// Operators of the innermost level since the last expression ended.
    operators: usize,
    /// Operators between queries at that level.
    sets: usize,
    /// The sum of `outer`.
    around: usize,
    after_distinct: bool,
}

impl Nesting {
    /// Takes the next word, which is no white space.
    fn read(&mut self, token: &Token) -> usize {
        let distinct = std::mem::take(&mut self.after_distinct);
        match token {
            Token::LParen | Token::LBrace => self.open(),
            // What is taken out of a list is one level more.
            Token::LBracket => {
                self.operators += 1;
                self.open();
            }
            Token::RParen | Token::RBrace | Token::RBracket => self.close(),
            Token::Comma | Token::SemiColon => self.operators = 0,
            Token::Word(word) if word.quote_style.is_none() => match word.keyword {
                Keyword::CASE => self.open(),
                Keyword::END => self.close(),
                // `is distinct from` goes on.
                Keyword::FROM if distinct => {}
                Keyword::DISTINCT => self.after_distinct = true,
                keyword if ENDS.contains(&keyword) => self.operators = 0,
                keyword if SETS.contains(&keyword) => self.sets += 1,
                keyword if OPERATORS.contains(&keyword) => self.operators += 1,
                _ => {}
            },
            Token::Word(_) | Token::Number(..) | Token::Char(_) | Token::Whitespace(_) | Token::EOF => {}
            token if is_text(token) => {}
            _ => self.operators += 1,
        }
        self.around + self.operators + self.sets
    }

    fn open(&mut self) {
        let here = self.operators + self.sets + 1;
        self.outer.push(here);
        self.outer.push(self.operators);
        self.outer.push(self.sets);
        self.around += here;
        (self.operators, self.sets) = (0, 0);
    }

    fn close(&mut self) {
        if let (Some(sets), Some(operators), Some(here)) = (self.outer.pop(), self.outer.pop(), self.outer.pop()) {
            (self.operators, self.sets) = (operators, sets);
            self.around -= here;
        }
    }
}

/// Words after which another expression begins.
const ENDS: &[Keyword] = &[
    Keyword::WHEN,
    Keyword::THEN,
    Keyword::ELSE,
    Keyword::SELECT,
    Keyword::FROM,
    Keyword::WHERE,
    Keyword::GROUP,
    Keyword::HAVING,
    Keyword::QUALIFY,
    Keyword::ORDER,
    Keyword::ON,
    Keyword::USING,
];

/// Words between queries.
const SETS: &[Keyword] = &[Keyword::UNION, Keyword::EXCEPT, Keyword::INTERSECT, Keyword::MINUS, Keyword::JOIN];

/// Words that work on values.
const OPERATORS: &[Keyword] = &[
    Keyword::AND,
    Keyword::OR,
    Keyword::XOR,
    Keyword::NOT,
    Keyword::IS,
    Keyword::NOTNULL,
    Keyword::IN,
    Keyword::BETWEEN,
    Keyword::LIKE,
    Keyword::ILIKE,
    Keyword::RLIKE,
    Keyword::REGEXP,
    Keyword::SIMILAR,
    Keyword::MATCH,
    Keyword::AT,
    Keyword::COLLATE,
    Keyword::DIV,
    Keyword::OVERLAPS,
    Keyword::OPERATOR,
    Keyword::MEMBER,
];

fn is_text(token: &Token) -> bool {
    matches!(
        token,
        Token::SingleQuotedString(_)
            | Token::DoubleQuotedString(_)
            | Token::TripleSingleQuotedString(_)
            | Token::TripleDoubleQuotedString(_)
            | Token::DollarQuotedString(_)
            | Token::SingleQuotedByteStringLiteral(_)
            | Token::DoubleQuotedByteStringLiteral(_)
            | Token::NationalStringLiteral(_)
            | Token::EscapedStringLiteral(_)
            | Token::UnicodeStringLiteral(_)
            | Token::HexStringLiteral(_)
            | Token::Placeholder(_)
    )
}

/// Refuses an expression that is too deep after all, or that becomes too large.
pub(super) fn check_expr(expr: &Expr, sql: &Sql) -> Result<(), Diagnostic> {
    let no_columns = Sizes::new();
    let shape = Shape::of(expr, &no_columns);
    // Conversions of types are put in between.
    if shape.depth > 2 * MAX_SQL_DEPTH {
        return Err(too_deep().at(sql.span.clone()));
    }
    shape.check().map_err(|wrong| Diagnostic::new(wrong).at(sql.span.clone()))
}

/// Refuses a query with an expression that becomes too large: the planner puts what computes a column into what uses it.
pub(super) fn check_plan(plan: &LogicalPlan) -> Result<()> {
    plan.visit_with_subqueries(&mut Columns::default()).map(drop)
}

/// How many parts the columns of subqueries are computed of, by their names.
type Sizes = HashMap<String, usize>;

/// An expression as a tree.
#[derive(Default)]
struct Shape<'a> {
    sizes: Option<&'a Sizes>,
    depth: usize,
    /// Of the nodes on the way down, the parts of what they are made of.
    parts: Vec<usize>,
    /// Of the whole, in the end.
    all: usize,
}

impl<'a> Shape<'a> {
    fn of(expr: &Expr, sizes: &'a Sizes) -> Self {
        let mut shape = Self { sizes: Some(sizes), ..Self::default() };
        // The walk itself cannot fail.
        let _ = expr.visit(&mut shape);
        shape
    }

    fn check(&self) -> Result<(), String> {
        let message = format!("this becomes more than {MAX_SQL_PARTS} parts when it is planned");
        (self.all <= MAX_SQL_PARTS).then_some(()).ok_or(message)
    }

    fn of_column(&self, name: &str) -> usize {
        self.sizes.and_then(|sizes| sizes.get(name)).copied().unwrap_or(1)
    }
}

impl TreeNodeVisitor<'_> for Shape<'_> {
    type Node = Expr;

    fn f_down(&mut self, _: &Expr) -> Result<TreeNodeRecursion> {
        self.parts.push(0);
        self.depth = self.depth.max(self.parts.len());
        Ok(TreeNodeRecursion::Continue)
    }

    fn f_up(&mut self, node: &Expr) -> Result<TreeNodeRecursion> {
        let below = self.parts.pop().unwrap_or(0);
        let here = match node {
            Expr::Column(column) => self.of_column(&column.name),
            node if is_doubled(node) => below.saturating_mul(2).saturating_add(1),
            _ => below.saturating_add(1),
        };
        let above = self.parts.last_mut().unwrap_or(&mut self.all);
        *above = above.saturating_add(here);
        Ok(TreeNodeRecursion::Continue)
    }
}

/// Whether the planner writes the operands of this twice: as a condition, and as a value.
fn is_doubled(node: &Expr) -> bool {
    match node {
        Expr::ScalarFunction(call) => matches!(call.name(), "coalesce" | "nvl" | "ifnull" | "nvl2"),
        Expr::Between(_) => true,
        Expr::BinaryExpr(binary) => {
            matches!(binary.op, Operator::IsDistinctFrom | Operator::IsNotDistinctFrom)
        }
        _ => false,
    }
}

/// From the tables of a query up: what its columns are computed of.
#[derive(Default)]
struct Columns {
    sizes: Sizes,
}

impl TreeNodeVisitor<'_> for Columns {
    type Node = LogicalPlan;

    fn f_up(&mut self, node: &LogicalPlan) -> Result<TreeNodeRecursion> {
        let mut made = Vec::new();
        node.apply_expressions(|expr| {
            let shape = Shape::of(expr, &self.sizes);
            shape.check().map_err(DataFusionError::Plan)?;
            made.push((expr.qualified_name().1, shape.all));
            Ok(TreeNodeRecursion::Continue)
        })?;
        if let LogicalPlan::Projection(_) | LogicalPlan::Aggregate(_) = node {
            self.sizes.extend(made);
        }
        Ok(TreeNodeRecursion::Continue)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn sql(text: &str) -> Sql {
        Sql { text: text.into(), span: 100..100 + text.len() }
    }

    fn depth(text: &str) -> usize {
        let tokens = Tokenizer::new(&DuckDbDialect {}, text).tokenize().unwrap();
        let mut nesting = Nesting::default();
        tokens
            .iter()
            .filter(|token| !matches!(token, Token::Whitespace(_)))
            .map(|token| nesting.read(token))
            .max()
            .unwrap_or(0)
    }

    #[test]
    fn depths() {
        for (text, expected) in [
            ("x", 0),
            ("x + x", 1),
            ("x + x * 2 and true", 3),
            ("f(x + x, x + x + x, x)", 3),
            ("1 + f(x + x)", 3),
            ("(x + x) + (x + x) + x", 3),
            ("case when x = 1 then 2 when x = 2 then 3 else 4 end + 1", 2),
            ("x in (1, 2, 3, 4, 5, 6)", 2),
            ("x is distinct from y is distinct from z", 2),
            ("x::int::bigint::double", 3),
            ("x[1][2][3]", 4),
            ("\"and\" + 'a or b and c'", 1),
            ("select a + b from t where a and b and c", 2),
            ("select 1 union all select 2 union all select 3 + 4", 3),
            ("select * from (select * from (select x + 1 from t))", 3),
        ] {
            assert_eq!(depth(text), expected, "{text}");
        }
    }

    #[test]
    fn too_deep_at_the_first_operator_too_many() {
        for operator in ["+", "and", "or", "||", "=", "is distinct from", "::int +"] {
            let chain = |terms: usize| vec!["x"; terms].join(&format!(" {operator} "));
            let per_term = depth(&chain(2));
            assert_eq!(check_text(&sql(&chain(MAX_SQL_DEPTH / per_term + 1))), Ok(()));
            let wrong = check_text(&sql(&chain(10_000))).unwrap_err();
            assert!(wrong.message.contains("more than 1000 operators"), "{}", wrong.message);
            assert!(wrong.span.unwrap().len() < 10, "the operator, not the whole");
        }
        assert_eq!(check_text(&sql(&format!("x in ({})", vec!["1"; 40_000].join(", ")))), Ok(()));
        assert!(check_text(&sql(&format!("x in ({})", vec!["1"; 60_000].join(", ")))).is_err());
        assert_eq!(check_text(&sql(&format!("case {} end", "when x = 1 then 2 ".repeat(5_000)))), Ok(()));
    }

    proptest! {
        #[test]
        fn any_text_is_looked_at(text in "(?s)[ a-z()+*,'\"\\[\\]{}0-9;:-]{0,200}|(case|end|when|and|or|\\(|\\)|,|x| |\\[|\\]|union|select){0,80}") {
            let _ = check_text(&sql(&text));
        }
    }
}
