//! Reads a crate's modules from its source: the file of each module, and the paths that each module mentions.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use proc_macro2::{Delimiter, TokenStream, TokenTree};
use syn::ext::IdentExt;
use syn::punctuated::Punctuated;
use syn::spanned::Spanned;
use syn::visit::{self, Visit};
use syn::{Attribute, Expr, ImplItem, Item, Lit, Meta, Stmt, Token, TraitItem, UseTree};

/// The path of a module or an item from the crate's root: `["delivery", "ring"]`.
pub(super) type ModulePath = Vec<String>;

/// All modules of a crate by their paths. Code that only tests compile is left out.
#[derive(Default)]
pub(super) struct Tree {
    pub(super) modules: BTreeMap<ModulePath, Module>,
    /// The files of all modules, also of modules that only tests compile.
    pub(super) files: BTreeSet<PathBuf>,
}

#[derive(Default)]
pub(super) struct Module {
    /// Imports by `use`, by the name that they have in this module.
    pub(super) imports: BTreeMap<String, Reference>,
    /// Imports by `use ...::*`.
    pub(super) globs: Vec<Reference>,
    /// The names of the items that this module defines.
    pub(super) items: BTreeSet<String>,
    /// All paths in this module. Some lead to other modules of the crate.
    pub(super) references: Vec<Reference>,
    /// Each `extern crate self as name`.
    pub(super) self_names: Vec<Reference>,
}

/// A path as written in the source, such as `super::ring::Ring`.
#[derive(Clone, Debug)]
pub(super) struct Reference {
    pub(super) path: Vec<String>,
    pub(super) file: PathBuf,
    pub(super) line: usize,
}

impl Tree {
    /// Reads the crate whose root is `root`, such as `src/lib.rs`.
    pub(super) fn read(root: &Path) -> Result<Self> {
        let mut tree = Self::default();
        let folder = root.parent().context("the path of the crate's root has no folder")?;
        tree.file(root, folder, &ModulePath::new())?;
        Ok(tree)
    }

    /// Reads a file of a module whose child modules are in `folder`.
    fn file(&mut self, path: &Path, folder: &Path, module_path: &ModulePath) -> Result<()> {
        let text = fs::read_to_string(path).with_context(|| format!("can't read {}", path.display()))?;
        let file = syn::parse_file(&text).with_context(|| format!("can't parse {}", path.display()))?;
        self.files.insert(path.to_owned());
        self.items(&file.items, path, folder, module_path)
    }

    fn items(&mut self, items: &[Item], path: &Path, folder: &Path, module_path: &ModulePath) -> Result<()> {
        let mut module = self.modules.remove(module_path).unwrap_or_default();
        let mut children = Vec::new();
        for item in items {
            match item {
                Item::Mod(child) => children.push(child),
                item if is_for_tests(attributes_of_item(item)) => {}
                Item::Use(item) => {
                    let mut imports = Imports { module: &mut module, path };
                    imports.tree(&item.tree, &mut Vec::new());
                }
                item => {
                    module.items.extend(name_of(item));
                    Paths { module: &mut module, path }.visit_item(item);
                }
            }
        }
        self.modules.insert(module_path.clone(), module);

        for child in children {
            let name = child.ident.unraw().to_string();
            let module_path = [&module_path[..], std::slice::from_ref(&name)].concat();
            let inner = folder.join(&name);
            if is_for_tests(&child.attrs) {
                self.skip_tests(child, path, folder);
            } else if let Some((_, items)) = &child.content {
                self.items(items, path, &inner, &module_path)?;
            } else {
                for (file, folder) in files_of(child, path, folder) {
                    self.file(&file, &folder, &module_path)?;
                }
            }
        }
        Ok(())
    }

    /// Records the files of a module that only tests compile, without reading them.
    fn skip_tests(&mut self, module: &syn::ItemMod, path: &Path, folder: &Path) {
        if module.content.is_none() {
            for (file, folder) in files_of(module, path, folder) {
                self.files.extend(rust_files(&folder).unwrap_or_default());
                self.files.insert(file);
            }
        }
    }
}

