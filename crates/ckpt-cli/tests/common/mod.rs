//! Runs the real program from the repository's root, away from this machine's configuration.
#![allow(dead_code, unreachable_pub, clippy::unwrap_used, reason = "each test program uses its part")]

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use tempfile::TempDir;

/// The root of the repository.
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).unwrap().to_owned()
}

/// A place to write, and the program pointed at it.
pub struct Place {
    pub directory: TempDir,
}

/// What a run gave.
pub struct Ran {
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
}

impl Place {
    pub fn new() -> Self {
        Self { directory: TempDir::new().unwrap() }
    }

    pub fn path(&self) -> &Path {
        self.directory.path()
    }

    pub fn join(&self, name: &str) -> PathBuf {
        self.path().join(name)
    }

    /// The program with an empty environment; `[TMP]` in an argument is this place.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_ckpt"));
        command
            .args(arguments.iter().map(|argument| argument.replace("[TMP]", &self.path().display().to_string())))
            .current_dir(root())
            .env_clear()
            .env("HOME", self.join("home"))
            .env("PATH", "/usr/bin:/bin");
        command
    }

    pub fn run(&self, arguments: &[&str]) -> Ran {
        self.finish(&mut self.command(arguments))
    }

    pub fn finish(&self, command: &mut Command) -> Ran {
        let Output { status, stdout, stderr } = command.output().unwrap();
        let text =
            |bytes: Vec<u8>| String::from_utf8(bytes).unwrap().replace(&self.path().display().to_string(), "[TMP]");
        Ran { code: status.code().unwrap(), stdout: text(stdout), stderr: text(stderr) }
    }

    /// The first of the documents on `stdout`.
    pub fn json(&self, arguments: &[&str]) -> serde_json::Value {
        let ran = self.run(arguments);
        serde_json::from_str(&ran.stdout).unwrap_or_else(|error| panic!("{error}: {}{}", ran.stdout, ran.stderr))
    }

    /// A copy of a fixture or of an example, under another name.
    pub fn copy(&self, from: &str, to: &str) -> PathBuf {
        let to = self.join(to);
        std::fs::create_dir_all(to.parent().unwrap()).unwrap();
        std::fs::copy(root().join(from), &to).unwrap();
        to
    }

    /// A Kaggle-shaped copy of the example tree.
    pub fn kaggle(&self) -> PathBuf {
        fn copy(from: &Path, to: &Path) {
            std::fs::create_dir_all(to).unwrap();
            for entry in std::fs::read_dir(from).unwrap() {
                let entry = entry.unwrap();
                let to = to.join(entry.file_name());
                if entry.file_type().unwrap().is_dir() {
                    copy(&entry.path(), &to);
                } else {
                    std::fs::copy(entry.path(), to).unwrap();
                }
            }
        }
        let to = self.join("kaggle");
        copy(&root().join("examples/data/kaggle"), &to);
        to
    }
}

impl Ran {
    /// Everything a script or a person sees.
    pub fn shown(&self) -> String {
        format!("exit code: {}\n--- stdout\n{}--- stderr\n{}", self.code, self.stdout, self.stderr)
    }
}
