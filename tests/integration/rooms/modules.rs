//! The modules of a crate and what they need of each other, read from its source: from `use`
//! lines, from paths in code and in macros, through re-exports to the module that has the thing.
//! Showing a thing of another module (`pub use`) is no need of it; using it is. What only tests see
//! is left out. Knows no rule about what may need what.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
};

use proc_macro2::{Span, TokenStream, TokenTree};
use syn::{
    Attribute, File, Item, ItemMod, ItemUse, Macro, Meta, Token, UseTree, Visibility,
    punctuated::Punctuated,
    visit::{self, Visit},
};

use super::graph::Graph;

/// The root's name in the graph.
pub(super) const ROOT: &str = "crate";

/// Re-exports lead to the thing in fewer steps than this; more are a circle of names.
const MOST_STEPS: usize = 32;

/// `["pixels", "read"]` is `crate::pixels::read`; the root is empty.
type Name = Vec<String>;

/// Where a name of a module leads.
#[derive(Clone, Debug)]
enum Binding {
    /// It is made here.
    Here,
    Child,
    /// It comes by a `use`.
    Import(Vec<String>),
}

/// A module, in a file of its own or not.
struct Module {
    /// The module whose file it is written in.
    owner: Name,
    file: PathBuf,
    names: BTreeMap<String, Binding>,
    globs: Vec<Vec<String>>,
    /// Paths that stand in it, and the lines they stand in.
    paths: Vec<(Vec<String>, usize)>,
}

/// All modules of a crate, by their names.
struct Crate<'a> {
    read: &'a dyn Fn(&Path) -> Option<String>,
    modules: BTreeMap<Name, Module>,
    lines: BTreeMap<PathBuf, Vec<String>>,
}

/// The graph of the crate whose root is the file `root`. Files come from `read`.
///
/// # Panics
///
/// If a file is missing or no Rust.
pub(super) fn graph(root: &Path, read: &dyn Fn(&Path) -> Option<String>) -> Graph {
    let mut found = Crate { read, modules: BTreeMap::new(), lines: BTreeMap::new() };
    found.load(Name::new(), root, root.parent().unwrap_or(Path::new("")));
    found.draw()
}

fn label(name: &[String]) -> String {
    if name.is_empty() { ROOT.to_owned() } else { name.join("::") }
}

