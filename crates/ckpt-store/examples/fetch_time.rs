//! Times a fetch: `fetch_time SOURCE DIRECTORY`.
#![allow(clippy::print_stdout, reason = "an example prints")]

use ckpt_core::progress::Silent;
use ckpt_core::verify::{Expectations, Verified};
use ckpt_store::fetch::{Options, digest, fetch};
use ckpt_store::fs::FileReader;
use ckpt_store::inspect;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args_os().skip(1);
    let (Some(source), Some(to)) = (arguments.next(), arguments.next()) else { return Err("SOURCE DIRECTORY".into()) };
    let candidate = inspect::candidate(source.as_ref())?;
    let inspection = inspect::inspect(&candidate)?;
    let chosen = Verified::new(candidate, inspection, None, &Expectations::default());
    let start = std::time::Instant::now();
    digest(&FileReader::open(source.as_ref())?)?;
    println!("digest of the source alone: {:.3} s", start.elapsed().as_secs_f64());
    let start = std::time::Instant::now();
    let fetched = fetch(&chosen, to.as_ref(), &Options { always_copy: true, force: false }, &Silent)?;
    println!("fetch: {:.3} s, {}", start.elapsed().as_secs_f64(), fetched.action);
    Ok(())
}
