//! SIGKILL at random moments.

use std::time::{Duration, Instant};

use crate::careless::Flaw;
use crate::child::Trainer;
use crate::judge::{Ledger, root_in};
use crate::trainer::{Orders, Way};
use crate::{Chance, in_memory, is_long};

/// A trainer starts, opens and makes some twenty saves within this time.
const LIFE: Duration = Duration::from_millis(120);
/// After so many deaths a new root is begun, so that first saves are killed too.
const DEATHS_OF_A_ROOT: u32 = 20;

/// How many of the deaths came while something was saved.
#[derive(Debug, Default)]
struct Deaths {
    roots: u32,
    all: u32,
    in_a_save: u32,
    saves: u64,
}

fn kill(way: Way, deaths: u32) -> Result<Deaths, String> {
    let mut chance = Chance(0x2545_f491);
    let mut counted = Deaths::default();
    while counted.all < deaths {
        // In memory a life has more saves; on a disk more of it is spent on making them durable.
        let is_in_memory = counted.roots % 2 == 0;
        let directory = if is_in_memory { in_memory() } else { tempfile::tempdir().unwrap() };
        counted.roots += 1;
        let root = root_in(directory.path());
        let mut ledger = Ledger::new(way);
        for _ in 0..DEATHS_OF_A_ROOT.min(deaths - counted.all) {
            let orders = Orders { root: root.clone(), way, first: ledger.next, count: None, waits: false };
            let trainer = Trainer::start(&orders);
            let (started, life) = (Instant::now(), LIFE.mul_f64(chance.next()));
            while started.elapsed() < life {
                std::thread::sleep(life.saturating_sub(started.elapsed()));
            }
            let ended = trainer.kill();
            let context = || format!("death {} after {life:?}: {:?}", counted.all, ended.said);
            if ended.is_by_itself() {
                return Err(format!("it ended by itself at {}", context()));
            }
            ledger.hear(&ended.said);
            counted.in_a_save += u32::from(ended.said.last().is_some_and(|line| line.starts_with("begin ")));
            ledger.after_death(&root).map_err(|error| format!("{error}; {}", context()))?;
            ledger.prune(&root);
            counted.all += 1;
        }
        counted.saves += ledger.next - 1;
    }
    Ok(counted)
}

#[test]
fn whenever_it_is_killed_the_last_commit_is_there_and_whole() {
    let deaths = kill(Way::Saver, if is_long() { 1_000 } else { 100 }).unwrap();
    println!("{deaths:?}");
    assert!(deaths.in_a_save * 3 > deaths.all, "hardly a kill came while it saved: {deaths:?}");
}

#[test]
fn kills_find_a_saver_that_deletes_what_it_replaces_first() {
    kill(Way::Careless(Flaw::Nothing), 20).unwrap();
    let violation = kill(Way::Careless(Flaw::UnlinkFirst), 1_000).unwrap_err();
    println!("{violation}");
    assert!(violation.contains("before it was opened"), "{violation}");
}
