//! What `ckpt resume` does, from a Rust trainer: the best checkpoint of all sources, brought where training may write.
//!
//! `cargo run -p ckpt-examples --bin resume -- kaggle:examples/data/kaggle target/resumed`

use std::env::args;
use std::error::Error;
use std::path::PathBuf;

use ckpt_core::location::Location;
use ckpt_core::progress::Silent;
use ckpt_core::select::{Criteria, select};
use ckpt_core::verify::Expectations;
use ckpt_store::{Options, fetch, survey};

fn main() -> Result<(), Box<dyn Error>> {
    let location: Location = args().nth(1).unwrap_or_else(|| "kaggle:examples/data/kaggle".to_owned()).parse()?;
    let to = PathBuf::from(args().nth(2).unwrap_or_else(|| "target/resumed".to_owned()));

    let expected = Expectations { resumable: true, ..Expectations::default() };
    let found = survey(&[location], &expected, &Options::default(), &Silent)?;
    let criteria = Criteria { choice: "accuracy:max".parse()?, ..Criteria::default() };
    let selection = select(found.verified, &criteria)?;

    for (candidate, outcome) in selection.ranked.iter().zip(&selection.outcomes) {
        println!("{}: {}", candidate.candidate.path.display(), outcome.reason);
    }
    let Some(chosen) = selection.selected() else {
        println!("{}: training starts fresh", selection.reason());
        return Ok(());
    };
    let fetched = fetch::fetch(chosen, &to, &fetch::Options::default(), &Silent)?;
    println!("{} {}", fetched.action, fetched.path.display());
    if let Some(epoch) = chosen.inspection.resume_epoch() {
        println!("training goes on with epoch {epoch}");
    }
    Ok(())
}
