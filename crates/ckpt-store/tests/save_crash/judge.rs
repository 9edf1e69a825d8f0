//! What a root must look like after its trainer died: judged by a reader that does not open it to save, then by one that
//! does.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use ckpt_core::manifest::{self, Pointer};
use ckpt_store::load::Checkpoint;
use ckpt_store::save::{Policy, Saver};

use crate::trainer::{Hand, Kind, METRIC, SINGLE, State, Way, accuracy, copied};

type Judgement<T = ()> = Result<T, String>;

/// What a trainer has told, and what must therefore be in its root.
#[derive(Clone, Debug)]
pub(crate) struct Ledger {
    pub(crate) way: Way,
    /// Step → number of the last save of it that was committed.
    steps: BTreeMap<u64, u64>,
    /// The last number committed as a directory; 0 for none.
    latest: u64,
    /// The last number committed as a single file; 0 for none.
    single: u64,
    /// Numbers that were begun and never ended well: they may be there or not.
    open: BTreeSet<u64>,
    /// The next number that was never begun.
    pub(crate) next: u64,
}

impl Ledger {
    pub(crate) fn new(way: Way) -> Self {
        Self { way, steps: BTreeMap::new(), latest: 0, single: 0, open: BTreeSet::new(), next: 1 }
    }

    /// Takes note of what a trainer said.
    pub(crate) fn hear(&mut self, said: &[String]) {
        for line in said {
            let mut words = line.split(' ');
            let (Some(word), Some(Ok(number))) = (words.next(), words.next().map(str::parse)) else { continue };
            match word {
                "begin" => self.begin(number),
                "done" => self.done(number),
                _ => {}
            }
        }
    }

    fn begin(&mut self, number: u64) {
        self.open.insert(number);
        self.next = self.next.max(number + 1);
    }

    fn done(&mut self, number: u64) {
        self.open.remove(&number);
        if self.way.kind(number) == Kind::Single {
            self.single = self.single.max(number);
        } else {
            let last = self.steps.entry(self.way.step(number)).or_insert(number);
            *last = (*last).max(number);
            self.latest = self.latest.max(number);
        }
    }

    /// Saves the next number in this process.
    pub(crate) fn save(&mut self, hand: &Hand) -> Judgement {
        let number = self.next;
        self.begin(number);
        hand.save(number).map_err(|error| format!("save {number} failed: {error}"))?;
        self.done(number);
        Ok(())
    }

    /// Whether a number may be seen where `committed` was committed last.
    fn allows(&self, number: u64, committed: u64, is_single: bool) -> bool {
        let is_open = self.open.contains(&number) && (self.way.kind(number) == Kind::Single) == is_single;
        number == committed && number > 0 || number > committed && is_open
    }

    /// Whether a save that replaces a step was under way.
    fn is_replacing(&self) -> bool {
        self.open.iter().any(|number| matches!(self.way.kind(*number), Kind::Again | Kind::AgainLater))
    }

    /// Judges a root as it lies there.
    pub(crate) fn judge(&self, root: &Path) -> Judgement<Seen> {
        let mut seen = Seen::default();
        for (step, name) in steps(root)? {
            let number = number_of(&root.join(&name), self.way)?;
            let committed = self.steps.get(&step).copied().unwrap_or(0);
            if self.way.step(number) != step || !self.allows(number, committed, false) {
                return Err(format!(
                    "`{name}` holds save {number}; {committed} was committed, open are {:?}",
                    self.open
                ));
            }
            seen.steps.insert(step, number);
        }
        if let Some(lost) = self.steps.keys().find(|step| !seen.steps.contains_key(*step)) {
            return Err(format!("step {lost}, which was committed, is lost"));
        }
        for name in [manifest::LATEST.to_owned(), format!("best-{METRIC}")] {
            self.pointer(root, &name, &seen)?;
        }
        let single = root.join(SINGLE);
        if self.single > 0 || fs::symlink_metadata(&single).is_ok() {
            let number = single_number(&single)?;
            if !self.allows(number, self.single, true) {
                return Err(format!("`{SINGLE}` holds save {number}; {} was committed", self.single));
            }
            seen.single = number;
        }
        Ok(seen)
    }

