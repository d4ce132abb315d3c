//! Compiles an expression: parses it, checks its names and its depth, and meters each part.

use std::thread;

use cel::ParseErrors;
use cel::common::ast::{
    CallExpr, ComprehensionExpr, EntryExpr, Expr, IdedExpr, LiteralValue, SourceInfo, operators,
};
use cel::common::types::CelInt;
use cel::parser::Parser;

use super::compiled::CompiledExpression;
use super::error::CompileError;
use super::meter::{MATCHES_FUNCTION, REPORT_FUNCTION};
use super::parse_error;
use super::text_pattern::TextPattern;
use super::values::VARIABLES;

/// Longest text of an expression, in bytes.
pub const EXPRESSION_MAX_BYTES: usize = 4_096;
/// Deepest nesting of an expression. Evaluation uses the stack of the calling thread.
pub(super) const DEPTH_MAX: usize = 24;
/// Deepest nesting of brackets that the parser accepts.
const BRACKETS_MAX: u16 = 64;
/// Stack of the compiling thread: chains of 2,000 operators need this much before they are refused.
const STACK_BYTES: usize = 256 * 1024 * 1024;
/// Longest message about a pattern, in characters.
const SHOWN_CHARS: usize = 300;

const TYPES: [&str; 10] = [
    "bool",
    "bytes",
    "double",
    "int",
    "list",
    "map",
    "null_type",
    "string",
    "type",
    "uint",
];
const FUNCTIONS: [&str; 13] = [
    "bool",
    "bytes",
    "contains",
    "double",
    "dyn",
    "endsWith",
    "int",
    "matches",
    "size",
    "startsWith",
    "string",
    "type",
    "uint",
];

/// Compiles `text`, on a thread with a large stack: the depth of the parser depends on the text.
pub(super) fn compile_expression(text: &str) -> Result<CompiledExpression, CompileError> {
    if text.len() > EXPRESSION_MAX_BYTES {
        return Err(error_at_start(format!(
            "is longer than {EXPRESSION_MAX_BYTES} bytes"
        )));
    }

    let outcome = thread::scope(|scope| {
        let builder = thread::Builder::new()
            .name("expression".to_owned())
            .stack_size(STACK_BYTES);
        let compiler = builder.spawn_scoped(scope, || {
            crate::panics::contain_panic(|| parse_and_check(text))
        });
        compiler.map(thread::ScopedJoinHandle::join)
    });
    match outcome {
        Ok(Ok(Ok(compiled))) => compiled,
        Ok(Ok(Err(_)) | Err(_)) => Err(error_at_start("cannot be compiled".to_owned())),
        Err(error) => Err(error_at_start(format!("cannot be compiled now: {error}"))),
    }
}

fn parse_and_check(text: &str) -> Result<CompiledExpression, CompileError> {
    let parser = Parser::new().max_recursion_depth(BRACKETS_MAX);
    let (parsed, source) = parser
        .parse_with_source_info(text)
        .map_err(|errors| first_parse_error(text, &errors))?;

    if nesting_depth(&parsed) > DEPTH_MAX {
        return Err(error_at_start(format!(
            "is nested more than {DEPTH_MAX} deep"
        )));
    }

    let mut checker = ExpressionChecker {
        source: &source,
        scopes: Vec::new(),
        patterns: Vec::new(),
        variables: Vec::new(),
    };
    let metered = checker.meter_node(parsed)?;
    let ExpressionChecker {
        patterns,
        variables,
        ..
    } = checker;
    Ok(CompiledExpression {
        text: text.to_owned(),
        metered,
        patterns: patterns.into(),
        variables,
    })
}