/// All Rust files in a folder and its subfolders.
pub(crate) fn rust_files(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).with_context(|| format!("can't read {}", folder.display()))? {
        let path = entry?.path();
        if path.is_dir() {
            files.extend(rust_files(&path)?);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

/// The files that `mod name;` may mean, each with the folder of its child modules. There is more than one if the
/// platform decides.
fn files_of(module: &syn::ItemMod, path: &Path, folder: &Path) -> Vec<(PathBuf, PathBuf)> {
    let name = module.ident.unraw().to_string();
    let mut files = Vec::new();
    let beside = path.parent().unwrap_or(Path::new(""));
    let mut is_replaced = false;
    for attribute in &module.attrs {
        if attribute.path().is_ident("path") {
            is_replaced = true;
            files.extend(literal(&attribute.meta));
        } else if attribute.path().is_ident("cfg_attr") {
            let metas = attribute.parse_args_with(Punctuated::<Meta, Token![,]>::parse_terminated);
            let metas = metas.unwrap_or_default();
            let other = metas.iter().skip(1).filter(|meta| meta.path().is_ident("path"));
            files.extend(other.filter_map(literal));
        }
    }
    let mut files: Vec<_> = files
        .into_iter()
        .map(|file| {
            let file = beside.join(file);
            let folder = file.parent().unwrap_or(beside).to_owned();
            (file, folder)
        })
        .collect();
    if !is_replaced {
        let inner = folder.join(&name);
        let as_file = folder.join(format!("{name}.rs"));
        let file = if as_file.exists() { as_file } else { inner.join("mod.rs") };
        files.push((file, inner));
    }
    files
}

fn literal(meta: &Meta) -> Option<String> {
    let Meta::NameValue(pair) = meta else { return None };
    let Expr::Lit(value) = &pair.value else { return None };
    let Lit::Str(text) = &value.lit else { return None };
    Some(text.value())
}

/// Whether only tests compile an item: `#[cfg(test)]`, `#[cfg(all(test, ...))]`, `#[test]`.
fn is_for_tests(attributes: &[Attribute]) -> bool {
    attributes.iter().any(|attribute| {
        attribute.path().is_ident("test")
            || attribute.path().is_ident("cfg")
                && attribute.parse_args::<Meta>().is_ok_and(|condition| implies_test(&condition))
    })
}

fn implies_test(condition: &Meta) -> bool {
    let Meta::List(list) = condition else { return condition.path().is_ident("test") };
    let inner = list.parse_args_with(Punctuated::<Meta, Token![,]>::parse_terminated).unwrap_or_default();
    match () {
        () if list.path.is_ident("all") => inner.iter().any(implies_test),
        () if list.path.is_ident("any") => !inner.is_empty() && inner.iter().all(implies_test),
        () => false,
    }
}

fn attributes_of_item(item: &Item) -> &[Attribute] {
    match item {
        Item::Const(item) => &item.attrs,
        Item::Enum(item) => &item.attrs,
        Item::ExternCrate(item) => &item.attrs,
        Item::Fn(item) => &item.attrs,
        Item::ForeignMod(item) => &item.attrs,
        Item::Impl(item) => &item.attrs,
        Item::Macro(item) => &item.attrs,
        Item::Mod(item) => &item.attrs,
        Item::Static(item) => &item.attrs,
        Item::Struct(item) => &item.attrs,
        Item::Trait(item) => &item.attrs,
        Item::TraitAlias(item) => &item.attrs,
        Item::Type(item) => &item.attrs,
        Item::Union(item) => &item.attrs,
        Item::Use(item) => &item.attrs,
        _ => &[],
    }
}

fn name_of(item: &Item) -> Option<String> {
    let name = match item {
        Item::Const(item) => &item.ident,
        Item::Enum(item) => &item.ident,
        Item::Fn(item) => &item.sig.ident,
        Item::Macro(item) => item.ident.as_ref()?,
        Item::Static(item) => &item.ident,
        Item::Struct(item) => &item.ident,
        Item::Trait(item) => &item.ident,
        Item::TraitAlias(item) => &item.ident,
        Item::Type(item) => &item.ident,
        Item::Union(item) => &item.ident,
        _ => return None,
    };
    Some(name.unraw().to_string())
}

/// Reads the `use` items of a module.
struct Imports<'a> {
    module: &'a mut Module,
    path: &'a Path,
}

impl Imports<'_> {
    fn tree(&mut self, tree: &UseTree, before: &mut ModulePath) {
        match tree {
            UseTree::Path(path) => {
                before.push(path.ident.unraw().to_string());
                self.tree(&path.tree, before);
                before.pop();
            }
            UseTree::Group(group) => group.items.iter().for_each(|tree| self.tree(tree, before)),
            UseTree::Glob(glob) => {
                let reference = self.reference(before.clone(), glob.span().start().line);
                self.module.globs.push(reference);
            }
            UseTree::Name(name) => self.import(before, &name.ident, &name.ident),
            UseTree::Rename(rename) => self.import(before, &rename.ident, &rename.rename),
        }
    }

    fn import(&mut self, before: &[String], name: &syn::Ident, here: &syn::Ident) {
        let mut path = before.to_vec();
        let of_itself = *name == "self";
        if !of_itself || path.is_empty() {
            path.push(name.unraw().to_string());
        }
        let here =
            if of_itself && *here == "self" { path.last().cloned() } else { Some(here.unraw().to_string()) };
        let reference = self.reference(path, name.span().start().line);
        if let Some(here) = here {
            self.module.imports.insert(here, reference);
        }
    }

    /// Adds the path to the references, too: an unused import is also an import.
    fn reference(&mut self, path: ModulePath, line: usize) -> Reference {
        let reference = Reference { path, file: self.path.to_owned(), line };
        self.module.references.push(reference.clone());
        reference
    }
}

/// Collects the paths in an item and in the arguments of macros.
struct Paths<'a> {
    module: &'a mut Module,
    path: &'a Path,
}

