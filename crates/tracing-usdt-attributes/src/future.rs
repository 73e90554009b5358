//! Functions that are not `async` but return a future.
//!
//! A span around such a function would cover only the making of the future. So the attribute looks for a future that
//! the last expression of the body makes, and instruments that. It recognizes what `tracing::instrument` does:
//!
//! * `async { … }`
//! * `Box::pin(async { … })`, as `async-trait` generates it since 0.1.44
//! * `Box::pin(inner(…))` where the body declares `async fn inner`, as older versions generate it

use syn::{Expr, ExprAsync, FnArg, Item, ItemFn, Pat, Path, Stmt, Type, TypePath};

/// What to instrument instead of the function itself.
pub(crate) enum Inner<'a> {
    Block(&'a mut ExprAsync),
    /// The statement that declares an `async fn`.
    Function(&'a mut Stmt),
}

/// Finds the future that the body makes.
pub(crate) fn find(statements: &mut [Stmt]) -> Option<Inner<'_>> {
    let (last, before) = statements.split_last_mut()?;
    let Stmt::Expr(result, None) = last else { return None };
    let pinned = match result {
        Expr::Async(block) => return Some(Inner::Block(block)),
        Expr::Call(call) => match &*call.func {
            Expr::Path(function) if is_box_pin(&function.path) => call.args.first_mut()?,
            _ => return None,
        },
        _ => return None,
    };
    match pinned {
        Expr::Async(block) => Some(Inner::Block(block)),
        Expr::Call(call) => {
            let Expr::Path(callee) = &*call.func else { return None };
            let name = &callee.path.segments.last()?.ident;
            let declares = |statement: &&mut Stmt| match statement {
                Stmt::Item(Item::Fn(ItemFn { sig, .. })) => sig.asyncness.is_some() && sig.ident == *name,
                _ => false,
            };
            (callee.path.segments.len() == 1).then_some(())?;
            before.iter_mut().find(declares).map(Inner::Function)
        }
        _ => None,
    }
}

fn is_box_pin(path: &Path) -> bool {
    let mut names = path.segments.iter().rev().map(|segment| &segment.ident);
    names.next().is_some_and(|last| last == "pin") && names.next().is_some_and(|owner| owner == "Box")
}

/// The type of `Self` in a function that `async-trait` moved out of its `impl`, where `self` became `_self`.
pub(crate) fn type_of_moved_self(function: &ItemFn) -> Option<TypePath> {
    function.sig.inputs.iter().find_map(|argument| {
        let FnArg::Typed(parameter) = argument else { return None };
        match &*parameter.pat {
            Pat::Ident(name) if name.ident == "_self" => {}
            _ => return None,
        }
        let ty = match &*parameter.ty {
            Type::Reference(reference) => &*reference.elem,
            ty => ty,
        };
        match ty {
            Type::Path(path) => Some(path.clone()),
            _ => None,
        }
    })
}
