//! The program beside PyTorch itself, on the same files, now.
//!
//! Needs a Python with torch in `CKPT_PYTHON` (`.ci/python` prints one); without it these tests say that they were skipped.
//! What the real libraries said when the fixtures were written is tested everywhere, in ckpt-core's `interop`.
#![allow(clippy::unwrap_used, clippy::print_stderr, reason = "a test fails by panicking, and says what it skips")]

mod common;

use std::process::Command;

use common::{Place, root};
use serde_json::Value;

/// Runs a Python program with arguments; `None`, and a line on `stderr`, where there is no Python with torch.
fn python(test: &str, program: &str, arguments: &[&str]) -> Option<String> {
    let Some(python) = std::env::var_os("CKPT_PYTHON").filter(|path| !path.is_empty()) else {
        eprintln!("SKIPPED {test}: CKPT_PYTHON names no Python with torch");
        return None;
    };
    let ran = Command::new(python)
        .args(["-c", program])
        .args(arguments)
        .current_dir(root().join("tests/fixtures"))
        .output()
        .unwrap();
    assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
    Some(String::from_utf8(ran.stdout).unwrap())
}

/// What every value of a state is, in a form that compares equal only for equal states.
const DESCRIBE: &str = "
import hashlib, torch
def describe(value):
    if isinstance(value, torch.Tensor):
        return [str(value.dtype), list(value.shape), hashlib.sha256(value.contiguous().view(torch.uint8).numpy().tobytes()).hexdigest()
                if value.numel() and value.dim() else str(value)]
    if isinstance(value, dict):
        return {str(key): describe(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [describe(inner) for inner in value]
    return repr(value)
";

#[test]
fn our_facts_are_those_of_torch_load() {
    let files = [
        "torch/zip_default.pth",
        "torch/legacy.pth",
        "torch/full_resumable.pth",
        "torch/metric_numpy_float64.pth",
        "torch/metric_tensor_bfloat16.pth",
        "torch/metric_tensor_view_offset3.pth",
        "torch/checkpoint_epoch_0050.pth",
        "torch/tensor_dtypes.pth",
        "torch/state_dict.pth",
    ];
    let program = "
import runpy, sys
sys.argv = ['facts.py'] + sys.argv[1:]
runpy.run_path('facts.py', run_name='__main__')
";
    let Some(answer) = python("our_facts_are_those_of_torch_load", program, &files) else { return };
    let place = Place::new();
    let mut compared = 0;
    for (file, line) in files.iter().zip(answer.lines()) {
        let theirs: Value = serde_json::from_str(line).unwrap();
        assert_eq!(theirs["error"], Value::Null, "{file}");
        let ours = place.json(&["inspect", "--json", &format!("tests/fixtures/{file}")]);
        let same = |left: &Value, right: &Value| left.as_f64() == right.as_f64();
        assert!(same(&ours["epoch"], &theirs["epoch"]), "{file}: {} {}", ours["epoch"], theirs["epoch"]);
        assert_eq!(ours["tensors"], theirs["tensors"], "{file}");
        for (name, value) in ours["metrics"].as_object().unwrap() {
            if let Some(their_value) = theirs["metrics"].get(name) {
                assert!(same(value, their_value), "{file} {name}: {value} {their_value}");
                compared += 1;
            }
        }
    }
    assert!(compared >= 8, "{compared}");
}

#[test]
fn what_resume_hands_on_is_what_torch_load_reads_from_the_source() {
    let place = Place::new();
    let resumed =
        place.json(&["resume", "--json", "kaggle:examples/data/kaggle", "--best", "accuracy", "--to", "[TMP]/working"]);
    let program = format!(
        "{DESCRIBE}
import sys
source, copy = (torch.load(path, weights_only=True) for path in sys.argv[1:])
assert describe(source) == describe(copy)
print(copy['epoch'] + 1)
"
    );
    let source = root().join(resumed["selected"]["path"].as_str().unwrap());
    let copy = resumed["path"].as_str().unwrap().replace("[TMP]", &place.path().display().to_string());
    let arguments = [source.to_str().unwrap(), &copy];
    let Some(next) = python("what_resume_hands_on_is_what_torch_load_reads_from_the_source", &program, &arguments)
    else {
        return;
    };
    assert_eq!(next.trim(), resumed["resume_epoch"].to_string());
}

#[test]
fn a_repacked_archive_is_the_one_that_was_unpacked() {
    let program = format!(
        "{DESCRIBE}
import sys, zipfile
original, packed = sys.argv[1:]
expected = describe(torch.load(original, weights_only=True))
for options in ({{'weights_only': True}}, {{'weights_only': True, 'mmap': True}}, {{'weights_only': False}}):
    assert describe(torch.load(packed, **options)) == expected, options
assert zipfile.ZipFile(packed).testzip() is None
print('equal')
"
    );
    for unpacked in ["unpacked_dotfiles.pth", "unpacked_stripped.pth", "unpacked_double.pth"] {
        let place = Place::new();
        let ran = place.run(&["repack", &format!("tests/fixtures/torch/{unpacked}"), "[TMP]/packed.pth"]);
        assert_eq!(ran.code, 0, "{unpacked}: {}", ran.stderr);
        let original = root().join("tests/fixtures/torch/zip_default.pth");
        let packed = place.join("packed.pth");
        let arguments = [original.to_str().unwrap(), packed.to_str().unwrap()];
        let Some(answer) = python("a_repacked_archive_is_the_one_that_was_unpacked", &program, &arguments) else {
            return;
        };
        assert_eq!(answer.trim(), "equal", "{unpacked}");
    }
}
