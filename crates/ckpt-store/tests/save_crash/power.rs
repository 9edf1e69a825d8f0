//! Power cuts: what was not made durable is gone.

use std::time::Duration;

use crate::careless::Flaw;
use crate::child::{Injected, Trainer};
use crate::disk::Disk;
use crate::judge::{Ledger, root_in};
use crate::syscalls::{AGAIN, CHANGES, NEXT, SINGLE, Sweep};
use crate::trainer::{Orders, Way};
use crate::{Chance, is_long};

const KINDS: [&str; 2] = ["ext4", "xfs"];
/// A trainer makes some saves within this time.
const LIFE: Duration = Duration::from_millis(300);

/// When the power is cut.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Moment {
    /// As soon as the trainer was told that its last save is committed.
    Committed,
    /// At any time.
    Any,
}

fn rounds(short: u32) -> u32 {
    if is_long() { 10 * short } else { short }
}

/// Cuts the power again and again; gives the first violation.
fn cut(disk: &Disk, way: Way, moment: Moment, rounds: u32) -> Result<(), String> {
    let mut chance = Chance(0x5851_f42d);
    let directory = tempfile::tempdir_in(disk.path()).unwrap();
    let root = root_in(directory.path());
    disk.settle();
    let mut ledger = Ledger::new(way);
    for round in 0..rounds {
        let count = (moment == Moment::Committed).then_some(1 + u64::from(round % 3));
        let orders = Orders { root: root.clone(), way, first: ledger.next, count, waits: false };
        let mut trainer = Trainer::start(&orders);
        let mut said = Vec::new();
        if let Some(count) = count {
            let last = format!("done {}", ledger.next + count - 1);
            while said.last() != Some(&last) {
                said.push(trainer.line().unwrap_or_else(|| panic!("it ended before `{last}`: {said:?}")));
            }
        } else {
            std::thread::sleep(LIFE.mul_f64(chance.next()));
        }
        disk.cut();
        // What it says that it committed after the cut must be there too.
        let ended = if count.is_some() { trainer.kill() } else { trainer.end() };
        said.extend(ended.said);
        disk.restart();
        ledger.hear(&said);
        ledger.after_death(&root).map_err(|error| format!("power cut {round}, {moment:?}: {error}; {said:?}"))?;
        ledger.prune(&root);
    }
    Ok(())
}

fn on_every_kind(test: impl Fn(&Disk)) {
    for disk in KINDS.into_iter().filter_map(Disk::new) {
        test(&disk);
    }
}

#[test]
fn nothing_is_durable_on_a_disk_that_is_gone() {
    on_every_kind(|disk| {
        let at = disk.path();
        let directory = std::fs::File::open(&at).unwrap();
        std::fs::write(at.join("new"), "").unwrap();
        disk.cut();
        assert!(ckpt_store::fs::sync(&directory, &at).is_err());
        drop(directory);
    });
}

#[test]
fn what_was_committed_survives_a_power_cut_right_after_it() {
    on_every_kind(|disk| cut(disk, Way::Saver, Moment::Committed, rounds(24)).unwrap());
}

#[test]
fn whenever_the_power_is_cut_the_old_or_the_new_is_there() {
    on_every_kind(|disk| cut(disk, Way::Saver, Moment::Any, rounds(24)).unwrap());
}

#[test]
fn after_whichever_system_call_the_power_is_cut_the_old_or_the_new_is_there() {
    on_every_kind(|disk| {
        let sweep = Sweep { way: Way::Saver, calls: CHANGES, injected: Injected::Kill, disk: Some(disk) };
        for case in [NEXT, AGAIN, SINGLE] {
            let Some(count) = sweep.run(case).unwrap() else { return };
            println!("{case:?}: {count} system calls");
        }
    });
}

#[test]
fn power_cuts_find_a_saver_that_makes_nothing_durable() {
    on_every_kind(|disk| {
        for moment in [Moment::Committed, Moment::Any] {
            cut(disk, Way::Careless(Flaw::Nothing), moment, 8).unwrap();
            println!("{}", cut(disk, Way::Careless(Flaw::NoSync), moment, 20).unwrap_err());
        }
    });
}

#[test]
fn power_cuts_find_a_saver_whose_pointers_move_before_the_files_are_durable() {
    on_every_kind(|disk| {
        println!("{}", cut(disk, Way::Careless(Flaw::PointerFirst), Moment::Any, 200).unwrap_err());
        let sweep =
            |flaw| Sweep { way: Way::Careless(flaw), calls: CHANGES, injected: Injected::Kill, disk: Some(disk) };
        let Some(_) = sweep(Flaw::Nothing).run(NEXT).unwrap() else { return };
        println!("{}", sweep(Flaw::PointerFirst).run(NEXT).unwrap_err());
    });
}
