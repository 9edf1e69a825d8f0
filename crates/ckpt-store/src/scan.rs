//! scan: what is there? Walks the locations and names candidates; nothing of them is read.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::path::{Path, PathBuf};

use ckpt_core::candidate::{Candidate, Shape, Source, SourceKind, file_name};
use ckpt_core::inspect::{DirectoryKind, recognise};
use ckpt_core::location::Location;
use ckpt_core::name::{self, Claim};

use crate::fs::{self, Status};

/// How deep directories are walked when nothing else is said. Kaggle's models lie seven levels down, and archives
/// unpack into folders of their own name.
pub const DEFAULT_DEPTH: usize = 12;
/// Most directories walked below one location.
const DIRECTORIES: usize = 200_000;
/// Most candidates of one scan.
const CANDIDATES: usize = 100_000;

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
    walk.found
}

#[derive(Default)]
struct Walk {
    depth: usize,
    found: Scan,
    directories: HashSet<(u64, u64)>,
    files: HashMap<(u64, u64), usize>,
}

/// The entries of one directory, by what they are.
#[derive(Default)]
struct Listing {
    files: Vec<(String, Status, bool)>,
    directories: Vec<(String, Status)>,
}

impl Walk {
    fn root(&mut self, location: &Location, root: &Path) {
        let source = location.source(root);
        match fs::status(root) {
            Err(error) => {
                let problem = match error.kind() {
                    ckpt_core::ErrorKind::NotFound => "does not exist".to_owned(),
                    _ => describe(&error),
                };
                self.place(root, source.kind, Some(problem));
            }
            Ok(status) if status.is_file => {
                let parent = root.parent().unwrap_or(root);
                let source = location.source(parent);
                self.file(root, status, &source, Claim::Strong, false);
            }
            Ok(status) => self.tree(location, root, status),
        }
    }

    fn place(&mut self, path: &Path, kind: SourceKind, problem: Option<String>) {
        if let Some(known) = self.found.places.iter_mut().find(|place| place.path == path) {
            known.problem = known.problem.take().or(problem);
            return;
        }
        self.found.places.push(Place { path: path.to_owned(), kind, is_readable: problem.is_none(), problem });
    }

    fn tree(&mut self, location: &Location, root: &Path, status: Status) {
        self.place(root, location.source(root).kind, None);
        let mut pending = vec![(root.to_owned(), status, 0)];
        let mut walked = 0;
        while let Some((directory, status, depth)) = pending.pop() {
            if !self.directories.insert(status.identity) {
                continue;
            }
            walked += 1;
            let source = location.source(&directory);
            if walked > DIRECTORIES || self.found.candidates.len() > CANDIDATES {
                let problem = format!(
                    "too large: {DIRECTORIES} directories or {CANDIDATES} candidates were passed; not all was looked at"
                );
                self.place(root, source.kind, Some(problem));
                return;
            }
            let listing = match self.listing(&directory, source.kind) {
                Ok(listing) => listing,
                Err(error) => {
                    self.place(&directory, source.kind, Some(describe(&error)));
                    continue;
                }
            };
            if self.unit(location, &directory, &listing, status) {
                continue;
            }
            self.files(&directory, &source, &listing);
            if depth < self.depth {
                // Reversed, because the last one pushed is walked first.
                for (name, status) in listing.directories.into_iter().rev() {
                    if !name.starts_with('.') && !SKIPPED.contains(&name.as_str()) {
                        pending.push((directory.join(name), status, depth + 1));
                    }
                }
            } else if !listing.directories.is_empty() {
                let problem = format!("deeper than {} levels: what is below was not looked at", self.depth);
                self.place(&directory, source.kind, Some(problem));
            }
        }
    }

    fn listing(&mut self, directory: &Path, kind: SourceKind) -> crate::Result<Listing> {
        let mut listing = Listing::default();
        for (name, is_link) in fs::list(directory)? {
            let path = directory.join(&name);
            let name = name.to_string_lossy().into_owned();
            match fs::status(&path) {
                Ok(status) if status.is_directory => listing.directories.push((name, status)),
                Ok(status) if status.is_file => listing.files.push((name, status, is_link)),
                Ok(_) => {}
                Err(error) if name::claim(&name).is_some() => {
                    let problem = if is_link { "a link to nowhere".to_owned() } else { describe(&error) };
                    self.place(&path, kind, Some(problem));
                }
                Err(_) => {}
            }
        }
        Ok(listing)
    }

    /// Takes the directory as one checkpoint, when it is one.
    fn unit(&mut self, location: &Location, directory: &Path, listing: &Listing, status: Status) -> bool {
        let name = file_name(directory);
        let files: BTreeSet<String> = listing.files.iter().map(|(name, ..)| name.clone()).collect();
        let directories: BTreeSet<String> = listing.directories.iter().map(|(name, _)| name.clone()).collect();
        let kind = recognise(&name, &files, &directories).or_else(|| {
            let is_named = name::claim(&name) == Some(Claim::Strong);
            (is_named && holds_archive(directory, 3)).then_some(DirectoryKind::Unpacked)
        });
        let Some(kind) = kind else { return false };
        let source = location.source(directory.parent().unwrap_or(directory));
        self.place(directory.parent().unwrap_or(directory), source.kind, None);
        self.found.candidates.push(Candidate {
            path: directory.to_owned(),
            aliases: Vec::new(),
            shape: Shape::Directory(kind),
            claim: Claim::Strong,
            source,
            bytes: listing.files.iter().map(|(_, status, _)| status.size).sum(),
            modified_ns: listing.files.iter().map(|(_, file, _)| file.modified_ns).max().unwrap_or(status.modified_ns),
        });
        true
    }

    fn files(&mut self, directory: &Path, source: &Source, listing: &Listing) {
        let indices: Vec<&str> =
            listing.files.iter().map(|(name, ..)| name.as_str()).filter(|name| name::is_index(name)).collect();
        let is_claimed = |name: &str| {
            name::is_shard(name)
                && indices.iter().any(|index| index.contains(".safetensors.") == name.ends_with(".safetensors"))
        };
        // Real files before links, so that a link becomes another name of its target.
        for pass in [false, true] {
            for (name, status, is_link) in &listing.files {
                let Some(claim) = name::claim(name).filter(|_| *is_link == pass && !is_claimed(name)) else { continue };
                self.file(&directory.join(name), *status, source, claim, *is_link);
            }
        }
    }

    fn file(&mut self, path: &Path, status: Status, source: &Source, claim: Claim, is_link: bool) {
        if let Some(index) = self.files.get(&status.identity) {
            if let Some(known) = self.found.candidates.get_mut(*index)
                && known.path != path
            {
                known.aliases.push(path.to_owned());
            }
            return;
        }
        tracing::trace!(path = %path.display(), is_link, "candidate");
        self.place(path.parent().unwrap_or(path), source.kind, None);
        self.files.insert(status.identity, self.found.candidates.len());
        let shape = if name::is_index(&file_name(path)) { Shape::Index } else { Shape::File };
        self.found.candidates.push(Candidate {
            path: path.to_owned(),
            aliases: Vec::new(),
            shape,
            claim,
            source: source.clone(),
            bytes: status.size,
            modified_ns: status.modified_ns,
        });
    }
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
