//! Imports between the files of the crate, and the circles in them.

use std::collections::{BTreeMap, BTreeSet};

use syn::visit::{self, Visit};

use super::source::SourceFile;
use super::sources;

/// Module path, such as `["edge", "call"]`; the crate's root is empty.
type ModulePath = Vec<String>;

/// Files of the crate, each with the files whose items it names.
///
/// An item that a module re-exports counts for the file that defines it, so that a `mod.rs` may
/// name and dispatch. Test code is left out.
pub(crate) struct ImportGraph {
    edges: BTreeMap<String, BTreeSet<String>>,
}

impl ImportGraph {
    pub(crate) fn new(files: &[SourceFile]) -> Self {
        let files: Vec<_> = files.iter().filter(|file| !file.is_test()).collect();
        let modules: BTreeMap<_, _> = files
            .iter()
            .map(|file| (module_of(&file.path), *file))
            .collect();
        let paths: BTreeMap<_, _> = modules
            .iter()
            .map(|(module, file)| (module, paths_in(module, &file.code, &modules)))
            .collect();

        let mut reexports = BTreeMap::new();
        for (module, found) in &paths {
            for path in found.iter().filter(|path| path.is_reexport) {
                let (target, rest) = resolve(&path.segments, &modules);
                if let Some(item) = rest.first().filter(|_| target != **module) {
                    reexports.insert(
                        ((*module).clone(), path.name.clone()),
                        (target, item.clone()),
                    );
                }
            }
        }

        let mut edges: BTreeMap<_, BTreeSet<_>> = BTreeMap::new();
        for (module, found) in &paths {
            for path in found.iter().filter(|path| !path.is_reexport) {
                let (mut target, rest) = resolve(&path.segments, &modules);
                let Some(mut item) = rest.first().cloned() else {
                    continue;
                };
                while let Some((next, name)) = reexports.get(&(target.clone(), item.clone())) {
                    (target, item) = (next.clone(), name.clone());
                }
                if target != **module && modules.contains_key(&target) {
                    edges
                        .entry(modules[*module].path.clone())
                        .or_default()
                        .insert(modules[&target].path.clone());
                }
            }
        }
        Self { edges }
    }

    /// Each import as the pair of the importing and the imported file.
    pub(crate) fn edges(&self) -> impl Iterator<Item = (&str, &str)> {
        self.edges
            .iter()
            .flat_map(|(from, to)| to.iter().map(move |to| (from.as_str(), to.as_str())))
    }

    /// Groups of files that reach each other by imports.
    fn circles(&self) -> Vec<Vec<&str>> {
        let reached: BTreeMap<_, _> = self
            .edges
            .keys()
            .map(|file| (file.as_str(), self.reached_from(file)))
            .collect();
        let mut circles: BTreeSet<Vec<&str>> = BTreeSet::new();
        for (file, others) in reached
            .iter()
            .filter(|(file, others)| others.contains(**file))
        {
            let back = |other: &&str| reached.get(other).is_some_and(|back| back.contains(file));
            circles.insert(others.iter().copied().filter(back).collect());
        }
        circles.into_iter().collect()
    }

    fn reached_from<'a>(&'a self, file: &str) -> BTreeSet<&'a str> {
        let mut reached = BTreeSet::new();
        let mut waiting: Vec<_> = self
            .edges
            .get(file)
            .into_iter()
            .flatten()
            .map(String::as_str)
            .collect();
        while let Some(next) = waiting.pop() {
            if reached.insert(next) {
                waiting.extend(
                    self.edges
                        .get(next)
                        .into_iter()
                        .flatten()
                        .map(String::as_str),
                );
            }
        }
        reached
    }
}

/// A path in the code, from the crate's root on.
struct CodePath {
    segments: Vec<String>,
    /// Name under which a re-export is known in its module.
    name: String,
    is_reexport: bool,
}

struct PathCollector<'a> {
    module: &'a ModulePath,
    /// Modules within the file around the visited item.
    depth: usize,
    children: BTreeSet<&'a str>,
    found: Vec<CodePath>,
}

impl PathCollector<'_> {
    fn add(&mut self, segments: &[String], name: &str, is_reexport: bool) {
        let Some(first) = segments.first() else {
            return;
        };
        let segments = match first.as_str() {
            "crate" | "hookyard" => segments[1..].to_vec(),
            "self" | "super" => {
                let ups = segments
                    .iter()
                    .take_while(|segment| *segment == "super")
                    .count();
                let skipped = segments
                    .iter()
                    .take_while(|segment| ["super", "self"].contains(&segment.as_str()))
                    .count();
                // Modules within the file lead no further than to the file itself.
                let kept = self
                    .module
                    .len()
                    .saturating_sub(ups.saturating_sub(self.depth));
                [&self.module[..kept], &segments[skipped..]].concat()
            }
            child if self.children.contains(child) => [self.module, segments].concat(),
            _ => return,
        };
        self.found.push(CodePath {
            segments,
            name: name.to_owned(),
            is_reexport,
        });
    }

    fn add_tree(&mut self, before: &mut Vec<String>, tree: &syn::UseTree, is_reexport: bool) {
        match tree {
            syn::UseTree::Path(path) => {
                before.push(path.ident.to_string());
                self.add_tree(before, &path.tree, is_reexport);
                before.pop();
            }
            syn::UseTree::Name(name) => {
                self.add_leaf(before, &name.ident, &name.ident, is_reexport)
            }
            syn::UseTree::Rename(name) => {
                self.add_leaf(before, &name.ident, &name.rename, is_reexport)
            }
            syn::UseTree::Group(group) => {
                for tree in &group.items {
                    self.add_tree(before, tree, is_reexport);
                }
            }
            syn::UseTree::Glob(_) => self.add(
                &[before.as_slice(), &["*".to_owned()]].concat(),
                "*",
                is_reexport,
            ),
        }
    }

    fn add_leaf(
        &mut self,
        before: &[String],
        item: &syn::Ident,
        name: &syn::Ident,
        is_reexport: bool,
    ) {
        let item = if item == "self" {
            Vec::new()
        } else {
            vec![item.to_string()]
        };
        self.add(&[before, &item].concat(), &name.to_string(), is_reexport);
    }
}

