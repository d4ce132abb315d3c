//! Reads an expression: checks that all it names exists and that it is not too deep, and meters it.

use std::thread;

use cel::ParseErrors;
use cel::common::ast::{
    CallExpr, ComprehensionExpr, EntryExpr, Expr, IdedExpr, LiteralValue, SourceInfo, operators,
};
use cel::common::types::CelInt;
use cel::parser::Parser;
use regex::RegexBuilder;

use super::meter::{MATCHES, REPORT};
use super::parse_error;
use super::values::VARIABLES;
use super::{CompileError, CompiledExpression, EXPRESSION_MAX_BYTES};

/// The deepest expression. Evaluating it takes the stack of whichever thread asks.
pub(super) const DEPTH_MAX: usize = 24;
/// How deep brackets may nest for the parser.
const BRACKETS_MAX: u16 = 64;
/// The stack that reading takes at most: chains of 2,000 operators nest that deep before they are
/// refused.
const STACK_BYTES: usize = 256 * 1024 * 1024;
/// The most memory of a compiled pattern of `matches`, in bytes.
const PATTERN_BYTES: usize = 64 * 1024;
/// The longest part of a message about a pattern that is shown, in characters.
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

/// Reads `text`. On a thread of its own, since how deep the parser goes depends on the text.
pub(super) fn compile_expression(text: &str) -> Result<CompiledExpression, CompileError> {
    if text.len() > EXPRESSION_MAX_BYTES {
        return Err(error_at_start(format!(
            "is longer than {EXPRESSION_MAX_BYTES} bytes"
        )));
    }
    let read = thread::scope(|scope| {
        let reader = thread::Builder::new()
            .name("expression".to_owned())
            .stack_size(STACK_BYTES);
        let reader = reader.spawn_scoped(scope, || {
            crate::panics::contain_panic(|| parse_and_check(text))
        });
        reader.map(thread::ScopedJoinHandle::join)
    });
    match read {
        Ok(Ok(Ok(program))) => program,
        Ok(Ok(Err(_)) | Err(_)) => Err(error_at_start("cannot be read".to_owned())),
        Err(error) => Err(error_at_start(format!("cannot be read now: {error}"))),
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
    let mut reader = ExpressionChecker {
        source: &source,
        scopes: Vec::new(),
        patterns: Vec::new(),
        reads: Vec::new(),
    };
    let metered = reader.meter_node(parsed)?;
    let ExpressionChecker {
        patterns, reads, ..
    } = reader;
    Ok(CompiledExpression {
        text: text.to_owned(),
        metered,
        patterns: patterns.into(),
        reads,
    })
}

/// The first of the parser's complaints.
fn first_parse_error(text: &str, errors: &ParseErrors) -> CompileError {
    let Some(first) = errors.errors.first() else {
        return error_at_start("is no expression".to_owned());
    };
    // Without a place it is the parser that gave up.
    if first.pos.0 < 1 || first.msg.contains("Recursion limit") {
        return error_at_start(format!("is nested more than {BRACKETS_MAX} deep"));
    }
    let place = |number: isize| usize::try_from(number).unwrap_or(1).max(1);
    let (line, column) = (place(first.pos.0), place(first.pos.1));
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

/// How deep evaluating `node` nests. A path such as `data.a.b` is one step.
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

/// Whether `node` is a name, or members of one.
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

/// Checks and meters an expression, part by part.
struct ExpressionChecker<'s> {
    source: &'s SourceInfo,
    /// The variables of the loops around, innermost last.
    scopes: Vec<String>,
    patterns: Vec<regex::Regex>,
    reads: Vec<&'static str>,
}

impl ExpressionChecker<'_> {
    /// `node` such that it reports its value, and each of its parts does.
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
            // What it goes over and what it makes is reported within it.
            Expr::Comprehension(loops) => {
                return Ok(IdedExpr {
                    id,
                    expr: Expr::Comprehension(Box::new(self.meter_comprehension(*loops)?)),
                });
            }
            Expr::Struct(made) => {
                return Err(self.error_at(id, format!("there is no type {:?}", made.type_name)));
            }
            Expr::Unspecified => return Err(self.error_at(id, "is no expression".to_owned())),
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
            return Err(self.error_at(id, format!("there is no function {func_name:?}")));
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

    /// A call of `matches` becomes one that names a pattern which is compiled already: compiling
    /// one takes longer than most expressions, and one that comes from an event could take for
    /// ever.
    fn compile_matches(
        &mut self,
        id: u64,
        target: Option<IdedExpr>,
        args: Vec<IdedExpr>,
    ) -> Result<CallExpr, CompileError> {
        let mut all: Vec<_> = target.into_iter().chain(args).collect();
        let (Some(pattern), Some(text), None) = (all.pop(), all.pop(), all.pop()) else {
            return Err(self.error_at(id, "matches takes a text and a pattern".to_owned()));
        };
        let Expr::Literal(LiteralValue::String(literal)) = &pattern.expr else {
            return Err(self.error_at(
                pattern.id,
                "the pattern of matches is to be written out".to_owned(),
            ));
        };
        let built = RegexBuilder::new(literal.inner())
            .size_limit(PATTERN_BYTES)
            .dfa_size_limit(PATTERN_BYTES * 8)
            .build();
        let why = |error: regex::Error| match error {
            regex::Error::CompiledTooBig(_) => "the pattern of matches is too large".to_owned(),
            other => format!("the pattern of matches is wrong: {other}")
                .chars()
                .take(SHOWN_CHARS)
                .collect(),
        };
        self.patterns
            .push(built.map_err(|error| self.error_at(pattern.id, why(error)))?);
        let number = CelInt::from(self.patterns.len() as i64 - 1);
        let number = IdedExpr {
            id: pattern.id,
            expr: Expr::Literal(LiteralValue::Int(number)),
        };
        Ok(CallExpr {
            func_name: MATCHES.to_owned(),
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
        // The rest is the macro's own, and small.
        Ok(ComprehensionExpr {
            iter_range,
            loop_step: loop_step?,
            ..loops
        })
    }

    /// Meters what the macro was given within the step that the macro made: the evaluator knows
    /// steps by their form.
    fn meter_loop_step(&mut self, node: IdedExpr, result: &str) -> Result<IdedExpr, CompileError> {
        if is_name(&node, result) {
            return Ok(node);
        }
        let IdedExpr { id, expr } = node;
        match expr {
            Expr::Call(mut call) if call.args.iter().any(|arg| mentions(arg, result)) => {
                for arg in &mut call.args {
                    let given = std::mem::take(arg);
                    *arg = match given.expr {
                        Expr::List(mut list) if call.func_name == operators::ADD => {
                            list.elements = self.meter_nodes(list.elements)?;
                            IdedExpr {
                                id: given.id,
                                expr: Expr::List(list),
                            }
                        }
                        expr => self.meter_loop_step(IdedExpr { id: given.id, expr }, result)?,
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

    /// Checks that the variable or type `name` exists, and notes that it is read.
    fn check_name(&mut self, id: u64, name: &str) -> Result<(), CompileError> {
        if self.scopes.iter().any(|scope| scope == name) {
            return Ok(());
        }
        let name = name.trim_start_matches('.');
        if let Some(variable) = VARIABLES.into_iter().find(|variable| *variable == name) {
            if !self.reads.contains(&variable) {
                self.reads.push(variable);
            }
            return Ok(());
        }
        let known = TYPES.contains(&name);
        known.then_some(()).ok_or_else(|| {
            self.error_at(
                id,
                format!(
                    "there is no variable {name:?}, only {}",
                    VARIABLES.join(", ")
                ),
            )
        })
    }

    /// What is wrong with the part `id`.
    fn error_at(&self, id: u64, detail: String) -> CompileError {
        let start = self
            .source
            .offset_for(id)
            .map_or(0, |(start, _)| start as usize);
        let before: String = self.source.source.chars().take(start).collect();
        let line = before.matches('\n').count() + 1;
        let column = before
            .rsplit('\n')
            .next()
            .unwrap_or_default()
            .chars()
            .count()
            + 1;
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
            func_name: REPORT.to_owned(),
            target: None,
            args: vec![node],
        }),
    }
}

fn is_name(node: &IdedExpr, name: &str) -> bool {
    matches!(&node.expr, Expr::Ident(given) if given == name)
}

/// Whether `node` is a macro's own: `name`, which no text can write, or an operator that takes it.
fn mentions(node: &IdedExpr, name: &str) -> bool {
    match &node.expr {
        Expr::Call(call) => call.args.iter().any(|arg| mentions(arg, name)),
        Expr::Ident(given) => given == name,
        Expr::Unspecified
        | Expr::Comprehension(_)
        | Expr::List(_)
        | Expr::Literal(_)
        | Expr::Map(_)
        | Expr::Select(_)
        | Expr::Struct(_) => false,
    }
}
