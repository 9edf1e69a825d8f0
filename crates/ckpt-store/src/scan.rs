//! scan: what is there? Walks the locations and names candidates; nothing of them is read.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

use ckpt_core::candidate::{Candidate, Shape, Source, SourceKind, file_name};
use ckpt_core::inspect::{DirectoryKind, recognise};
use ckpt_core::location::Location;
use ckpt_core::manifest::{self, LATEST, REPLACED};
use ckpt_core::name::{self, Claim};

use crate::fs::{self, Status};
use crate::inspect::parent;

/// How deep directories are walked when nothing else is said. Kaggle's models lie seven levels down, and archives
/// unpack into folders of their own name.
pub const DEFAULT_DEPTH: usize = 12;
/// Most directories walked below one location.
const DIRECTORIES: usize = 200_000;
/// Most candidates of one scan.
const CANDIDATES: usize = 100_000;

/// Longest text that a link becomes.
const POINTER_BYTES: u64 = 1024;

/// Directories that hold programs and never a run's checkpoints.
const SKIPPED: &[&str] = &["node_modules", "site-packages", "dist-packages", "__pycache__", "wandb", "proc", "sys"];

/// A place that was looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The directory or file.
    pub path: PathBuf,
    /// Its kind.
    pub kind: SourceKind,
    /// Whether it could be looked at.
    pub is_readable: bool,
    /// Whether something below it was left out although it could be looked at: what lies deeper than the limit or behind
    /// a link that is not followed, or more than one scan looks at. `problem` says what. A choice among the candidates
    /// may miss one there.
    pub is_partial: bool,
    /// Why not, or what was wrong there.
    pub problem: Option<String>,
}

/// What a scan found.
#[derive(Clone, Debug, Default)]
pub struct Scan {
    /// The roots, every directory with a candidate in it, and every place with a problem.
    pub places: Vec<Place>,
    /// The candidates, each file once, in the order of the locations and of their names.
    pub candidates: Vec<Candidate>,
}

/// Walks the locations. What cannot be looked at becomes a [`Place`] with a problem, and the scan goes on.
#[must_use]
pub fn scan(locations: &[Location], depth: usize) -> Scan {
    let mut walk = Walk { depth, ..Walk::default() };
    for location in locations {
        for root in location.roots() {
            walk.root(location, &root);
        }
    }
    walk.links();
    walk.found
}

/// The candidates in a directory that was one itself until it was looked into.
pub(crate) fn inside(candidate: &Candidate, depth: usize) -> Vec<Candidate> {
    // Whoever finds nothing there has the directory itself to show.
    let Ok(status) = fs::status(&candidate.path) else { return Vec::new() };
    let location = Location::Path(candidate.path.clone());
    let mut walk = Walk { depth, opened: Some(status.identity), ..Walk::default() };
    walk.tree(Pending { location: &location, path: candidate.path.clone(), status, depth: 0 });
    walk.links();
    let mut found = walk.found.candidates;
    for inner in &mut found {
        inner.source = Source {
            location: format!("{}/{}", candidate.source.location, candidate.name()),
            ..candidate.source.clone()
        };
    }
    found
}

/// A directory to walk.
struct Pending<'a> {
    location: &'a Location,
    path: PathBuf,
    status: Status,
    depth: usize,
}

/// A file that may be a checkpoint.
struct Named {
    path: PathBuf,
    status: Status,
    claim: Claim,
    source: Source,
}

#[derive(Default)]
struct Walk<'a> {
    depth: usize,
    found: Scan,
    /// Where each place is among the found ones.
    places: HashMap<PathBuf, usize>,
    directories: HashSet<(u64, u64)>,
    /// The directories that are candidates, and the files, by where they are among them.
    units: HashMap<(u64, u64), usize>,
    files: HashMap<(u64, u64), usize>,
    /// A directory that is known to be no candidate itself, whatever the names in it say.
    opened: Option<(u64, u64)>,
    /// What is reached through links: looked at last, so that everything has the name and the source of where it lies.
    linked_directories: Vec<Pending<'a>>,
    linked_files: Vec<Named>,
}

/// The entries of one directory, by what they are.
#[derive(Default)]
struct Listing {
    files: Vec<(OsString, Status, bool)>,
    directories: Vec<(OsString, Status, bool)>,
}

impl Listing {
    fn names(entries: &[(OsString, Status, bool)]) -> BTreeSet<String> {
        entries.iter().map(|(name, ..)| name.to_string_lossy().into_owned()).collect()
    }
}

impl<'a> Walk<'a> {
    fn root(&mut self, location: &'a Location, root: &Path) {
        let source = location.source(root);
        match fs::status(root) {
            Err(error) => {
                let problem = match error.kind() {
                    ckpt_core::ErrorKind::NotFound => "does not exist".to_owned(),
                    _ => describe(&error),
                };
                self.unreadable(root, source.kind, problem);
            }
            Ok(status) if status.is_file => {
                let source = location.source(parent(root));
                self.file(Named { path: root.to_owned(), status, claim: Claim::Strong, source });
            }
            Ok(status) => {
                self.place(root, source.kind);
                self.tree(Pending { location, path: root.to_owned(), status, depth: 0 });
            }
        }
    }