/// Converts the first error of the parser.
fn first_parse_error(text: &str, errors: &ParseErrors) -> CompileError {
    let Some(first) = errors.errors.first() else {
        return error_at_start("is not an expression".to_owned());
    };
    // An error without a position means that the parser gave up at its depth limit.
    if first.pos.0 < 1 || first.msg.contains("Recursion limit") {
        return error_at_start(format!("is nested more than {BRACKETS_MAX} deep"));
    }
    let from_one = |number: isize| usize::try_from(number).unwrap_or(1).max(1);
    let (line, column) = (from_one(first.pos.0), from_one(first.pos.1));
    CompileError {
        line,
        column,
        detail: parse_error::describe_parse_error(text, (line, column), &first.msg),
    }
}

fn error_at_start(detail: String) -> CompileError {
    CompileError {
        line: 1,
        column: 1,
        detail,
    }
}

/// Returns the nesting depth of evaluating `node`. A path such as `data.a.b` counts as one step.
fn nesting_depth(node: &IdedExpr) -> usize {
    let deepest = match &node.expr {
        Expr::Select(_) if is_path(node) => 0,
        Expr::Select(select) => nesting_depth(&select.operand),
        Expr::Call(call) => call
            .target
            .iter()
            .map(|target| nesting_depth(target))
            .chain(call.args.iter().map(nesting_depth))
            .max()
            .unwrap_or(0),
        Expr::List(list) => list.elements.iter().map(nesting_depth).max().unwrap_or(0),
        Expr::Map(map) => map
            .entries
            .iter()
            .map(|entry| match &entry.expr {
                EntryExpr::MapEntry(entry) => {
                    nesting_depth(&entry.key).max(nesting_depth(&entry.value))
                }
                EntryExpr::StructField(field) => nesting_depth(&field.value),
            })
            .max()
            .unwrap_or(0),
        Expr::Comprehension(loops) => [
            &loops.iter_range,
            &loops.loop_cond,
            &loops.loop_step,
            &loops.result,
        ]
        .map(nesting_depth)
        .into_iter()
        .max()
        .unwrap_or(0),
        Expr::Unspecified | Expr::Ident(_) | Expr::Literal(_) | Expr::Struct(_) => 0,
    };
    1 + deepest
}

/// Tells if `node` is a name, or a chain of members of a name.
fn is_path(node: &IdedExpr) -> bool {
    match &node.expr {
        Expr::Ident(_) => true,
        Expr::Select(select) => !select.test && is_path(&select.operand),
        Expr::Unspecified
        | Expr::Call(_)
        | Expr::Comprehension(_)
        | Expr::List(_)
        | Expr::Literal(_)
        | Expr::Map(_)
        | Expr::Struct(_) => false,
    }
}

/// Walk over an expression that checks and meters each part.
struct ExpressionChecker<'s> {
    source: &'s SourceInfo,
    /// Variables of the enclosing loops, innermost last.
    scopes: Vec<String>,
    patterns: Vec<TextPattern>,
    /// Variables of the event that the expression reads, each once.
    variables: Vec<&'static str>,
}