impl Crate<'_> {
    /// Reads the file of the module `name`, and those of its children, which lie in `folder`.
    fn load(&mut self, name: Name, file: &Path, folder: &Path) {
        let text = (self.read)(file).unwrap_or_else(|| panic!("{}: no such file", file.display()));
        let parsed: File =
            syn::parse_file(&text).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
        self.lines.insert(file.to_owned(), text.lines().map(|line| line.trim().into()).collect());
        self.add(name.clone(), name, file, folder, &parsed.items);
    }

    fn add(&mut self, name: Name, owner: Name, file: &Path, folder: &Path, items: &[Item]) {
        let mut reader = Reader::default();
        items.iter().for_each(|item| reader.visit_item(item));
        let Reader { names, globs, mut paths, children, shown, single } = reader;
        let uses = single.into_iter().filter_map(|(name, line)| {
            let path = shown.get(&name)?;
            Some((path.clone(), line))
        });
        paths.extend(uses);
        for child in &children {
            let child_name = [&name[..], &[child.ident.to_string()]].concat();
            let ident = child.ident.to_string();
            match &child.content {
                Some((_, items)) => {
                    self.add(child_name, owner.clone(), file, &folder.join(ident), items);
                }
                None => {
                    let flat = folder.join(format!("{ident}.rs"));
                    let inner = folder.join(&ident);
                    let nested = inner.join("mod.rs");
                    let file = if (self.read)(&flat).is_some() { flat } else { nested };
                    self.load(child_name, &file, &inner);
                }
            }
        }
        self.modules.insert(name, Module { owner, file: file.to_owned(), names, globs, paths });
    }

    /// The module that has what `path` names in the module `at`; `None` if it is of another crate.
    fn locate(&self, at: &[String], path: &[String], steps: usize) -> Option<Name> {
        let (first, rest) = path.split_first()?;
        let (mut current, rest) = match first.as_str() {
            "crate" => (Name::new(), rest),
            "self" => (at.to_vec(), rest),
            "super" => {
                let parents = path.iter().take_while(|part| *part == "super").count();
                (at[..at.len().checked_sub(parents)?].to_vec(), &path[parents..])
            }
            _ if self.has(at, first, steps) => (at.to_vec(), path),
            _ => return None,
        };
        for (index, part) in rest.iter().enumerate() {
            if steps == 0 {
                return None;
            }
            let module = &self.modules[&current];
            match module.names.get(part) {
                Some(Binding::Child) => current.push(part.clone()),
                Some(Binding::Here) => return Some(current),
                Some(Binding::Import(target)) => {
                    let whole = [&target[..], &rest[index + 1..]].concat();
                    return self.locate_import(&current, &whole, steps - 1);
                }
                None => {
                    let has = |glob: &&Vec<String>| {
                        let target = self.locate_import(&current, glob, steps - 1);
                        target.is_some_and(|target| self.has(&target, part, steps - 1))
                    };
                    let Some(glob) = module.globs.iter().find(has) else { return Some(current) };
                    let whole = [&glob[..], &rest[index..]].concat();
                    return self.locate_import(&current, &whole, steps - 1);
                }
            }
        }
        Some(current)
    }

    /// As [`Self::locate`], for a path of a `use`, which does not see itself: `use image::image`.
    fn locate_import(&self, at: &[String], path: &[String], steps: usize) -> Option<Name> {
        let is_itself = matches!(
            self.modules.get(at)?.names.get(path.first()?),
            Some(Binding::Import(target)) if target.first() == path.first()
        );
        if is_itself { None } else { self.locate(at, path, steps) }
    }

    /// Whether `name` can be seen in the module `at`.
    fn has(&self, at: &[String], name: &str, steps: usize) -> bool {
        let module = &self.modules[at];
        let through = |glob: &Vec<String>| {
            let target = self.locate_import(at, glob, steps - 1);
            target.is_some_and(|target| target != at && self.has(&target, name, steps - 1))
        };
        module.names.contains_key(name) || (steps > 1 && module.globs.iter().any(through))
    }

    fn draw(&self) -> Graph {
        let mut graph = Graph::default();
        for (name, module) in &self.modules {
            let from = label(&module.owner);
            graph.add_node(&from);
            for (path, line) in &module.paths {
                let Some(target) = self.locate(name, path, MOST_STEPS) else { continue };
                let to = label(&self.modules[&target].owner);
                graph.add_edge(&from, &to, || {
                    let text = &self.lines[&module.file][line - 1];
                    format!("{}:{line}: {text}", module.file.display())
                });
            }
        }
        graph
    }
}

/// Collects what stands in one module, without its children.
#[derive(Default)]
struct Reader<'ast> {
    names: BTreeMap<String, Binding>,
    globs: Vec<Vec<String>>,
    paths: Vec<(Vec<String>, usize)>,
    children: Vec<&'ast ItemMod>,
    /// What is shown to other modules, and where it comes from.
    shown: BTreeMap<String, Vec<String>>,
    /// Names alone in code: a local one, one of a `use`, or one that is shown.
    single: Vec<(String, usize)>,
}