    /// Judges a link and the file beside it; each may be moved before the other.
    fn pointer(&self, root: &Path, name: &str, seen: &Seen) -> Judgement {
        let link = root.join(name);
        let is_best = name != manifest::LATEST;
        let floor = self.steps.values().copied().max_by(|one, other| accuracy(*one).total_cmp(&accuracy(*other)));
        let is_allowed = |number: u64| match floor {
            _ if !is_best => self.allows(number, self.latest, false),
            // The best may have been replaced by something worse.
            Some(floor) if !self.is_replacing() => accuracy(number) >= accuracy(floor),
            _ => true,
        };
        let refuse = |number| {
            Err(format!("`{name}` leads to save {number}; {} was the latest, {floor:?} the best", self.latest))
        };
        match fs::read_link(&link) {
            Ok(_) => {
                let number =
                    number_of(&link, self.way).map_err(|error| format!("`{name}` leads nowhere good: {error}"))?;
                if !is_allowed(number) {
                    return refuse(number);
                }
            }
            Err(_) if self.latest == 0 => {}
            Err(error) => return Err(format!("`{name}` is no link: {error}")),
        }
        let file = root.join(format!("{name}.json"));
        let bytes = match fs::read(&file) {
            Ok(bytes) => bytes,
            Err(_) if self.latest == 0 => return Ok(()),
            Err(error) => return Err(format!("`{}`: {error}", file.display())),
        };
        let pointer = Pointer::parse(&bytes).map_err(|error| format!("`{}`: {error}", file.display()))?;
        let Some(number) =
            seen.steps.get(&pointer.step.0).filter(|_| pointer.checkpoint == manifest::directory_name(pointer.step))
        else {
            return Err(format!("`{name}.json` names `{}`, which is not there", pointer.checkpoint));
        };
        let found = Checkpoint::open(&root.join(&pointer.checkpoint)).map_err(|error| error.to_string())?;
        if found.digest() != pointer.manifest && !self.is_replacing() {
            return Err(format!("`{name}.json` has the digest of another manifest"));
        }
        if is_allowed(*number) { Ok(()) } else { refuse(*number) }
    }

    /// Judges a root after its trainer died: as it lies there, after it was opened, and after one more save.
    pub(crate) fn after_death(&mut self, root: &Path) -> Judgement {
        let before = self.judge(root).map_err(|error| format!("before it was opened: {error}"))?;
        self.opened(root, &before).map_err(|error| format!("after it was opened: {error}"))?;
        let hand = Hand::open(root, self.way)?;
        self.save(&hand)?;
        hand.finish()?;
        self.tidy(root).map_err(|error| format!("after the next save: {error}"))
    }

    fn opened(&mut self, root: &Path, before: &Seen) -> Judgement {
        let saver = Saver::open(root, Policy::default()).map_err(|error| error.to_string())?;
        saver.finish().map_err(|error| error.to_string())?;
        let after = self.judge(root)?;
        let is_kept = |(step, number): (&u64, &u64)| after.steps.get(step) == Some(number);
        if !before.steps.iter().all(is_kept) || before.single != after.single {
            return Err(format!("{before:?} became {after:?}"));
        }
        self.steps.clone_from(&after.steps);
        self.latest = after.steps.values().copied().max().unwrap_or(0);
        self.single = after.single;
        self.open.clear();
        self.tidy(root)
    }

    /// Nobody saves: everything is what it is to be, and nothing is left over.
    pub(crate) fn tidy(&self, root: &Path) -> Judgement {
        assert!(self.open.is_empty());
        self.judge(root)?;
        for entry in fs::read_dir(root).map_err(|error| error.to_string())? {
            let name = entry.map_err(|error| error.to_string())?.file_name().to_string_lossy().into_owned();
            if name.contains(".ckpt-tmp-") || name.ends_with(".replaced") {
                return Err(format!("`{name}` is left over"));
            }
        }
        Ok(())
    }