impl ExpressionChecker<'_> {
    /// Wraps `node` and each of its parts so that it reports its value to the meter.
    fn meter_node(&mut self, node: IdedExpr) -> Result<IdedExpr, CompileError> {
        let id = node.id;
        let expr = match node.expr {
            Expr::Literal(literal) => {
                return Ok(IdedExpr {
                    id,
                    expr: Expr::Literal(literal),
                });
            }
            Expr::Ident(name) => {
                self.check_name(id, &name)?;
                Expr::Ident(name)
            }
            Expr::Select(mut select) => {
                if is_path(&select.operand) {
                    self.check_path(&select.operand)?;
                } else {
                    select.operand = Box::new(self.meter_node(*select.operand)?);
                }
                Expr::Select(select)
            }
            Expr::Call(call) => Expr::Call(self.meter_call(id, call)?),
            Expr::List(mut list) => {
                list.elements = self.meter_nodes(list.elements)?;
                Expr::List(list)
            }
            Expr::Map(mut map) => {
                for entry in &mut map.entries {
                    if let EntryExpr::MapEntry(entry) = &mut entry.expr {
                        entry.key = self.meter_node(std::mem::take(&mut entry.key))?;
                        entry.value = self.meter_node(std::mem::take(&mut entry.value))?;
                    }
                }
                Expr::Map(map)
            }
            // The range and the results of a loop are reported inside the loop.
            Expr::Comprehension(loops) => {
                return Ok(IdedExpr {
                    id,
                    expr: Expr::Comprehension(Box::new(self.meter_comprehension(*loops)?)),
                });
            }
            Expr::Struct(literal) => {
                return Err(self.error_at(id, format!("unknown type {:?}", literal.type_name)));
            }
            Expr::Unspecified => return Err(self.error_at(id, "is not an expression".to_owned())),
        };
        Ok(wrap_in_report(IdedExpr { id, expr }))
    }

    fn meter_nodes(&mut self, nodes: Vec<IdedExpr>) -> Result<Vec<IdedExpr>, CompileError> {
        nodes
            .into_iter()
            .map(|node| self.meter_node(node))
            .collect()
    }

    fn meter_call(&mut self, id: u64, call: CallExpr) -> Result<CallExpr, CompileError> {
        let CallExpr {
            func_name,
            target,
            args,
        } = call;
        let is_operator = !func_name.starts_with(|first: char| first.is_ascii_alphabetic());
        if !is_operator && !FUNCTIONS.contains(&func_name.as_str()) {
            return Err(self.error_at(id, format!("unknown function {func_name:?}")));
        }
        if func_name == "matches" {
            return self.compile_matches(id, target.map(|target| *target), args);
        }
        let target = target
            .map(|target| self.meter_node(*target))
            .transpose()?
            .map(Box::new);
        Ok(CallExpr {
            func_name,
            target,
            args: self.meter_nodes(args)?,
        })
    }

    /// Compiles the pattern of a call of `matches`, and replaces the pattern by its number.
    /// Compiling a pattern takes longer than most evaluations, and a pattern from an event could
    /// take very long.
    fn compile_matches(
        &mut self,
        id: u64,
        target: Option<IdedExpr>,
        args: Vec<IdedExpr>,
    ) -> Result<CallExpr, CompileError> {
        // The text stands before the call or is its first argument; the pattern comes last.
        let mut operands: Vec<_> = target.into_iter().chain(args).collect();
        let (Some(pattern), Some(text), None) = (operands.pop(), operands.pop(), operands.pop())
        else {
            return Err(self.error_at(id, "matches takes a text and a pattern".to_owned()));
        };
        let Expr::Literal(LiteralValue::String(literal)) = &pattern.expr else {
            return Err(self.error_at(
                pattern.id,
                "the pattern of matches must be a string literal".to_owned(),
            ));
        };

        let compiled = TextPattern::compile(literal.inner());
        let describe = |error: regex::Error| match error {
            regex::Error::CompiledTooBig(_) => "the pattern of matches is too large".to_owned(),
            other => format!("the pattern of matches is wrong: {other}")
                .chars()
                .take(SHOWN_CHARS)
                .collect(),
        };
        self.patterns
            .push(compiled.map_err(|error| self.error_at(pattern.id, describe(error)))?);

        let number = CelInt::from(self.patterns.len() as i64 - 1);
        let number = IdedExpr {
            id: pattern.id,
            expr: Expr::Literal(LiteralValue::Int(number)),
        };
        Ok(CallExpr {
            func_name: MATCHES_FUNCTION.to_owned(),
            target: None,
            args: vec![self.meter_node(text)?, number],
        })
    }

    fn meter_comprehension(
        &mut self,
        loops: ComprehensionExpr,
    ) -> Result<ComprehensionExpr, CompileError> {
        let iter_range = self.meter_node(loops.iter_range)?;
        self.scopes.push(loops.iter_var.clone());
        let loop_step = self.meter_loop_step(loops.loop_step, &loops.accu_var);
        self.scopes.pop();
        // The parser's macro made the other parts, and they cost little.
        Ok(ComprehensionExpr {
            iter_range,
            loop_step: loop_step?,
            ..loops
        })
    }

    /// Meters the author's parts inside the loop step that the parser's macro made. The macro's own
    /// calls stay as they are, because the evaluator recognizes them by their form.
    fn meter_loop_step(
        &mut self,
        node: IdedExpr,
        accumulator: &str,
    ) -> Result<IdedExpr, CompileError> {
        if is_name(&node, accumulator) {
            return Ok(node);
        }
        let IdedExpr { id, expr } = node;
        match expr {
            Expr::Call(mut call)
                if call
                    .args
                    .iter()
                    .any(|arg| uses_accumulator(arg, accumulator)) =>
            {
                for arg in &mut call.args {
                    let original = std::mem::take(arg);
                    let id = original.id;
                    *arg = match original.expr {
                        Expr::List(mut list) if call.func_name == operators::ADD => {
                            list.elements = self.meter_nodes(list.elements)?;
                            IdedExpr {
                                id,
                                expr: Expr::List(list),
                            }
                        }
                        expr => self.meter_loop_step(IdedExpr { id, expr }, accumulator)?,
                    };
                }
                Ok(IdedExpr {
                    id,
                    expr: Expr::Call(call),
                })
            }
            expr => self.meter_node(IdedExpr { id, expr }),
        }
    }

    fn check_path(&mut self, node: &IdedExpr) -> Result<(), CompileError> {
        match &node.expr {
            Expr::Ident(name) => self.check_name(node.id, name),
            Expr::Select(select) => self.check_path(&select.operand),
            Expr::Unspecified
            | Expr::Call(_)
            | Expr::Comprehension(_)
            | Expr::List(_)
            | Expr::Literal(_)
            | Expr::Map(_)
            | Expr::Struct(_) => Ok(()),
        }
    }

    /// Checks that the variable or type `name` exists, and records that a variable is read.
    fn check_name(&mut self, id: u64, name: &str) -> Result<(), CompileError> {
        if self.scopes.iter().any(|scope| scope == name) {
            return Ok(());
        }
        let name = name.trim_start_matches('.');
        if let Some(variable) = VARIABLES.into_iter().find(|variable| *variable == name) {
            if !self.variables.contains(&variable) {
                self.variables.push(variable);
            }
            return Ok(());
        }
        if TYPES.contains(&name) {
            return Ok(());
        }
        let variables = VARIABLES.join(", ");
        Err(self.error_at(
            id,
            format!("unknown variable {name:?}; the variables are {variables}"),
        ))
    }

    /// Returns an error with the line and column of the part `id`.
    fn error_at(&self, id: u64, detail: String) -> CompileError {
        let start = self
            .source
            .offset_for(id)
            .map_or(0, |(start, _)| start as usize);
        let before: String = self.source.source.chars().take(start).collect();
        let line = before.matches('\n').count() + 1;
        let last_line = before.rsplit('\n').next().unwrap_or_default();
        let column = last_line.chars().count() + 1;
        CompileError {
            line,
            column,
            detail,
        }
    }
}

fn wrap_in_report(node: IdedExpr) -> IdedExpr {
    let id = node.id;
    IdedExpr {
        id,
        expr: Expr::Call(CallExpr {
            func_name: REPORT_FUNCTION.to_owned(),
            target: None,
            args: vec![node],
        }),
    }
}

fn is_name(node: &IdedExpr, name: &str) -> bool {
    matches!(&node.expr, Expr::Ident(ident) if ident == name)
}

/// Tells if the parser's macro made `node`: the accumulator itself, whose name no text can write,
/// or a call that takes it.
fn uses_accumulator(node: &IdedExpr, accumulator: &str) -> bool {
    match &node.expr {
        Expr::Call(call) => call
            .args
            .iter()
            .any(|arg| uses_accumulator(arg, accumulator)),
        Expr::Ident(ident) => ident == accumulator,
        Expr::Unspecified
        | Expr::Comprehension(_)
        | Expr::List(_)
        | Expr::Literal(_)
        | Expr::Map(_)
        | Expr::Select(_)
        | Expr::Struct(_) => false,
    }
}