impl Paths<'_> {
    fn push(&mut self, path: ModulePath, line: usize) {
        self.module.references.push(Reference { path, file: self.path.to_owned(), line });
    }

    /// Finds `a::b::c` among the tokens of a macro, which need not be valid Rust.
    fn tokens(&mut self, tokens: TokenStream) {
        let tokens: Vec<TokenTree> = tokens.into_iter().collect();
        let mut at = 0;
        while at < tokens.len() {
            match &tokens[at] {
                TokenTree::Group(group) => self.tokens(group.stream()),
                TokenTree::Ident(first) => {
                    let mut path = vec![first.unraw().to_string()];
                    let line = first.span().start().line;
                    while is_colons(&tokens[at + 1..]) {
                        match tokens.get(at + 3) {
                            Some(TokenTree::Ident(next)) => path.push(next.unraw().to_string()),
                            Some(TokenTree::Group(group)) if group.delimiter() == Delimiter::Brace => {
                                self.braces(&path, group.stream(), line);
                                break;
                            }
                            _ => break,
                        }
                        at += 3;
                    }
                    if path.len() > 1 {
                        self.push(path, line);
                    }
                }
                _ => {}
            }
            at += 1;
        }
    }

    /// Reads `path::{a, b::c}`, as in `use`.
    fn braces(&mut self, path: &[String], tokens: TokenStream, line: usize) {
        let Ok(tree) =
            syn::parse2::<UseTree>(TokenTree::from(proc_macro2::Group::new(Delimiter::Brace, tokens)).into())
        else {
            return;
        };
        // Not added to the imports of the module: a `use` in a function brings names into that function alone.
        let mut inside = Module::default();
        Imports { module: &mut inside, path: self.path }.tree(&tree, &mut path.to_vec());
        for reference in inside.references {
            self.push(reference.path, line);
        }
    }
}

fn is_colons(tokens: &[TokenTree]) -> bool {
    let is_colon =
        |token: Option<&TokenTree>| matches!(token, Some(TokenTree::Punct(punct)) if punct.as_char() == ':');
    is_colon(tokens.first()) && is_colon(tokens.get(1))
}

impl<'ast> Visit<'ast> for Paths<'_> {
    fn visit_path(&mut self, path: &'ast syn::Path) {
        let segments = path.segments.iter().map(|segment| segment.ident.unraw().to_string()).collect();
        self.push(segments, path.span().start().line);
        visit::visit_path(self, path);
    }

    /// Reads a `use` in a function.
    fn visit_item_use(&mut self, item: &'ast syn::ItemUse) {
        let mut inside = Module::default();
        Imports { module: &mut inside, path: self.path }.tree(&item.tree, &mut Vec::new());
        self.module.references.append(&mut inside.references);
    }

    fn visit_item_extern_crate(&mut self, item: &'ast syn::ItemExternCrate) {
        if item.ident == "self" {
            let name = item.rename.as_ref().map_or(&item.ident, |(_, name)| name);
            let (path, line) = (vec![name.unraw().to_string()], item.span().start().line);
            self.module.self_names.push(Reference { path, file: self.path.to_owned(), line });
        }
    }

    fn visit_macro(&mut self, of: &'ast syn::Macro) {
        self.visit_path(&of.path);
        self.tokens(of.tokens.clone());
    }

    fn visit_item(&mut self, item: &'ast Item) {
        if !is_for_tests(attributes_of_item(item)) {
            visit::visit_item(self, item);
        }
    }

    fn visit_impl_item(&mut self, item: &'ast ImplItem) {
        let attributes = match item {
            ImplItem::Const(item) => &item.attrs,
            ImplItem::Fn(item) => &item.attrs,
            ImplItem::Macro(item) => &item.attrs,
            ImplItem::Type(item) => &item.attrs,
            _ => return visit::visit_impl_item(self, item),
        };
        if !is_for_tests(attributes) {
            visit::visit_impl_item(self, item);
        }
    }

    fn visit_trait_item(&mut self, item: &'ast TraitItem) {
        match item {
            TraitItem::Fn(of) if is_for_tests(&of.attrs) => {}
            item => visit::visit_trait_item(self, item),
        }
    }

    fn visit_field(&mut self, field: &'ast syn::Field) {
        if !is_for_tests(&field.attrs) {
            visit::visit_field(self, field);
        }
    }

    fn visit_field_value(&mut self, field: &'ast syn::FieldValue) {
        if !is_for_tests(&field.attrs) {
            visit::visit_field_value(self, field);
        }
    }

    fn visit_stmt(&mut self, statement: &'ast Stmt) {
        match statement {
            Stmt::Local(of) if is_for_tests(&of.attrs) => {}
            Stmt::Macro(of) if is_for_tests(&of.attrs) => {}
            statement => visit::visit_stmt(self, statement),
        }
    }

    /// The path in `pub(in path)` is no import.
    fn visit_vis_restricted(&mut self, _: &'ast syn::VisRestricted) {}

    /// Names of derives and lints are no paths of the crate.
    fn visit_attribute(&mut self, _: &'ast Attribute) {}
}