    /// Deletes old checkpoints, so that a long test does not fill the disk; durably, as the ledger forgets them.
    pub(crate) fn prune(&mut self, root: &Path) {
        let best = self.steps.values().copied().max_by(|one, other| accuracy(*one).total_cmp(&accuracy(*other)));
        let old = self.steps.len().saturating_sub(3);
        let old: Vec<u64> = self.steps.keys().copied().take(old).collect();
        for step in old {
            if self.steps.get(&step).copied() != best {
                fs::remove_dir_all(root.join(manifest::directory_name(ckpt_core::ids::Step(step)))).unwrap();
                self.steps.remove(&step);
            }
        }
        fs::File::open(root).unwrap().sync_all().unwrap();
    }
}

/// What a root holds: the number behind each step and behind the single file.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Seen {
    steps: BTreeMap<u64, u64>,
    single: u64,
}

fn steps(root: &Path) -> Judgement<Vec<(u64, String)>> {
    let entries = match fs::read_dir(root) {
        Ok(entries) => entries,
        // Killed before it made its root.
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error.to_string()),
    };
    let names =
        entries.map(|entry| Ok(entry.map_err(|error| error.to_string())?.file_name().to_string_lossy().into_owned()));
    let names: Vec<String> = names.collect::<Judgement<_>>()?;
    Ok(names.into_iter().filter_map(|name| Some((manifest::step_of(&name)?.0, name))).collect())
}

/// The number of a checkpoint, whose every byte must be what was saved under that number.
fn number_of(at: &Path, way: Way) -> Judgement<u64> {
    let told = |error: ckpt_store::Error| error.to_string();
    let found = Checkpoint::open(at).map_err(told)?;
    found.verify().map_err(told)?;
    let state: serde_json::Value = found.json("trainer_state").map_err(told)?;
    let number = state["number"].as_u64().ok_or("its state has no number")?;
    let expected = State::of(number);
    for (stem, tensors) in expected.tensors() {
        let there = found.tensors(stem).map_err(told)?;
        for (name, bytes) in tensors {
            if there.get(name).is_none_or(|tensor| *tensor.bytes != *bytes) {
                return Err(format!("`{name}` of save {number} has other bytes"));
            }
        }
    }
    let manifest = found.manifest();
    let is_metric = manifest.metrics.get(METRIC).is_some_and(|metric| metric.value == accuracy(number));
    if manifest.step.0 != way.step(number) || !is_metric || manifest.files.len() != 4 {
        return Err(format!("the manifest of save {number} tells something else"));
    }
    Ok(number)
}

fn single_number(at: &Path) -> Judgement<u64> {
    let bytes = fs::read(at).map_err(|error| format!("`{SINGLE}`: {error}"))?;
    let wrong = |error: safetensors::SafeTensorError| format!("`{SINGLE}`, {} bytes: {error}", bytes.len());
    let (_, header) = safetensors::SafeTensors::read_metadata(&bytes).map_err(wrong)?;
    let state = header.metadata().as_ref().and_then(|texts| texts.get("trainer_state")).ok_or("it has no state")?;
    let state: serde_json::Value = serde_json::from_str(state).map_err(|error| error.to_string())?;
    let number = state["number"].as_u64().ok_or("its state has no number")?;
    let there = safetensors::SafeTensors::deserialize(&bytes).map_err(wrong)?;
    let expected = State::of(number);
    let [(_, model), _] = expected.tensors();
    for (name, bytes) in model {
        if there.tensor(name).map_err(wrong)?.data() != bytes {
            return Err(format!("`{name}` in `{SINGLE}` has other bytes than save {number}"));
        }
    }
    Ok(number)
}

/// A root in a directory, with what a trainer needs beside it.
pub(crate) fn root_in(directory: &Path) -> PathBuf {
    let root = directory.join("root");
    fs::write(copied(&root), vec![b'#'; 100 << 10]).unwrap();
    root
}
