//! The processes of spans from several readers.

use std::collections::HashMap;
use std::sync::Arc;

use crate::process::Process;

/// The most processes that are known at a time, for files that never end. Others get a description of their own again.
const MOST: usize = 10_000;

/// The processes of the spans, by service. Each thread that reads has its own description of a process, and so has each
/// file, but the spans of one process have to share one.
#[derive(Default)]
pub(super) struct Processes {
    by_service: HashMap<String, Vec<Arc<Process>>>,
    count: usize,
}

impl Processes {
    pub(super) fn known(&mut self, process: &Arc<Process>) -> Arc<Process> {
        let of_service = self.by_service.get(&process.service).into_iter().flatten();
        if let Some(known) = of_service.into_iter().find(|known| ***known == **process) {
            return Arc::clone(known);
        }
        if self.count >= MOST {
            self.by_service.clear();
            self.count = 0;
        }
        self.count += 1;
        self.by_service.entry(process.service.clone()).or_default().push(Arc::clone(process));
        Arc::clone(process)
    }
}