impl<'ast> Visit<'ast> for PathCollector<'_> {
    fn visit_item_use(&mut self, item: &'ast syn::ItemUse) {
        let is_reexport = !matches!(item.vis, syn::Visibility::Inherited);
        self.add_tree(&mut Vec::new(), &item.tree, is_reexport);
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        let segments: Vec<_> = path
            .segments
            .iter()
            .map(|segment| segment.ident.to_string())
            .collect();
        if segments.len() > 1 {
            self.add(&segments, "", false);
        }
        visit::visit_path(self, path);
    }

    fn visit_item_mod(&mut self, module: &'ast syn::ItemMod) {
        self.depth += 1;
        visit::visit_item_mod(self, module);
        self.depth -= 1;
    }
}

fn paths_in(
    module: &ModulePath,
    code: &syn::File,
    modules: &BTreeMap<ModulePath, &SourceFile>,
) -> Vec<CodePath> {
    let is_child =
        |other: &&ModulePath| other.len() == module.len() + 1 && other.starts_with(module);
    let children = modules
        .keys()
        .filter(is_child)
        .filter_map(|child| child.last().map(String::as_str))
        .collect();
    let mut collector = PathCollector {
        module,
        depth: 0,
        children,
        found: Vec::new(),
    };
    collector.visit_file(code);
    collector.found
}

/// The module that the longest beginning of `path` names, and the rest of it.
fn resolve(
    path: &[String],
    modules: &BTreeMap<ModulePath, &SourceFile>,
) -> (ModulePath, Vec<String>) {
    let lengths = (0..=path.len()).rev();
    let length = lengths
        .into_iter()
        .find(|length| modules.contains_key(&path[..*length]))
        .unwrap_or(0);
    (path[..length].to_vec(), path[length..].to_vec())
}

fn module_of(path: &str) -> ModulePath {
    let mut parts: Vec<_> = path
        .trim_start_matches("src/")
        .trim_end_matches(".rs")
        .split('/')
        .map(str::to_owned)
        .collect();
    if parts
        .last()
        .is_some_and(|last| last == "mod" || last == "lib")
    {
        parts.pop();
    }
    parts
}

#[test]
fn no_two_files_import_each_other_in_a_circle() {
    let files = sources();
    let graph = ImportGraph::new(&files);
    let circles: Vec<_> = graph
        .circles()
        .into_iter()
        .map(|circle| circle.join(", "))
        .collect();
    assert!(
        circles.is_empty(),
        "circles of imports:\n{}",
        circles.join("\n")
    );
}

#[test]
fn circles_are_found_through_reexports_and_nested_modules() {
    let circles = |sources: &[(&str, &str)]| {
        let files: Vec<_> = sources
            .iter()
            .map(|(path, code)| SourceFile::parse(path, &format!("//! A.\n{code}")))
            .collect();
        ImportGraph::new(&files)
            .circles()
            .into_iter()
            .map(|circle| circle.join(" "))
            .collect::<Vec<_>>()
    };
    let front = ("src/a/mod.rs", "mod b; mod c; pub use b::Bee;");
    let direct = [
        front,
        ("src/a/b.rs", "use super::c::Sea;"),
        ("src/a/c.rs", "fn f() { super::b::g() }"),
    ];
    assert_eq!(circles(&direct), ["src/a/b.rs src/a/c.rs"]);
    let reexported = [
        front,
        ("src/a/b.rs", "use super::c::{self, Sea};"),
        ("src/a/c.rs", "use crate::a::Bee;"),
    ];
    assert_eq!(circles(&reexported), ["src/a/b.rs src/a/c.rs"]);
    let nested = [
        front,
        ("src/a/b.rs", "mod inner { use super::super::c::Sea; }"),
        ("src/a/c.rs", "use super::b::Bee;"),
    ];
    assert_eq!(circles(&nested), ["src/a/b.rs src/a/c.rs"]);
    let acyclic = [
        front,
        ("src/a/b.rs", "use super::c::Sea;"),
        ("src/a/c.rs", "#[cfg(test)] mod t { use crate::a::Bee; }"),
    ];
    assert_eq!(circles(&acyclic), [""; 0]);
}
