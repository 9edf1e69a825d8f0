//! A disk whose power can be cut.

use std::fs::File;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

/// xfs wants at least 300 MB. The file has holes.
const BYTES: u64 = 400 << 20;
/// `EXT4_IOC_SHUTDOWN` and `XFS_IOC_GOINGDOWN`: `_IOR('X', 125, u32)`.
const SHUTDOWN: u32 = 0x8004_587d;
/// Nothing more goes to the disk, the journal in memory neither.
const NO_LOG_FLUSH: u32 = 2;

/// A file system in a file.
pub(crate) struct Disk {
    kind: &'static str,
    directory: tempfile::TempDir,
}

impl Disk {
    /// Makes and mounts one; `None` is printed.
    pub(crate) fn new(kind: &'static str) -> Option<Self> {
        let directory = tempfile::tempdir().unwrap();
        let disk = Self { kind, directory };
        File::create(disk.image()).unwrap().set_len(BYTES).unwrap();
        std::fs::create_dir(disk.path()).unwrap();
        let mut make = Command::new(format!("mkfs.{kind}"));
        let made = run(make.arg("-q").arg(disk.image())).and_then(|()| disk.mount());
        match made {
            Ok(()) => Some(disk),
            Err(error) => {
                println!("SKIPPED: power cuts on {kind}: {error}");
                None
            }
        }
    }

    fn image(&self) -> PathBuf {
        self.directory.path().join("image")
    }

    /// Where it is mounted.
    pub(crate) fn path(&self) -> PathBuf {
        self.directory.path().join("disk")
    }

    fn mount(&self) -> Result<(), String> {
        // What forgives a missing fsync on ext4 is switched off.
        let options = if self.kind == "ext4" { "loop,noauto_da_alloc,data=writeback" } else { "loop" };
        run(Command::new("mount").args(["-t", self.kind, "-o", options]).arg(self.image()).arg(self.path()))
    }

    fn unmount(&self) -> Result<(), String> {
        let mut result = Ok(());
        for _ in 0..50 {
            result = run(Command::new("umount").arg(self.path()));
            if result.is_ok() {
                break;
            }
            // Whoever was killed a moment ago may still hold it.
            std::thread::sleep(Duration::from_millis(20));
        }
        result
    }

    /// What was not written yet is lost; who works on it gets errors from now on.
    #[expect(unsafe_code, reason = "no safe crate offers this request")]
    pub(crate) fn cut(&self) {
        let root = File::open(self.path()).unwrap();
        // SAFETY: the descriptor is open, and the request reads one `u32` behind the pointer.
        let result = unsafe { libc::ioctl(root.as_raw_fd(), SHUTDOWN as libc::Ioctl, &NO_LOG_FLUSH) };
        assert_eq!(result, 0, "{}", std::io::Error::last_os_error());
    }

    /// The power comes back.
    pub(crate) fn restart(&self) {
        self.unmount().unwrap();
        self.mount().unwrap();
    }

    /// Makes everything durable.
    pub(crate) fn settle(&self) {
        rustix::fs::syncfs(File::open(self.path()).unwrap()).unwrap();
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        if is_mounted(&self.path())
            && let Err(error) = self.unmount()
        {
            println!("{error}");
        }
    }
}

fn is_mounted(path: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    let device = |path: &Path| std::fs::metadata(path).map(|metadata| metadata.dev()).ok();
    path.parent().is_some_and(|parent| device(path) != device(parent))
}

fn run(command: &mut Command) -> Result<(), String> {
    let output = command.output().map_err(|error| format!("{}: {error}", command.get_program().display()))?;
    if output.status.success() {
        return Ok(());
    }
    Err(String::from_utf8_lossy(&output.stderr).trim_end().to_owned())
}
