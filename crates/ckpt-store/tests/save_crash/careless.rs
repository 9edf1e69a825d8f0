//! A saver of the same layout, in as few lines as it takes. Without a flaw it is right for this layout; with one, the
//! harness must notice.

use std::collections::{BTreeMap, HashMap};
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use ckpt_core::digest::Digest;
use ckpt_core::ids::Step;
use ckpt_core::layout::Class;
use ckpt_core::manifest::{self, Manifest, Pointer, Recorded, directory_name};
use ckpt_core::metric::Direction;
use safetensors::tensor::{Dtype, TensorView};
use serde::{Deserialize, Serialize};

use crate::trainer::{Kind, METRIC, SINGLE, State, Way, accuracy, copied};

/// What is wrong with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Flaw {
    /// Nothing.
    Nothing,
    /// Temporaries and renames, and nothing is made durable.
    NoSync,
    /// What is replaced is deleted first.
    UnlinkFirst,
    /// The pointers move, durably, before the files are durable.
    PointerFirst,
}

#[derive(Debug)]
pub(crate) struct Careless {
    root: PathBuf,
    flaw: Flaw,
}

fn safetensors(tensors: &[(&str, &[u8])], number: u64) -> Vec<u8> {
    let views =
        tensors.iter().map(|(name, bytes)| (*name, TensorView::new(Dtype::U8, vec![bytes.len()], bytes).unwrap()));
    let state = serde_json::json!({ "number": number }).to_string();
    safetensors::serialize(views, Some(HashMap::from([("trainer_state".to_owned(), state)]))).unwrap()
}

impl Careless {
    pub(crate) fn open(root: &Path, flaw: Flaw) -> io::Result<Self> {
        fs::create_dir_all(root)?;
        Ok(Self { root: root.to_owned(), flaw })
    }

    fn sync(&self, path: &Path) -> io::Result<()> {
        if self.flaw == Flaw::NoSync {
            return Ok(());
        }
        let file = File::open(path)?;
        file.sync_all()?;
        // An XFS that is gone lets the `fsync` of a directory succeed; looking at it fails.
        file.metadata().map(drop)
    }

    fn write(&self, path: &Path, bytes: &[u8], is_synced: bool) -> io::Result<()> {
        File::create(path)?.write_all(bytes)?;
        if is_synced { self.sync(path) } else { Ok(()) }
    }

    fn swap(&self, from: &Path, to: &Path) -> io::Result<()> {
        if self.flaw == Flaw::UnlinkFirst && fs::symlink_metadata(to).is_ok() {
            fs::remove_file(to)?;
        }
        fs::rename(from, to)
    }

    fn temporary(&self, name: &str) -> io::Result<PathBuf> {
        let path = self.root.join(format!(".{name}.ckpt-tmp-careless"));
        if fs::symlink_metadata(&path).is_ok_and(|metadata| metadata.is_dir()) {
            fs::remove_dir_all(&path)?;
        } else if fs::symlink_metadata(&path).is_ok() {
            fs::remove_file(&path)?;
        }
        Ok(path)
    }

    pub(crate) fn save(&self, number: u64) -> io::Result<()> {
        let way = Way::Careless(self.flaw);
        let state = State::of(number);
        if way.kind(number) != Kind::Single {
            return self.directory(number, &state);
        }
        let [(_, model), _] = state.tensors();
        let temporary = self.temporary(SINGLE)?;
        self.write(&temporary, &safetensors(&model, number), true)?;
        self.swap(&temporary, &self.root.join(SINGLE))?;
        self.sync(&self.root)
    }

    fn directory(&self, number: u64, state: &State) -> io::Result<()> {
        let step = Step(Way::Careless(self.flaw).step(number));
        let name = directory_name(step);
        let is_synced = self.flaw != Flaw::PointerFirst;
        let temporary = self.temporary(&name)?;
        fs::create_dir(&temporary)?;
        fs::create_dir(temporary.join("code"))?;
        let mut contents: Vec<(String, Vec<u8>)> = state
            .tensors()
            .into_iter()
            .map(|(stem, tensors)| (format!("{stem}.safetensors"), safetensors(&tensors, number)))
            .collect();
        let text = serde_json::json!({ "number": number }).to_string();
        contents.push(("trainer_state.json".to_owned(), text.into_bytes()));
        contents.push(("code/config.yaml".to_owned(), fs::read(copied(&self.root))?));
        let mut files = BTreeMap::new();
        for (name, bytes) in &contents {
            self.write(&temporary.join(name), bytes, is_synced)?;
            files.insert(name.clone(), manifest::File { bytes: bytes.len() as u64, blake3: Digest::of(bytes) });
        }
        let recorded = Recorded { value: accuracy(number), direction: Some(Direction::Max) };
        let manifest = Manifest {
            run_id: "careless".to_owned(),
            session_id: "careless".to_owned(),
            sequence: number,
            step,
            epoch: None,
            class: Class::Resumable,
            world_size: 1,
            metrics: BTreeMap::from([(METRIC.to_owned(), recorded)]),
            parent: None,
            created_ns: 0,
            files,
        };
        let bytes = manifest.to_bytes();
        self.write(&temporary.join(manifest::FILE_NAME), &bytes, is_synced)?;
        if is_synced {
            self.sync(&temporary.join("code"))?;
            self.sync(&temporary)?;
        }
        let target = self.root.join(&name);
        if target.exists() {
            fs::remove_dir_all(&target)?;
        }
        fs::rename(&temporary, &target)?;
        self.sync(&self.root)?;
        let pointer =
            |metric| Pointer { checkpoint: name.clone(), step, sequence: number, manifest: Digest::of(&bytes), metric };
        self.point(manifest::LATEST, &pointer(None))?;
        let best = format!("best-{METRIC}");
        if self.is_best(&best, recorded.value) {
            self.point(&best, &pointer(Some((METRIC.to_owned(), recorded))))?;
        }
        self.sync(&self.root)?;
        if !is_synced {
            for (name, _) in &contents {
                self.sync(&target.join(name))?;
            }
            self.sync(&target.join(manifest::FILE_NAME))?;
        }
        Ok(())
    }

    fn is_best(&self, pointer: &str, value: f64) -> bool {
        let known = fs::read(self.root.join(format!("{pointer}.json"))).ok();
        let known = known.and_then(|bytes| Pointer::parse(&bytes).ok()).and_then(|pointer| pointer.metric);
        known.is_none_or(|(_, recorded)| value > recorded.value)
    }

    fn point(&self, name: &str, pointer: &Pointer) -> io::Result<()> {
        let file = format!("{name}.json");
        let temporary = self.temporary(&file)?;
        self.write(&temporary, &pointer.to_bytes(), true)?;
        self.swap(&temporary, &self.root.join(file))?;
        let link = self.temporary(name)?;
        std::os::unix::fs::symlink(&pointer.checkpoint, &link)?;
        self.swap(&link, &self.root.join(name))
    }
}