    /// Looks at what links lead to and nothing else did.
    fn links(&mut self) {
        while let Some(directory) = self.linked_directories.pop() {
            self.tree(directory);
        }
        for file in std::mem::take(&mut self.linked_files) {
            self.file(file);
        }
    }

    fn place(&mut self, path: &Path, kind: SourceKind) -> &mut Place {
        let index = *self.places.entry(path.to_owned()).or_insert_with(|| {
            self.found.places.push(Place {
                path: path.to_owned(),
                kind,
                is_readable: true,
                is_partial: false,
                problem: None,
            });
            self.found.places.len() - 1
        });
        &mut self.found.places[index]
    }

    fn partial(&mut self, path: &Path, kind: SourceKind, problem: String) {
        let place = self.place(path, kind);
        place.is_partial = true;
        place.problem = Some(problem);
    }

    fn unreadable(&mut self, path: &Path, kind: SourceKind, problem: String) {
        let place = self.place(path, kind);
        place.is_readable = false;
        place.problem = Some(problem);
    }

    fn tree(&mut self, root: Pending<'a>) {
        let (location, top) = (root.location, root.path.clone());
        let mut pending = vec![root];
        let mut walked = 0;
        while let Some(directory) = pending.pop() {
            if !self.directories.insert(directory.status.identity) {
                self.alias(directory);
                continue;
            }
            walked += 1;
            if walked > DIRECTORIES || self.found.candidates.len() > CANDIDATES {
                let problem = format!(
                    "too large: {DIRECTORIES} directories or {CANDIDATES} candidates were passed; not all was looked at"
                );
                return self.partial(&top, location.source(&top).kind, problem);
            }
            self.directory(&directory, &mut pending);
        }
    }

    /// A directory that was walked before: another name of it, when it is a candidate.
    fn alias(&mut self, directory: Pending<'a>) {
        let known = self.units.get(&directory.status.identity);
        if let Some(known) = known.and_then(|index| self.found.candidates.get_mut(*index))
            && known.path != directory.path
            && !known.aliases.contains(&directory.path)
        {
            known.aliases.push(directory.path);
        }
    }

    fn directory(&mut self, directory: &Pending<'a>, pending: &mut Vec<Pending<'a>>) {
        let Pending { location, path, depth, .. } = directory;
        let source = location.source(path);
        let listing = match self.listing(path, source.kind) {
            Ok(listing) => listing,
            Err(error) => return self.unreadable(path, source.kind, describe(&error)),
        };
        if self.unit(directory, &listing) {
            return;
        }
        self.files(path, &source, &listing);
        if *depth >= self.depth {
            if !listing.directories.is_empty() {
                let problem = format!("deeper than {} levels: what is below was not looked at", self.depth);
                self.partial(path, source.kind, problem);
            }
            return;
        }
        let names = Listing::names(&listing.directories);
        let is_replaced = |name: &OsStr| {
            let name = name.to_string_lossy();
            name.strip_suffix(REPLACED).is_some_and(|of| manifest::step_of(of).is_some() && names.contains(of))
        };
        // Reversed, because the last one pushed is walked first.
        for (name, status, is_link) in listing.directories.into_iter().rev() {
            let is_skipped = SKIPPED.iter().any(|skipped| name == *skipped) || is_replaced(&name);
            if !name.as_encoded_bytes().starts_with(b".") && !is_skipped {
                let path = path.join(name);
                if is_link && leads_astray(location, &path) {
                    let problem = "a link to above the place that is scanned, or into `/proc` or `/sys`: not followed";
                    self.partial(&path, source.kind, problem.to_owned());
                    continue;
                }
                let below = Pending { location, path, status, depth: depth + 1 };
                if is_link { &mut self.linked_directories } else { &mut *pending }.push(below);
            }
        }
    }

    fn listing(&mut self, directory: &Path, kind: SourceKind) -> crate::Result<Listing> {
        let mut listing = Listing::default();
        for (name, is_link) in fs::list(directory)? {
            let path = directory.join(&name);
            match fs::status(&path) {
                Ok(status) if status.is_directory => listing.directories.push((name, status, is_link)),
                Ok(status) if status.is_file => listing.files.push((name, status, is_link)),
                Ok(_) => {}
                Err(error) if claim(&name).is_some() => {
                    let problem = if is_link { "a link to nowhere".to_owned() } else { describe(&error) };
                    self.unreadable(&path, kind, problem);
                }
                Err(_) => {}
            }
        }
        Ok(listing)
    }

