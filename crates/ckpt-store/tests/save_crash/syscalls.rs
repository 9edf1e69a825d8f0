//! Every system call of a save is the last one, or fails.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use ckpt_core::manifest;

use crate::careless::Flaw;
use crate::child::{Ended, Injected, traced};
use crate::disk::Disk;
use crate::judge::{Ledger, root_in};
use crate::trainer::{Hand, METRIC, Orders, Way};
use crate::{in_memory, is_long};

/// What a save asks of the system, reading aside; `?` where not every architecture has it.
pub(crate) const CALLS: &[&str] = &[
    "openat",
    "write",
    "pwrite64",
    "?pwritev",
    "?sendfile",
    "fsync",
    "fdatasync",
    "?sync_file_range",
    "?copy_file_range",
    "ftruncate",
    "?truncate",
    "fallocate",
    "ioctl",
    "flock",
    "?rename",
    "?renameat",
    "renameat2",
    "?unlink",
    "unlinkat",
    "?mkdir",
    "mkdirat",
    "?rmdir",
    "?symlink",
    "symlinkat",
    "?link",
    "linkat",
    "?chmod",
    "?fchmod",
];
/// Those after which a disk may look different; before the others it looks as before the next of these.
pub(crate) const CHANGES: &[&str] = &[
    "fsync",
    "?rename",
    "?renameat",
    "renameat2",
    "?unlink",
    "unlinkat",
    "?mkdir",
    "mkdirat",
    "?symlink",
    "symlinkat",
];

/// A root and what is done to it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Case {
    name: &'static str,
    /// The first number saved; the ones before it are in the root already.
    first: u64,
    count: u64,
    /// Whether the saver before died between the commit and the pointers.
    is_hurt: bool,
}

const fn case(name: &'static str, first: u64, count: u64) -> Case {
    Case { name, first, count, is_hurt: false }
}

pub(crate) const NEXT: Case = case("the next step", 5, 1);
pub(crate) const AGAIN: Case = case("the step again", 4, 1);
pub(crate) const SINGLE: Case = case("a file in the place of another", 8, 1);
const CASES: &[Case] = &[
    case("the first save", 1, 1),
    NEXT,
    case("two asynchronous saves", 10, 2),
    AGAIN,
    case("the step again, asynchronously", 7, 1),
    SINGLE,
    Case { name: "a root to mend", first: 9, count: 1, is_hurt: true },
];

/// The root of a case, in a directory to be copied.
fn template(directory: &Path, way: Way, case: Case) -> Ledger {
    fs::create_dir_all(directory).unwrap();
    let root = root_in(directory);
    let mut ledger = Ledger::new(way);
    if case.first > 1 {
        let hand = Hand::open(&root, way).unwrap();
        let whole = if case.is_hurt { case.first - 1 } else { case.first };
        while ledger.next < whole {
            ledger.save(&hand).unwrap();
        }
        hand.finish().unwrap();
    }
    if case.is_hurt {
        hurt(&root, &mut ledger);
    }
    ledger
}

/// One more save whose pointers never moved, and leftovers of every kind.
fn hurt(root: &Path, ledger: &mut Ledger) {
    // A single file comes before; what is wanted here is a directory.
    let pointers = [manifest::LATEST.to_owned(), format!("best-{METRIC}")];
    let pointers = pointers.iter().flat_map(|name| [name.clone(), format!("{name}.json")]);
    let pointers: Vec<PathBuf> = pointers.map(|name| root.join(name)).collect();
    let aside = root.with_file_name("aside");
    fs::create_dir(&aside).unwrap();
    copy(&pointers, &aside);
    let before = ledger.clone();
    let hand = Hand::open(root, ledger.way).unwrap();
    ledger.save(&hand).unwrap();
    hand.finish().unwrap();
    let open = ledger.next - 1;
    *ledger = before;
    ledger.hear(&[format!("begin {open}")]);
    pointers.iter().for_each(|path| fs::remove_file(path).unwrap());
    let saved: Vec<PathBuf> = pointers.iter().map(|path| aside.join(path.file_name().unwrap())).collect();
    copy(&saved, root);
    fs::remove_dir_all(aside).unwrap();
    let left = root.join(".step-00000009.ckpt-tmp-1-0-0");
    fs::create_dir_all(left.join("code")).unwrap();
    fs::write(left.join("code/config.yaml"), "half").unwrap();
    fs::write(root.join(".latest.json.ckpt-tmp-1-1-0"), "{").unwrap();
    std::os::unix::fs::symlink("step-00000009", root.join(".latest.ckpt-tmp-1-2-0")).unwrap();
}

/// Links stay links.
fn copy(from: &[PathBuf], into: &Path) {
    let status = Command::new("cp").arg("-a").args(from).arg(into).status().unwrap();
    assert!(status.success());
}

/// How often a call was made, by the thread that made it most.
fn counted(trace: &Path) -> BTreeMap<String, u32> {
    let mut by_thread: BTreeMap<(String, String), u32> = BTreeMap::new();
    for line in fs::read_to_string(trace).unwrap().lines() {
        let Some((thread, rest)) = line.split_once(' ') else { continue };
        if let Some((call, _)) = rest.trim_start().split_once('(')
            && call.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
        {
            *by_thread.entry((thread.to_owned(), call.to_owned())).or_default() += 1;
        }
    }
    let mut counts = BTreeMap::new();
    for ((_, call), count) in by_thread {
        let most: &mut u32 = counts.entry(call).or_default();
        *most = count.max(*most);
    }
    counts
}

