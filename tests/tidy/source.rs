//! One source file as the rules see it: its code without tests, and its comments.

use syn::visit::{self, Visit};
use syn::visit_mut::{self, VisitMut};

/// A source file under `src`, without the modules and items that only tests compile.
pub(crate) struct SourceFile {
    pub(crate) path: String,
    pub(crate) text: String,
    pub(crate) code: syn::File,
}

/// Comment lines that stand directly under each other with the same mark.
#[derive(Debug, PartialEq)]
pub(crate) struct Comment {
    pub(crate) is_doc: bool,
    pub(crate) text: String,
}

impl SourceFile {
    pub(crate) fn parse(path: &str, text: &str) -> Self {
        let mut code = syn::parse_file(text).unwrap_or_else(|error| panic!("{path}: {error}"));
        TestRemover.visit_file_mut(&mut code);
        Self {
            path: path.to_owned(),
            text: text.to_owned(),
            code,
        }
    }

    /// The folder or file directly under `src`, such as `edge` or `main`.
    pub(crate) fn stage(&self) -> &str {
        Self::stage_of(&self.path)
    }

    /// The folder or file directly under `src` that `path` belongs to.
    pub(crate) fn stage_of(path: &str) -> &str {
        path.split('/')
            .nth(1)
            .unwrap_or_default()
            .trim_end_matches(".rs")
    }

    /// True for a file that holds nothing but tests.
    pub(crate) fn is_test(&self) -> bool {
        let mut parts = self.path.trim_end_matches(".rs").split('/');
        parts.any(|part| part == "tests" || part == "property_tests")
    }

    /// True if the code names the crate `name`.
    pub(crate) fn names(&self, name: &str) -> bool {
        struct Finder<'a>(&'a str, bool);
        impl<'ast> Visit<'ast> for Finder<'_> {
            fn visit_ident(&mut self, ident: &'ast syn::Ident) {
                self.1 |= ident == self.0;
            }
            fn visit_macro(&mut self, node: &'ast syn::Macro) {
                self.1 |= has_word(&node.tokens.to_string(), self.0);
                visit::visit_macro(self, node);
            }
        }

        let mut finder = Finder(name, false);
        finder.visit_file(&self.code);
        finder.1
    }

    /// The comments of the file that stand on lines of their own, in order.
    pub(crate) fn comments(&self) -> Vec<Comment> {
        let mut comments: Vec<Comment> = Vec::new();
        let mut previous = None;
        for line in self.text.lines().map(str::trim_start) {
            let mark = ["//!", "///", "//"]
                .into_iter()
                .find(|mark| line.starts_with(mark));
            if let Some(mark) = mark {
                let text = line[mark.len()..].trim();
                match comments.last_mut().filter(|_| previous == Some(mark)) {
                    Some(comment) => comment.text = format!("{}\n{text}", comment.text),
                    None => comments.push(Comment {
                        is_doc: mark == "///",
                        text: text.to_owned(),
                    }),
                }
            }
            previous = mark;
        }
        comments
    }
}

/// Drops what is compiled for tests alone.
struct TestRemover;

impl VisitMut for TestRemover {
    fn visit_file_mut(&mut self, file: &mut syn::File) {
        file.items.retain(|item| !is_for_tests(attributes(item)));
        visit_mut::visit_file_mut(self, file);
    }

    fn visit_item_mod_mut(&mut self, module: &mut syn::ItemMod) {
        if let Some((_, items)) = &mut module.content {
            items.retain(|item| !is_for_tests(attributes(item)));
        }
        visit_mut::visit_item_mod_mut(self, module);
    }

    fn visit_item_impl_mut(&mut self, block: &mut syn::ItemImpl) {
        block.items.retain(|item| match item {
            syn::ImplItem::Fn(function) => !is_for_tests(&function.attrs),
            syn::ImplItem::Const(constant) => !is_for_tests(&constant.attrs),
            _ => true,
        });
        visit_mut::visit_item_impl_mut(self, block);
    }
}

fn attributes(item: &syn::Item) -> &[syn::Attribute] {
    match item {
        syn::Item::Const(item) => &item.attrs,
        syn::Item::Enum(item) => &item.attrs,
        syn::Item::Fn(item) => &item.attrs,
        syn::Item::Impl(item) => &item.attrs,
        syn::Item::Macro(item) => &item.attrs,
        syn::Item::Mod(item) => &item.attrs,
        syn::Item::Static(item) => &item.attrs,
        syn::Item::Struct(item) => &item.attrs,
        syn::Item::Trait(item) => &item.attrs,
        syn::Item::Type(item) => &item.attrs,
        syn::Item::Use(item) => &item.attrs,
        _ => &[],
    }
}

fn is_for_tests(attributes: &[syn::Attribute]) -> bool {
    let is_test = |list: &syn::MetaList| {
        list.path.is_ident("cfg")
            && has_word(&list.tokens.to_string().replace("not (test)", ""), "test")
    };
    attributes
        .iter()
        .any(|attribute| attribute.meta.require_list().is_ok_and(is_test))
}

/// True if `text` holds `word` with no letter, digit or underscore beside it.
pub(crate) fn has_word(text: &str, word: &str) -> bool {
    let is_name = |character: char| character.is_alphanumeric() || character == '_';
    let mut found = text.match_indices(word);
    found.any(|(at, _)| {
        !text[..at].ends_with(is_name) && !text[at + word.len()..].starts_with(is_name)
    })
}

#[test]
fn comments_are_joined_while_their_mark_stays() {
    let text = "//! A file.\n\n/// One.\n/// Two.\nfn f() {} // beside\n// three\n";
    let file = SourceFile::parse("src/a.rs", text);
    let texts: Vec<_> = file
        .comments()
        .into_iter()
        .map(|comment| (comment.is_doc, comment.text))
        .collect();
    let expected = [(false, "A file."), (true, "One.\nTwo."), (false, "three")];
    assert_eq!(
        texts,
        expected.map(|(is_doc, text)| (is_doc, text.to_owned()))
    );
}

#[test]
fn test_code_is_left_out() {
    let text =
        "//! A.\n#[cfg(test)]\nmod tests { use sled; }\n#[cfg(not(test))]\nfn f() { loom() }";
    let file = SourceFile::parse("src/a.rs", text);
    assert!(!file.names("sled"));
    assert!(file.names("loom"));
}
