//! `tokio_hop TASKS POLLS`: tasks in nested spans. Each task is polled POLLS times, each time on any free
//! thread.

use tokio::task::yield_now;
use tracing::{Instrument, info_span};
use tracing_subscriber::prelude::*;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let number = |n| std::env::args().nth(n).unwrap_or_default().parse::<u64>();
    let (tasks, polls) = (number(1)?, number(2)?);
    tracing_subscriber::registry().with(tracing_usdt::layer()).init();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(4).build()?;
    runtime.block_on(async move {
        let handles: Vec<_> = (0..tasks)
            .map(|task| {
                let work = async move {
                    // A task is polled once more than it yields.
                    for _ in 1..polls {
                        yield_now().await;
                    }
                };
                let inner = async move { work.instrument(info_span!("inner", task)).await };
                tokio::spawn(inner.instrument(info_span!("outer", task)))
            })
            .collect();
        for handle in handles {
            handle.await?;
        }
        Ok(())
    })
}
