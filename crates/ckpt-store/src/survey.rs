use std::path::PathBuf;
use std::time::{SystemTime, UNIX_EPOCH};

use ckpt_core::candidate::Candidate;
use ckpt_core::finding::{Code, Finding};
use ckpt_core::format::Format;
use ckpt_core::inspect::Inspection;
use ckpt_core::location::Location;
use ckpt_core::name::Claim;
use ckpt_core::progress::{Progress, Unit};
use ckpt_core::select::{Criteria, Selection, select};
use ckpt_core::verify::{Expectations, Verified};
use rayon::prelude::*;

use crate::error::Result;
use crate::index::Index;
use crate::scan::{self, Place};
use crate::{inspect, verify};

/// Most candidates inspected at the same time: each may hold a pickle of `limits::PICKLE_BYTES` and what is built from it.
const WORKERS: usize = 4;

/// How to look.
#[derive(Clone, Debug)]
pub struct Options {
    /// How many levels of directories to walk.
    pub depth: usize,
    /// Where the index of past inspections is; `None` for none.
    pub cache: Option<PathBuf>,
    /// Whether every byte of every candidate is checked.
    pub deep: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self { depth: scan::DEFAULT_DEPTH, cache: None, deep: false }
    }
}

/// Everything that scan, inspect and verify found.
#[derive(Clone, Debug, Default)]
pub struct Survey {
    /// The places that were looked at.
    pub places: Vec<Place>,
    /// The candidates, judged.
    pub verified: Vec<Verified>,
}

/// scan → inspect → verify over several locations, in parallel over the candidates.
///
/// # Errors
/// None of today's causes: what cannot be looked at is a place with a problem or a finding.
pub fn survey(
    locations: &[Location],
    expected: &Expectations,
    options: &Options,
    progress: &dyn Progress,
) -> Result<Survey> {
    let scan::Scan { places, candidates } = scan::scan(locations, options.depth);
    let index = options.cache.as_deref().map_or_else(Index::none, Index::open);
    let now_ns = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .ok()
        .and_then(|since| i64::try_from(since.as_nanos()).ok())
        .unwrap_or(0);
    progress.begin("inspecting", candidates.len() as u64, Unit::Items);
    let look = Look { index: &index, now_ns, expected, is_deep: options.deep };
    let judge = |candidate: Candidate| {
        let verified = look.judged(candidate, options.depth);
        progress.advance(1);
        verified
    };
    let verified = side_by_side(candidates, &judge);
    progress.end();
    if let Err(error) = index.save() {
        tracing::debug!(%error, "the index of inspections was not saved");
    }
    Ok(Survey { places, verified: verified.into_iter().flatten().collect() })
}

/// Judges the candidates, at most [`WORKERS`] at a time.
fn side_by_side(candidates: Vec<Candidate>, judge: &(dyn Fn(Candidate) -> Vec<Verified> + Sync)) -> Vec<Vec<Verified>> {
    // Fewer are not worth a pool of threads.
    let workers = if candidates.len() < 4 { 1 } else { rayon::current_num_threads().min(WORKERS) };
    let pool = (workers > 1).then(|| rayon::ThreadPoolBuilder::new().num_threads(workers).build());
    match pool {
        Some(Ok(pool)) => pool.install(|| candidates.into_par_iter().map(judge).collect()),
        // Where there are no threads to be had, it takes longer.
        Some(Err(_)) | None => candidates.into_iter().map(judge).collect(),
    }
}

/// How every candidate is looked at.
#[derive(Clone, Copy)]
struct Look<'a> {
    index: &'a Index,
    now_ns: i64,
    expected: &'a Expectations,
    is_deep: bool,
}

impl Look<'_> {
    /// One candidate, judged; none when it only looked like one, and those in it when it is a directory of such.
    fn judged(self, candidate: Candidate, depth: usize) -> Vec<Verified> {
        let inspection = match self.index.inspect(&candidate, self.now_ns) {
            Ok(inspection) if inspect::is_no_checkpoint(&candidate, &inspection) => {
                let inner = scan::inside(&candidate, depth);
                return inner.into_iter().flat_map(|inner| self.judged(inner, depth.saturating_sub(1))).collect();
            }
            Ok(inspection) => inspection,
            Err(error) => unreadable(&candidate, &error),
        };
        if candidate.claim == Claim::Weak && !is_checkpoint(&inspection) {
            tracing::debug!(path = %candidate.path.display(), format = inspection.format.name(), "not a checkpoint");
            return Vec::new();
        }
        let deep = self.is_deep.then(|| deep_findings(&candidate));
        vec![Verified::new(candidate, inspection, deep, self.expected)]
    }
}

pub(crate) fn deep_findings(candidate: &Candidate) -> Vec<Finding> {
    verify::deep(candidate).unwrap_or_else(|error| vec![unreadable_finding(&error)])
}

fn unreadable_finding(error: &crate::Error) -> Finding {
    let cause = std::error::Error::source(error).map_or_else(|| error.to_string(), |cause| format!("{error}: {cause}"));
    Finding::error(Code::NotACheckpoint, cause)
}

/// A candidate that could not be opened: still a row, with the reason.
fn unreadable(candidate: &Candidate, error: &crate::Error) -> Inspection {
    let nothing: &[u8] = &[];
    let mut inspection = ckpt_core::inspect::file(&candidate.name(), &nothing)
        .unwrap_or_else(|_| unreachable!("reading from a slice cannot fail"));
    inspection.findings = vec![unreadable_finding(error)];
    inspection.bytes = candidate.bytes;
    inspection
}

/// Whether a file with an everyday extension turned out to be a checkpoint.
fn is_checkpoint(inspection: &Inspection) -> bool {
    match inspection.format {
        Format::Unknown | Format::Zip | Format::Npz | Format::Npy => false,
        Format::Pickle => inspection.parts.model || inspection.epoch.is_some() || inspection.step.is_some(),
        Format::TorchTar => inspection.is_valid(),
        _ => true,
    }
}

/// select, and where `deep` is asked for, a check of every byte of the chosen one: when that finds damage, the next is chosen.
///
/// # Errors
/// The criteria name an unknown metric or one of unknown direction.
pub fn choose(
    verified: Vec<Verified>,
    criteria: &Criteria,
    expected: &Expectations,
    deep: bool,
    progress: &dyn Progress,
) -> Result<Selection> {
    let mut selection = select(verified, criteria)?;
    while deep
        && let Some(index) = selection.taken
        && !selection.ranked[index].is_deep
    {
        let mut ranked = selection.ranked;
        let chosen = ranked.swap_remove(index);
        progress.begin("checking every byte", 0, Unit::Bytes);
        let findings = deep_findings(&chosen.candidate);
        progress.end();
        ranked.push(chosen.with_deep(findings, expected));
        selection = select(ranked, criteria)?;
    }
    Ok(selection)
}
