//! When the session ends: as the caller says it, or as the scheduler and the platform do.

use std::time::Duration;

use crate::error::{Error, ErrorKind, Result};
use crate::platform::{Platform, Surroundings};
use crate::quantity::{duration, span};

/// The variable in which SLURM tells when the job ends, in seconds since 1970.
const SLURM: &str = "SLURM_JOB_END_TIME";
/// Signs of a TPU.
const TPU: [&str; 2] = ["TPU_NAME", "TPU_WORKER_ID"];
/// A Kaggle session with a CPU or a GPU.
const KAGGLE: Duration = Duration::from_secs(12 * 3600);
/// A Kaggle session with a TPU.
const KAGGLE_TPU: Duration = Duration::from_secs(9 * 3600);

/// When the session ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Deadline {
    /// In nanoseconds since 1970.
    pub at_ns: i64,
    /// How that is known, for people.
    pub source: String,
}

/// A deadline as the caller says it: `2026-11-22T18:00:00Z`, or `+11h30m` after `start_ns`, the start of the session.
///
/// ```
/// use ckpt_core::schedule::deadline::parse;
/// assert_eq!(parse("+1m30s", 0)?.at_ns, 90_000_000_000);
/// assert_eq!(parse("1970-01-01T01:00:01+01:00", 5)?.at_ns, 1_000_000_000);
/// assert!(parse("tomorrow", 0).is_err());
/// # Ok::<(), ckpt_core::Error>(())
/// ```
///
/// # Errors
/// [`ErrorKind::Invalid`]: it is neither, or out of the range of nanoseconds.
pub fn parse(text: &str, start_ns: i64) -> Result<Deadline> {
    let wrong = || Error::new(ErrorKind::Invalid, text, "not a deadline such as 2026-11-22T18:00:00Z or +11h30m:");
    let at_ns = match text.trim().strip_prefix('+') {
        Some(after) => add(start_ns, duration(after).map_err(|_| wrong())?),
        None => {
            let moment: jiff::Timestamp = text.trim().parse().map_err(|_| wrong())?;
            i64::try_from(moment.as_nanosecond()).ok()
        }
    };
    Ok(Deadline { at_ns: at_ns.ok_or_else(wrong)?, source: "as configured".to_owned() })
}

/// The deadline that the scheduler or the platform sets, and how that is known. None where neither does, or tells nonsense.
#[must_use]
pub fn of(seen: &Surroundings, platform: Platform, session_start_ns: i64) -> Option<Deadline> {
    let variable = |name: &str| seen.variables.get(name).map(|value| value.trim()).filter(|value| !value.is_empty());
    let slurm = variable(SLURM).and_then(|text| text.parse::<u64>().ok()).filter(|seconds| *seconds > 0);
    if let Some(at_ns) = slurm.and_then(|seconds| add(0, Duration::from_secs(seconds))) {
        return Some(Deadline { at_ns, source: SLURM.to_owned() });
    }
    if platform != Platform::Kaggle {
        return None;
    }
    let tpu = TPU.iter().find(|name| variable(name).is_some());
    let (limit, sign) =
        tpu.map_or((KAGGLE, String::new()), |name| (KAGGLE_TPU, format!(" with a TPU ({name} is set)")));
    let at_ns = add(session_start_ns, limit)?;
    Some(Deadline { at_ns, source: format!("a session of Kaggle{sign} lasts {}", span(limit)) })
}

fn add(start_ns: i64, after: Duration) -> Option<i64> {
    start_ns.checked_add(i64::try_from(after.as_nanos()).ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR_NS: i64 = 3_600_000_000_000;

    fn seen(variables: &[(&str, &str)]) -> Surroundings {
        let variables = variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        Surroundings { variables, ..Surroundings::default() }
    }

    #[test]
    fn what_is_no_deadline_is_an_error() {
        for text in [
            "",
            "+",
            "11h30m",
            "+11",
            "-1h",
            "+-1h",
            "2026-11-22",
            "2026-11-22T18:00:00",
            "12345",
            "+999999w",
            "9999-01-01T00:00:00Z",
        ] {
            assert_eq!(parse(text, 0).unwrap_err().kind(), ErrorKind::Invalid, "{text}");
        }
        assert_eq!(parse("+1s", i64::MAX).unwrap_err().kind(), ErrorKind::Invalid);
    }

    #[test]
    fn the_schedulers_deadline_wins_over_the_platforms() {
        let both = seen(&[("SLURM_JOB_END_TIME", "1700000000")]);
        let deadline = of(&both, Platform::Kaggle, 0).unwrap();
        assert_eq!((deadline.at_ns, deadline.source.as_str()), (1_700_000_000_000_000_000, "SLURM_JOB_END_TIME"));
        for nonsense in ["", "0", "-5", "soon", "99999999999999999999", "18446744073709551615"] {
            assert_eq!(of(&seen(&[("SLURM_JOB_END_TIME", nonsense)]), Platform::Local, 0), None, "{nonsense}");
        }
    }

    #[test]
    fn a_session_of_kaggle_has_a_limit_and_others_have_none() {
        let deadline = of(&seen(&[]), Platform::Kaggle, HOUR_NS).unwrap();
        assert_eq!((deadline.at_ns, deadline.source.as_str()), (13 * HOUR_NS, "a session of Kaggle lasts 12h"));
        let deadline = of(&seen(&[("TPU_WORKER_ID", "0")]), Platform::Kaggle, 0).unwrap();
        assert_eq!(deadline.at_ns, 9 * HOUR_NS);
        assert!(deadline.source.contains("TPU_WORKER_ID"), "{}", deadline.source);
        assert_eq!(of(&seen(&[]), Platform::Colab, 0), None);
        assert_eq!(of(&seen(&[]), Platform::Kaggle, i64::MAX), None);
    }

    #[test]
    fn every_variable_that_tells_a_deadline_is_observed() {
        for name in TPU.into_iter().chain([SLURM]) {
            assert!(crate::platform::VARIABLES.contains(&name), "{name}");
        }
    }
}
