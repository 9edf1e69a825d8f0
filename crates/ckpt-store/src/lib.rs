//! Where checkpoints live, and the stages that touch them.
//!
//! Each stage takes what the one before it gave: [`scan`] finds candidates, [`inspect`] reads what they say, [`verify`]
//! judges them, [`ckpt_core::select`] chooses, [`fetch`] brings the chosen one to where training may write.
//!
//! ```no_run
//! use ckpt_core::{location::Location, progress::Silent, select::Criteria, verify::Expectations};
//! use ckpt_store::{Survey, fetch, survey};
//!
//! let locations = [Location::Kaggle("/kaggle".into())];
//! let expected = Expectations::default();
//! let Survey { verified, .. } = survey(&locations, &expected, &ckpt_store::Options::default(), &Silent)?;
//! let selection = ckpt_core::select::select(verified, &Criteria::default())?;
//! if let Some(chosen) = selection.selected() {
//!     let fetched = fetch::fetch(chosen, "/kaggle/working/checkpoints".as_ref(), &fetch::Options::default(), &Silent)?;
//!     println!("resume from {}", fetched.path.display());
//! }
//! # Ok::<(), ckpt_store::Error>(())
//! ```

pub mod adopt;
pub mod atomic;
pub mod error;
pub mod fetch;
pub mod fs;
pub mod history;
pub mod index;
pub mod inspect;
pub mod load;
pub mod pins;
pub mod preflight;
pub mod prune;
pub mod repack;
pub mod save;
pub mod scan;
pub mod shrink;
pub mod surroundings;
#[cfg(feature = "tch")]
pub mod tch;
pub mod verify;
pub mod watch;

mod archive;
mod survey;

pub use error::{Error, Result};
pub use survey::{Options, Survey, choose, survey};
