//! Log lines of the code against the table of the guide that explains them to operators.

use std::collections::BTreeSet;

use syn::visit::{self, Visit};

use super::sources;

/// Levels that an operator sees by default.
const LEVELS: [&str; 3] = ["info", "warn", "error"];

const GUIDE: &str = include_str!("../../src/edge/docs/guide/operate.md");

/// Messages of the log lines in `code`: the last text of each macro, and the first of a raw line.
fn messages(code: &syn::File) -> BTreeSet<String> {
    struct Collector(BTreeSet<String>);
    impl<'ast> Visit<'ast> for Collector {
        fn visit_macro(&mut self, node: &'ast syn::Macro) {
            let name = node
                .path
                .segments
                .last()
                .map(|segment| segment.ident.to_string());
            if name.is_some_and(|name| LEVELS.contains(&name.as_str())) {
                let tokens = node.tokens.clone().into_iter();
                let texts =
                    tokens.filter_map(|token| syn::parse2::<syn::LitStr>(token.into()).ok());
                self.0.extend(texts.last().map(|text| text.value()));
            }
            visit::visit_macro(self, node);
        }

        fn visit_expr_call(&mut self, node: &'ast syn::ExprCall) {
            if let syn::Expr::Path(called) = &*node.func
                && let Some(name) = called.path.segments.last()
                && name.ident == "write_raw_line"
                && let Some(syn::Expr::Lit(text)) = node.args.first()
                && let syn::Lit::Str(text) = &text.lit
            {
                self.0.insert(text.value());
            }
            visit::visit_expr_call(self, node);
        }
    }

    let mut collector = Collector(BTreeSet::new());
    collector.visit_file(code);
    collector.0
}

/// Lines that the guide's table explains.
fn explained(guide: &str) -> BTreeSet<String> {
    let section = guide.split("## Log lines\n").nth(1).unwrap_or_default();
    let section = section.split("\n## ").next().unwrap_or_default();
    let rows = section.lines().filter(|line| line.starts_with("| `"));
    let cells = rows.filter_map(|row| row.split(" | ").next());
    cells
        .flat_map(|cell| cell.split('`').skip(1).step_by(2))
        .map(str::to_owned)
        .collect()
}

#[test]
fn the_guide_explains_every_log_line_and_no_other() {
    let files = sources();
    let written: BTreeSet<_> = files
        .iter()
        .filter(|file| !file.is_test())
        .flat_map(|file| messages(&file.code))
        .collect();
    let explained = explained(GUIDE);

    let missing: Vec<_> = written.difference(&explained).collect();
    assert!(
        missing.is_empty(),
        "log lines that the guide operate does not explain: {missing:#?}"
    );

    let unknown: Vec<_> = explained.difference(&written).collect();
    assert!(
        unknown.is_empty(),
        "log lines of the guide operate that no code writes: {unknown:#?}"
    );
}

#[test]
fn a_log_line_is_told_from_its_fields() {
    let code = "fn f() { warn!(%a, b = \"c\", \"gone\"); tracing::error!(error = &e as &dyn E, \"bad\"); format!(\"x\"); log_sink::write_raw_line(\"raw\", at) }";
    let code = syn::parse_file(code).expect("parses");
    assert_eq!(
        messages(&code),
        BTreeSet::from(["bad".to_owned(), "gone".to_owned(), "raw".to_owned()])
    );

    let guide = "x\n## Log lines\n| line |\n| `one`, `two` | is |\n## Next\n| `three` | no |\n";
    assert_eq!(
        explained(guide),
        BTreeSet::from(["one".to_owned(), "two".to_owned()])
    );
}
