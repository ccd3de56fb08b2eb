//! Converts an expression to SQL.

use crate::db::QueryBuilder;

use super::{Condition, Expression, Filter};

impl<C: Condition> Filter<C> {
    /// Appends the filter to a statement, so that it can be combined with `and`. `push_condition` appends a condition,
    /// which must be true or false but never null, because NOT would leave it null.
    pub fn push(&self, sql: &mut QueryBuilder, mut push_condition: impl FnMut(&mut QueryBuilder, &C)) {
        push_expression(sql, &self.0, &mut push_condition);
    }
}

fn push_expression<C: Condition>(
    sql: &mut QueryBuilder,
    expression: &Expression<C>,
    push_condition: &mut impl FnMut(&mut QueryBuilder, &C),
) {
    match expression {
        Expression::All(parts) => push_joined(sql, parts, " and ", push_condition),
        Expression::Any(parts) => push_joined(sql, parts, " or ", push_condition),
        Expression::Not(part) => {
            sql.push("not (");
            push_expression(sql, part, push_condition);
            sql.push(")");
        }
        Expression::Is(condition) => push_condition(sql, condition),
    }
}

/// Appends a tree whose depth is the logarithm of the number of parts. SQLite accepts no expression deeper than 1000,
/// and a chain of operators is as deep as it is long.
fn push_joined<C: Condition>(
    sql: &mut QueryBuilder,
    parts: &[Expression<C>],
    operator: &str,
    push_condition: &mut impl FnMut(&mut QueryBuilder, &C),
) {
    match parts {
        [] => {
            sql.push("true");
        }
        [part] => push_expression(sql, part, push_condition),
        parts => {
            let (first, second) = parts.split_at(parts.len() / 2);
            sql.push("(");
            push_joined(sql, first, operator, push_condition);
            sql.push(operator);
            push_joined(sql, second, operator, push_condition);
            sql.push(")");
        }
    }
}
