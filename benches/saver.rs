//! Saves a state of random bytes and prints what it cost, one JSON object a line. `benches/save.py` runs it.
//!
//! `saver sync|async|single ROOT BYTES ROUNDS`: whole saves. `saver empty ROOT 0 ROUNDS`: saves without tensors, beside the
//! same number of `fsync`s. `saver open ROOT COUNT ROUNDS`: opens a root with COUNT checkpoints.

use std::error::Error;
use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::time::Instant;

use ckpt_core::format::dtype::Dtype;
use ckpt_core::ids::Step;
use ckpt_core::prune::Retention;
use ckpt_store::save::{PendingSave, Policy, Saver, Tensor, Tracked};
use serde_json::json;

type Result<T> = std::result::Result<T, Box<dyn Error>>;

const TENSORS: usize = 25;

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [mode, root, size, rounds] = arguments.as_slice() else { return Err("saver MODE ROOT SIZE ROUNDS".into()) };
    let (root, size, rounds) = (Path::new(root), size.parse::<usize>()?, rounds.parse::<u64>()?);
    match mode.as_str() {
        "empty" => empty(root, rounds),
        "open" => open(root, size as u64, rounds),
        mode => save(mode, root, &state(size), rounds),
    }
}

/// Bytes that no file system can compress or leave out.
fn state(size: usize) -> Vec<Vec<u8>> {
    let mut word = 0x9e37_79b9_7f4a_7c15_u64;
    let mut next = || {
        word ^= word << 13;
        word ^= word >> 7;
        word ^= word << 17;
        word
    };
    let words = size / TENSORS / 8;
    (0..TENSORS).map(|_| (0..words).flat_map(|_| next().to_le_bytes()).collect()).collect()
}

fn pending<'s, 'a>(saver: &'s Saver, step: u64, state: &'a [Vec<u8>]) -> Result<PendingSave<'s, 'a>> {
    let mut pending = saver.begin(Step(step))?;
    pending.metric("loss", 1.0 / (step + 1) as f64, None)?;
    let float = Dtype::of_torch("float32");
    let tensor = |(index, bytes): (usize, &'a Vec<u8>)| {
        Tensor::new(format!("layer.{index}.weight"), float.clone(), [bytes.len() as u64 / 4], bytes.as_slice())
    };
    pending.tensors("model", state.iter().enumerate().map(tensor))?;
    Ok(pending)
}

/// Peak resident memory, in bytes.
fn peak() -> Result<u64> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).ok_or("no VmHWM")?;
    Ok(line.trim().trim_end_matches(" kB").parse::<u64>()? * 1024)
}

fn cpu_ms() -> f64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    time.tv_sec as f64 * 1e3 + time.tv_nsec as f64 / 1e6
}

fn ms(since: Instant) -> f64 {
    since.elapsed().as_secs_f64() * 1e3
}

fn save(mode: &str, root: &Path, state: &[Vec<u8>], rounds: u64) -> Result<()> {
    let retention = Retention { keep_last: Some(1), ..Retention::default() };
    let saver = Saver::open(root, Policy { retention, best: Tracked::Only(Vec::new()), ..Policy::default() })?;
    let first = saver.latest()?.map_or(0, |latest| latest.manifest().step.0 + 1);
    if mode == "async" {
        saver.reserve(state.iter().map(Vec::len).sum());
    }
    let mut copy = Vec::with_capacity(state.iter().map(Vec::len).sum());
    for step in first..first + rounds {
        // Beside it, what a single copy of the state takes into memory that is there already.
        let mut memcpy = 0.0;
        for _ in 0..if mode == "async" { 2 } else { 0 } {
            let started = Instant::now();
            copy.clear();
            state.iter().for_each(|tensor| copy.extend_from_slice(tensor));
            memcpy = ms(started);
        }
        let (before, cpu) = (peak()?, cpu_ms());
        let started = Instant::now();
        let save = pending(&saver, step, state)?;
        let mut held = 0.0;
        match mode {
            "async" => {
                let ticket = save.commit_async()?;
                held = ms(started);
                ticket.wait()?;
            }
            "single" => drop(save.commit_file("best.safetensors")?),
            _ => drop(save.commit()?),
        }
        let wall = ms(started);
        println!(
            "{}",
            json!({"wall_ms": wall, "held_ms": held, "memcpy_ms": memcpy, "cpu_ms": cpu_ms() - cpu, "extra_bytes": peak()? - before})
        );
    }
    saver.finish()?;
    Ok(())
}

/// The `fsync`s of one commit without tensors, between the changes that they make durable: the manifest, its directory, two
/// pointer files, the root after one rename, the root after four.
fn syncs(root: &Path, round: u64) -> Result<f64> {
    let (temporary, named) = (root.join(format!(".syncs-{round}")), root.join(format!("syncs-{round}")));
    std::fs::create_dir(&temporary)?;
    let mut took = 0.0;
    let mut sync = |file: &File| {
        let started = Instant::now();
        let result = file.sync_all();
        took += ms(started);
        result
    };
    let write = |path: &Path| -> Result<File> {
        let mut file = File::create(path)?;
        file.write_all(&[7; 600])?;
        Ok(file)
    };
    let pointer = |name: &str| root.join(format!("{name}-{round}"));
    sync(&write(&temporary.join("manifest"))?)?;
    sync(&File::open(&temporary)?)?;
    for name in [".latest", ".best"] {
        sync(&write(&pointer(name))?)?;
    }
    std::fs::rename(&temporary, &named)?;
    let outer = File::open(root)?;
    sync(&outer)?;
    for name in ["latest", "best"] {
        std::fs::rename(pointer(&format!(".{name}")), pointer(name))?;
        std::os::unix::fs::symlink(&named, pointer(&format!(".link-{name}")))?;
        std::fs::rename(pointer(&format!(".link-{name}")), pointer(&format!("link-{name}")))?;
    }
    sync(&outer)?;
    for name in ["latest", "best", "link-latest", "link-best"] {
        std::fs::remove_file(pointer(name))?;
    }
    std::fs::remove_dir_all(named)?;
    Ok(took)
}

fn empty(root: &Path, rounds: u64) -> Result<()> {
    let saver = Saver::open(root, Policy::default())?;
    for step in 0..rounds {
        let syncs = syncs(root, step)?;
        let started = Instant::now();
        let mut pending = saver.begin(Step(step))?;
        pending.metric("loss", 1.0 / (step + 1) as f64, None)?;
        pending.commit()?;
        println!("{}", json!({"wall_ms": ms(started), "syncs_ms": syncs}));
    }
    Ok(())
}

fn open(root: &Path, count: u64, rounds: u64) -> Result<()> {
    let saver = Saver::open(root, Policy::default())?;
    for step in saver.latest()?.map_or(0, |latest| latest.manifest().step.0 + 1)..count {
        let mut pending = saver.begin(Step(step))?;
        pending.metric("loss", 1.0 / (step + 1) as f64, None)?;
        pending.commit()?;
    }
    for _ in 0..rounds {
        let started = Instant::now();
        let saver = Saver::open(root, Policy::default())?;
        println!("{}", json!({"wall_ms": ms(started)}));
        drop(saver);
    }
    Ok(())
}