impl Reader<'_> {
    fn see(&mut self, path: Vec<String>, span: Span) {
        self.paths.push((path, span.start().line));
    }

    fn import(&mut self, tree: &UseTree, before: &[String], is_shown: bool) {
        let with = |name: &dyn ToString| [before, &[name.to_string()]].concat();
        match tree {
            UseTree::Path(path) => self.import(&path.tree, &with(&path.ident), is_shown),
            UseTree::Group(group) => {
                group.items.iter().for_each(|tree| self.import(tree, before, is_shown));
            }
            UseTree::Glob(glob) => {
                self.see(before.to_vec(), glob.star_token.spans[0]);
                self.globs.push(before.to_vec());
            }
            UseTree::Name(name) if name.ident == "self" => {
                let module = before.last().expect("self stands in a group");
                self.bind(module, before.to_vec(), name.ident.span(), is_shown);
            }
            UseTree::Name(name) => {
                let whole = with(&name.ident);
                self.bind(&name.ident.to_string(), whole, name.ident.span(), is_shown);
            }
            UseTree::Rename(rename) => {
                let is_self = rename.ident == "self";
                let whole = if is_self { before.to_vec() } else { with(&rename.ident) };
                self.bind(&rename.rename.to_string(), whole, rename.ident.span(), is_shown);
            }
        }
    }

    fn bind(&mut self, name: &str, path: Vec<String>, span: Span, is_shown: bool) {
        if is_shown {
            self.shown.insert(name.to_owned(), path.clone());
        } else {
            self.see(path.clone(), span);
        }
        // What a module makes itself hides a name of the same spelling of another kind.
        self.names.entry(name.to_owned()).or_insert(Binding::Import(path));
    }

    /// Paths in the tokens of a macro, which no parser knows: `a :: b`.
    fn scan(&mut self, tokens: TokenStream) {
        let mut path: Vec<(String, Span)> = Vec::new();
        let mut colons = 0;
        for token in tokens {
            match token {
                TokenTree::Punct(punct) if punct.as_char() == ':' => colons += 1,
                TokenTree::Ident(ident) => {
                    if colons != 2 {
                        self.end(&mut path);
                    }
                    path.push((ident.to_string(), ident.span()));
                    colons = 0;
                }
                other => {
                    self.end(&mut path);
                    colons = 0;
                    if let TokenTree::Group(group) = other {
                        self.scan(group.stream());
                    }
                }
            }
        }
        self.end(&mut path);
    }

    fn end(&mut self, path: &mut Vec<(String, Span)>) {
        if path.len() > 1 {
            let span = path[0].1;
            self.see(path.iter().map(|(part, _)| part.clone()).collect(), span);
        }
        path.clear();
    }
}