/// What a sweep does at each system call.
pub(crate) struct Sweep<'a> {
    pub(crate) way: Way,
    pub(crate) calls: &'a [&'a str],
    pub(crate) injected: Injected,
    /// Where the power is cut after each death.
    pub(crate) disk: Option<&'a Disk>,
}

impl Sweep<'_> {
    /// Gives the number of system calls, or the first violation; `None` where processes cannot be traced, which is
    /// printed.
    pub(crate) fn run(&self, case: Case) -> Result<Option<u32>, String> {
        let memory = in_memory();
        let base = self.disk.map_or_else(|| memory.path().to_owned(), Disk::path);
        let template_at = memory.path().join("template");
        let ledger = template(&template_at, self.way, case);
        let trace = memory.path().join("trace");
        let all = self.calls.join(",");
        let run = |call: &str, count: u32, injected: Injected| -> Result<(PathBuf, Ended), String> {
            let directory = base.join("here");
            if directory.exists() {
                fs::remove_dir_all(&directory).unwrap();
            }
            copy(std::slice::from_ref(&template_at), &directory);
            if let Some(disk) = self.disk {
                disk.settle();
            }
            let root = directory.join("root");
            let (first, count_of) = (case.first, Some(case.count));
            let orders = Orders { root: root.clone(), way: self.way, first, count: count_of, waits: true };
            let ended = traced(&orders, &all, (call, count, injected), &trace)?;
            Ok((root, ended))
        };
        match run("", 0, Injected::Nothing) {
            Ok((_, ended)) => assert!(ended.status.success(), "{ended:?}"),
            Err(error) => {
                println!("SKIPPED: system calls: {error}");
                return Ok(None);
            }
        }
        let mut done = 0;
        for call in counted(&trace).keys() {
            for count in 1.. {
                let (root, ended) = run(call, count, self.injected).expect("it was traced a moment ago");
                let text = fs::read_to_string(&trace).unwrap();
                if !is_met(&text, &ended, self.injected) {
                    break;
                }
                done += 1;
                if let Some(disk) = self.disk {
                    disk.cut();
                    disk.restart();
                }
                let mut ledger = ledger.clone();
                ledger.hear(&ended.said);
                let judged = self.surfaces(call, &ended).and_then(|()| ledger.after_death(&root));
                judged.map_err(|error| {
                    let last: Vec<&str> = text.lines().rev().take(4).collect();
                    format!("{}, {call} {count}, {:?}: {error}; {:?}; {last:?}", case.name, self.injected, ended.said)
                })?;
            }
        }
        Ok(Some(done))
    }

    /// Whether an error that was injected was told.
    fn surfaces(&self, call: &str, ended: &Ended) -> Result<(), String> {
        if matches!(self.injected, Injected::Kill) {
            return Ok(());
        }
        let is_told = ended.failures().next().is_some();
        if ended.status.code().is_none_or(|code| code > 1) {
            return Err(format!("it ended with {}", ended.status));
        }
        if !is_told && matches!(call, "write" | "fsync" | "fdatasync") {
            return Err("nobody was told".to_owned());
        }
        Ok(())
    }
}

/// Whether there was a call as late as the one that was waited for.
fn is_met(trace: &str, ended: &Ended, injected: Injected) -> bool {
    match injected {
        Injected::Kill => !ended.is_by_itself(),
        Injected::Error(_) => trace.contains("(INJECTED)"),
        Injected::Nothing => false,
    }
}

fn every_case(injected: Injected, calls: &[&str]) {
    let sweep = Sweep { way: Way::Saver, calls, injected, disk: None };
    for &case in CASES {
        let Some(count) = sweep.run(case).unwrap() else { return };
        println!("{}, {injected:?}: {count} system calls", case.name);
        assert!(count > 20 || calls.len() < CALLS.len(), "{}: only {count} system calls", case.name);
    }
}

#[test]
fn whichever_system_call_is_the_last_the_old_or_the_new_is_there() {
    every_case(Injected::Kill, CALLS);
}

#[test]
fn whichever_system_call_fails_somebody_is_told_and_the_older_ones_stay() {
    every_case(Injected::Error("EIO"), CALLS);
    if is_long() {
        every_case(Injected::Error("ENOSPC"), CALLS);
    } else {
        every_case(Injected::Error("ENOSPC"), &["write", "fsync", "?mkdir", "mkdirat", "?copy_file_range", "?symlink"]);
    }
}

#[test]
fn system_calls_find_a_saver_that_deletes_what_it_replaces_first() {
    let sweep = |flaw| Sweep { way: Way::Careless(flaw), calls: CHANGES, injected: Injected::Kill, disk: None };
    for case in [NEXT, SINGLE] {
        let Some(_) = sweep(Flaw::Nothing).run(case).unwrap() else { return };
        let violation = sweep(Flaw::UnlinkFirst).run(case).unwrap_err();
        println!("{violation}");
        assert!(violation.contains("before it was opened"), "{violation}");
    }
}
