//! The spans that a thread is in and that its subscriber does not know of.
//!
//! They are made for the probes of callsites alone, see `probe_only`. The registry's own list of a thread's spans does
//! not have them, as it is what all layers see.

use std::cell::{Cell, RefCell};
use std::sync::atomic::{AtomicBool, Ordering};

use tracing_core::span::Id;

/// Whether there has been such a span. While there was none, no thread looks at its list.
static USED: AtomicBool = AtomicBool::new(false);

struct Entered {
    id: Id,
    /// The span that the subscriber held for current at the enter.
    outer: Option<Id>,
    /// What the ids belong to: the address of a layer, or of a registry if there is no layer.
    owner: usize,
}

thread_local! {
    static ENTERED: RefCell<Vec<Entered>> = const { RefCell::new(Vec::new()) };
    static NEXT_PARENT: Cell<u64> = const { Cell::new(0) };
}

/// Whether any thread may be in such a span.
#[inline]
pub(crate) fn is_used() -> bool {
    USED.load(Ordering::Relaxed)
}

/// There is such a span.
pub(crate) fn use_from_now_on() {
    USED.store(true, Ordering::Relaxed);
}

/// The thread enters the span `id`, while `outer` is the subscriber's current span.
pub(crate) fn enter(owner: usize, id: &Id, outer: Option<Id>) {
    // A thread that is ending has no list any more.
    let _ = ENTERED.try_with(|entered| {
        if let Ok(mut entered) = entered.try_borrow_mut() {
            entered.push(Entered { id: id.clone(), outer, owner });
        }
    });
}

/// The thread leaves the span `id`.
pub(crate) fn exit(owner: usize, id: &Id) {
    let _ = ENTERED.try_with(|entered| {
        let Ok(mut entered) = entered.try_borrow_mut() else { return };
        if let Some(at) = entered.iter().rposition(|entered| entered.owner == owner && entered.id == *id) {
            entered.remove(at);
        }
    });
}

/// The innermost span of the thread, if it is one that the subscriber does not know of. `current` is the one that the
/// subscriber holds for current.
pub(crate) fn innermost(owner: usize, current: Option<&Id>) -> Option<Id> {
    ENTERED
        .try_with(|entered| {
            let entered = entered.try_borrow().ok()?;
            // If the subscriber's current span is another one than at the enter, it was entered later, or this span was
            // not left in order.
            let is_in_current =
                |entered: &&Entered| entered.owner == owner && entered.outer.as_ref() == current;
            entered.iter().rfind(is_in_current).map(|entered| entered.id.clone())
        })
        .ok()
        .flatten()
}

/// Makes `parent` the parent of the root span that `f` creates. The subscriber does not know `parent`, so it must not
/// get its id.
pub(crate) fn with_parent<T>(parent: &Id, f: impl FnOnce() -> T) -> T {
    struct Reset;
    impl Drop for Reset {
        fn drop(&mut self) {
            let _ = NEXT_PARENT.try_with(|next| next.set(0));
        }
    }
    let _reset = Reset;
    let _ = NEXT_PARENT.try_with(|next| next.set(parent.into_u64()));
    f()
}

/// The parent of [`with_parent`], for the first span that asks.
pub(crate) fn take_parent() -> Option<Id> {
    let id = NEXT_PARENT.try_with(|next| next.replace(0)).unwrap_or(0);
    (id != 0).then(|| Id::from_u64(id))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(id: u64) -> Id {
        Id::from_u64(id)
    }

    #[test]
    fn the_innermost_span_is_the_one_that_was_entered_last() {
        assert_eq!(innermost(1, None), None);
        enter(1, &id(7), Some(id(1)));
        assert_eq!(innermost(1, Some(&id(1))), Some(id(7)));
        assert_eq!(innermost(1, Some(&id(2))), None, "the subscriber's span was entered later");
        assert_eq!(innermost(2, Some(&id(1))), None, "of another layer");
        enter(1, &id(8), Some(id(1)));
        exit(1, &id(7));
        assert_eq!(innermost(1, Some(&id(1))), Some(id(8)), "exits need not be in order");
        exit(1, &id(8));
        assert_eq!(innermost(1, Some(&id(1))), None);
    }

    #[test]
    fn a_parent_is_for_one_span() {
        let parents = with_parent(&id(5), || (take_parent(), take_parent()));
        assert_eq!(parents, (Some(id(5)), None));
        with_parent(&id(5), || ());
        assert_eq!(take_parent(), None);
    }
}
