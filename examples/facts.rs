//! What a checkpoint says, from its bytes alone: no file system is needed.
//!
//! `cargo run -p ckpt-examples --bin facts -- tests/fixtures/torch/full_resumable.pth`

use std::error::Error;

use ckpt_core::inspect;

fn main() -> Result<(), Box<dyn Error>> {
    let path = std::env::args().nth(1).unwrap_or_else(|| "tests/fixtures/torch/full_resumable.pth".to_owned());
    let bytes = std::fs::read(&path)?;
    let inspection = inspect::file(&path, &bytes.as_slice())?;
    println!("{} of {}", inspection.format.name(), inspection.layout.name());
    println!("epoch {:?}, step {:?}, {}", inspection.epoch, inspection.step, inspection.class.name());
    for metric in &inspection.metrics {
        println!("{} = {} from {}", metric.name, metric.value, metric.provenance);
    }
    for finding in &inspection.findings {
        println!("{}: {}", finding.code.name(), finding.message);
    }
    Ok(())
}