impl<'ast> Visit<'ast> for Reader<'ast> {
    fn visit_item(&mut self, item: &'ast Item) {
        if attributes(item).iter().any(|attribute| is_for_tests(&attribute.meta)) {
            return;
        }
        if let Some(name) = defined(item) {
            self.names.insert(name, Binding::Here);
        }
        visit::visit_item(self, item);
    }

    fn visit_item_mod(&mut self, item: &'ast ItemMod) {
        self.names.insert(item.ident.to_string(), Binding::Child);
        self.children.push(item);
    }

    fn visit_item_use(&mut self, item: &'ast ItemUse) {
        self.import(&item.tree, &[], !matches!(item.vis, Visibility::Inherited));
    }

    fn visit_impl_item(&mut self, item: &'ast syn::ImplItem) {
        let attributes = match item {
            syn::ImplItem::Fn(item) => &item.attrs[..],
            syn::ImplItem::Const(item) => &item.attrs,
            _ => &[],
        };
        if !attributes.iter().any(|attribute| is_for_tests(&attribute.meta)) {
            visit::visit_impl_item(self, item);
        }
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        let span = path.segments[0].ident.span();
        let parts: Vec<_> = path.segments.iter().map(|part| part.ident.to_string()).collect();
        match &parts[..] {
            [name] => self.single.push((name.clone(), span.start().line)),
            _ if path.leading_colon.is_none() => self.see(parts, span),
            _ => {}
        }
        visit::visit_path(self, path);
    }

    fn visit_macro(&mut self, item: &'ast Macro) {
        self.scan(item.tokens.clone());
        visit::visit_macro(self, item);
    }

    /// `pub(in path)` needs nothing.
    fn visit_visibility(&mut self, _: &'ast Visibility) {}

    fn visit_attribute(&mut self, _: &'ast Attribute) {}
}

/// Whether `meta` is `cfg(test)`, or one that holds for tests alone.
fn is_for_tests(meta: &Meta) -> bool {
    let Meta::List(list) = meta else { return meta.path().is_ident("test") };
    let Ok(inner) = list.parse_args_with(Punctuated::<Meta, Token![,]>::parse_terminated) else {
        return false;
    };
    (list.path.is_ident("cfg") || list.path.is_ident("all")) && inner.iter().any(is_for_tests)
}

fn attributes(item: &Item) -> &[Attribute] {
    match item {
        Item::Const(item) => &item.attrs,
        Item::Enum(item) => &item.attrs,
        Item::Fn(item) => &item.attrs,
        Item::Impl(item) => &item.attrs,
        Item::Macro(item) => &item.attrs,
        Item::Mod(item) => &item.attrs,
        Item::Static(item) => &item.attrs,
        Item::Struct(item) => &item.attrs,
        Item::Trait(item) => &item.attrs,
        Item::Type(item) => &item.attrs,
        Item::Use(item) => &item.attrs,
        _ => &[],
    }
}

/// The name that an item makes.
fn defined(item: &Item) -> Option<String> {
    let name = match item {
        Item::Const(item) => &item.ident,
        Item::Enum(item) => &item.ident,
        Item::Fn(item) => &item.sig.ident,
        Item::Macro(item) => item.ident.as_ref()?,
        Item::Static(item) => &item.ident,
        Item::Struct(item) => &item.ident,
        Item::Trait(item) => &item.ident,
        Item::Type(item) => &item.ident,
        _ => return None,
    };
    Some(name.to_string())
}

/// Every `fn` of a file that takes more than `most` values besides `self`: its name and line.
pub(super) fn long_parameter_lists(text: &str, most: usize) -> Vec<(String, usize)> {
    struct Finder(usize, Vec<(String, usize)>);
    impl<'ast> Visit<'ast> for Finder {
        fn visit_signature(&mut self, signature: &'ast syn::Signature) {
            let typed = |input: &&syn::FnArg| matches!(input, syn::FnArg::Typed(_));
            if signature.inputs.iter().filter(typed).count() > self.0 {
                self.1.push((signature.ident.to_string(), signature.ident.span().start().line));
            }
        }
    }
    let mut finder = Finder(most, Vec::new());
    finder.visit_file(&syn::parse_file(text).expect("Rust"));
    finder.1
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What needs what in a made-up crate of these files; the first is the root.
    fn needs(files: &[(&str, &str)]) -> BTreeSet<String> {
        let read = |path: &Path| {
            let found = files.iter().find(|(name, _)| Path::new(name) == path);
            found.map(|(_, text)| (*text).to_owned())
        };
        let graph = graph(Path::new(files[0].0), &read);
        graph.edges().map(|edge| format!("{} {}", edge.from, edge.to)).collect()
    }

    #[test]
    fn what_a_module_says_it_needs_is_what_it_needs() {
        type Case<'a> = (&'a str, &'a [(&'a str, &'a str)], &'a [&'a str]);
        let ab = ("lib.rs", "mod a; mod b;");
        let cases: [Case<'_>; 17] = [
            ("a use line", &[ab, ("a.rs", "use crate::b::B;"), ("b.rs", "struct B;")], &["a b"]),
            (
                "nested groups",
                &[
                    ab,
                    ("a.rs", "use crate::{b::{self, B, inner::{C, D as E}}};"),
                    ("b.rs", "pub struct B; pub mod inner;"),
                    ("b/inner.rs", "pub struct C; pub struct D;"),
                ],
                &["a b", "a b::inner"],
            ),
            (
                "a renamed module",
                &[
                    ab,
                    ("a.rs", "use crate::b as other; fn f() { other::inner::g() }"),
                    ("b.rs", "pub mod inner;"),
                    ("b/inner.rs", "pub fn g() {}"),
                ],
                &["a b", "a b::inner"],
            ),
            (
                "paths in code and in macros",
                &[
                    ab,
                    ("a.rs", "fn f() { crate::b::g() }"),
                    ("b.rs", "pub fn g() { println!(\"{}\", [super::a::f()].len()) }"),
                ],
                &["a b", "b a"],
            ),
            (
                "a child of its parent",
                &[
                    ("lib.rs", "mod a;"),
                    ("a/mod.rs", "mod c; pub struct A;"),
                    ("a/c.rs", "use super::A;"),
                ],
                &["a::c a"],
            ),
            (
                "a parent of its child",
                &[
                    ("lib.rs", "mod a;"),
                    ("a.rs", "mod c; fn f() { c::g() }"),
                    ("a/c.rs", "pub fn g() {}"),
                ],
                &["a a::c"],
            ),
            (
                "a declaration alone needs nothing",
                &[
                    ("lib.rs", "mod a;"),
                    ("a.rs", "pub(crate) mod c;"),
                    ("a/c.rs", "pub(super) fn g() {} pub(in crate::a) fn h() {}"),
                ],
                &[],
            ),
            (
                "a re-export is not what has the thing",
                &[
                    ("lib.rs", "mod a; mod b; pub use a::A;"),
                    ("a.rs", "pub struct A;"),
                    ("b.rs", "use crate::A;"),
                ],
                &["b a"],
            ),
            (
                "what is shown and used",
                &[("lib.rs", "mod a; pub use a::A; fn f(a: A) {}"), ("a.rs", "pub struct A;")],
                &["crate a"],
            ),
            (
                "nor one of many",
                &[
                    ("lib.rs", "mod a; mod b;"),
                    ("a/mod.rs", "mod c; pub use c::*;"),
                    ("a/c.rs", "pub struct A;"),
                    ("b.rs", "use crate::a::A;"),
                ],
                &["a a::c", "b a::c"],
            ),
            (
                "a re-export of another crate",
                &[("lib.rs", "mod a; pub use other::Error;"), ("a.rs", "use crate::Error;")],
                &[],
            ),
            (
                "a module for tests, and what it needs",
                &[
                    ab,
                    ("a.rs", "pub struct A; #[cfg(test)] mod tests { use crate::b::B; }"),
                    ("b.rs", "use crate::a::A; #[cfg(test)] mod tests;"),
                ],
                &["b a"],
            ),
            (
                "items for tests",
                &[
                    ab,
                    (
                        "a.rs",
                        "#[cfg(test)] use crate::b::B;
                         #[cfg(all(test, unix))] fn f() { crate::b::g() }
                         struct A; impl A { #[cfg(test)] fn h() { crate::b::g() } }",
                    ),
                    ("b.rs", "#[cfg(not(test))] use crate::a::A;"),
                ],
                &["b a"],
            ),
            (
                "a module inside a file is that file's",
                &[
                    ab,
                    ("a.rs", "mod inner { use super::A; use crate::b::B; } struct A;"),
                    ("b.rs", "pub struct B;"),
                ],
                &["a b"],
            ),
            (
                "another crate of the same name",
                &[
                    ("lib.rs", "mod a; mod image;"),
                    ("a.rs", "use image::Rgb; fn f() { image::g() }"),
                    ("image.rs", "use image::Luma;"),
                ],
                &[],
            ),
            (
                "a local name and a type's own",
                &[ab, ("a.rs", "enum B { C } fn f(b: u8) { drop((b, B::C)) }"), ("b.rs", "")],
                &[],
            ),
            (
                "names that lead in a circle",
                &[
                    ("lib.rs", "mod a; mod b;"),
                    ("a.rs", "pub use crate::b::*;"),
                    ("b.rs", "pub use crate::a::*; pub struct B;"),
                ],
                &["a b", "b a"],
            ),
        ];
        for (what, files, expected) in cases {
            let expected = expected.iter().map(|edge| (*edge).to_owned()).collect();
            assert_eq!(needs(files), expected, "{what}");
        }
    }

    #[test]
    fn parameters_are_counted_without_self() {
        let text = "fn f(a: u8, b: u8) {}\nimpl A {\n fn g(&self, a: u8, b: u8, c: u8) {} }";
        assert_eq!(long_parameter_lists(text, 2), [("g".to_owned(), 3)]);
    }
}