    /// Takes the directory as one checkpoint, when it is one.
    fn unit(&mut self, directory: &Pending<'_>, listing: &Listing) -> bool {
        let Pending { location, path, status, .. } = directory;
        if self.opened == Some(status.identity) {
            return false;
        }
        let name = file_name(path);
        let directories = Listing::names(&listing.directories);
        let kind = recognise(&name, &Listing::names(&listing.files), &directories).or_else(|| {
            let is_named = name::claim(&name) == Some(Claim::Strong);
            (is_named && holds_archive(path, 3)).then_some(DirectoryKind::Unpacked)
        });
        let Some(kind) = kind else { return false };
        // A trainer that saves its state at the end leaves it beside the checkpoints: that is a run, not a checkpoint.
        let is_run = match kind {
            DirectoryKind::HfTrainer | DirectoryKind::Accelerate => true,
            DirectoryKind::Ckpt => manifest::step_of(&name).is_none(),
            _ => false,
        };
        if is_run && directories.iter().any(|name| is_numbered(name)) {
            return false;
        }
        let source = location.source(parent(path));
        self.place(parent(path), source.kind);
        let files = || listing.files.iter().map(|(_, status, _)| status);
        self.units.insert(status.identity, self.found.candidates.len());
        self.found.candidates.push(Candidate {
            path: path.clone(),
            aliases: Vec::new(),
            shape: Shape::Directory(kind),
            claim: Claim::Strong,
            source,
            bytes: files().map(|file| file.size).sum(),
            modified_ns: files().map(|file| file.modified_ns).max().unwrap_or(status.modified_ns),
        });
        true
    }

    fn files(&mut self, directory: &Path, source: &Source, listing: &Listing) {
        let names = Listing::names(&listing.files);
        let indices: Vec<&String> = names.iter().filter(|name| name::is_index(name)).collect();
        let is_claimed = |name: &str| {
            name::is_shard(name)
                && indices.iter().any(|index| index.contains(".safetensors.") == name.ends_with(".safetensors"))
        };
        for (name, status, is_link) in &listing.files {
            let text = name.to_string_lossy();
            let is_none = is_claimed(&text) || (status.size <= POINTER_BYTES && is_pointer(&text, &names));
            let Some(claim) = claim(name).filter(|_| !is_none) else { continue };
            let file = Named { path: directory.join(name), status: *status, claim, source: source.clone() };
            if *is_link {
                self.linked_files.push(file);
            } else {
                self.file(file);
            }
        }
    }

    fn file(&mut self, file: Named) {
        let Named { path, status, claim, source } = file;
        if let Some(known) = self.files.get(&status.identity).and_then(|index| self.found.candidates.get_mut(*index)) {
            known.claim = known.claim.min(claim);
            if known.path != path && !known.aliases.contains(&path) {
                known.aliases.push(path);
            }
            return;
        }
        self.place(parent(&path), source.kind);
        self.files.insert(status.identity, self.found.candidates.len());
        let shape = if name::is_index(&file_name(&path)) { Shape::Index } else { Shape::File };
        self.found.candidates.push(Candidate {
            path,
            aliases: Vec::new(),
            shape,
            claim,
            source,
            bytes: status.size,
            modified_ns: status.modified_ns,
        });
    }
}

/// Whether a link leads to a directory that holds a root of its location, or to `/`, or to where the kernel shows itself.
///
/// Whoever points at one run would have the whole machine walked. Links to elsewhere are followed: datasets and the
/// directories of runs are put together from them.
pub(crate) fn leads_astray(location: &Location, link: &Path) -> bool {
    let Ok(target) = fs::canonical(link) else { return true };
    let holds = |root: PathBuf| fs::canonical(&root).is_ok_and(|root| root != target && root.starts_with(&target));
    target == Path::new("/")
        || ["/proc", "/sys"].iter().any(|own| target.starts_with(own))
        || location.roots().into_iter().any(holds)
}

fn claim(name: &OsStr) -> Option<Claim> {
    name::claim(&name.to_string_lossy())
}

/// Whether a file is what became of one of our pointers where links are not kept: a text with the name it points to.
fn is_pointer(name: &str, beside: &BTreeSet<String>) -> bool {
    (name == LATEST || manifest::metric_of(name).is_some()) && beside.contains(&format!("{name}.json"))
}

/// Whether a directory's name is one that trainers give to the checkpoints of a run: `checkpoint-500`, `step-00000500`.
fn is_numbered(name: &str) -> bool {
    if manifest::step_of(name).is_some() {
        return true;
    }
    let number = name.strip_prefix("checkpoint-").or_else(|| name.strip_prefix("checkpoint_"));
    number.is_some_and(|number| !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit()))
}

/// Whether a `data.pkl` lies at most `depth` levels below.
fn holds_archive(directory: &Path, depth: usize) -> bool {
    let Ok(entries) = fs::list(directory) else { return false };
    entries.iter().any(|(name, _)| name == "data.pkl")
        || (depth > 0
            && entries.len() <= 16
            && entries.iter().any(|(name, _)| {
                let path = directory.join(name);
                fs::status(&path).is_ok_and(|status| status.is_directory) && holds_archive(&path, depth - 1)
            }))
}

/// An error and its cause on one line.
fn describe(error: &crate::Error) -> String {
    match std::error::Error::source(error) {
        Some(cause) => cause.to_string(),
        None => error.to_string(),
    }
}
