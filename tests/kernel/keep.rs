//! `--keep` chooses traces by what the kernel did in their spans.

use crate::with_kernel;
use crate::worker::Attached;

#[test]
fn the_trace_that_slept_is_kept_with_what_the_kernel_did_and_no_other() {
    with_kernel(&[], || {
        let rule = "kernel.sleep > 50ms";
        let mut attached = Attached::start(&["--min", "0us", "--keep", rule, "--quiet"]);
        for milliseconds in [1, 100, 2] {
            attached.run(&format!("sleep 1 {milliseconds}"));
        }
        let (spans, ended) = attached.end();
        let kept = spans.one("sleeper");
        assert!(kept.account()["sleep"] > 50_000_000, "{kept:#?}");
        assert_eq!(spans.below(kept, "sleep").len(), 1, "{:#?}", spans.0);
        assert!(spans.0.iter().all(|span| span.trace == kept.trace), "{:#?}", spans.0);
        assert!(spans.0.iter().all(|span| span.text("spantap.sampling.rule") == rule), "{:#?}", spans.0);
        assert!(ended.stderr.contains("--keep: 1 trace kept"), "{}", ended.stderr);
    });
}

#[test]
fn without_the_scheduler_a_rule_about_the_kernel_gets_a_note() {
    with_kernel(&[], || {
        for kernel in ["none", "block"] {
            let rule = "kernel.sleep > 50ms";
            let attached = Attached::start(&["--kernel", kernel, "--keep", rule, "--quiet"]);
            let (_, ended) = attached.end();
            let note = "only spans of spantap attach with --kernel sched have the values";
            assert!(ended.stderr.contains(note), "{kernel}: {}", ended.stderr);
        }
    });
}
