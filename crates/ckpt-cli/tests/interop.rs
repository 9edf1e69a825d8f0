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

/// The original's tensors by dotted path, and a comparison by bits.
const TENSORS: &str = "
import sys, torch
def tensors(value, path=''):
    if isinstance(value, torch.Tensor):
        yield path, value
    elif isinstance(value, torch.nn.Module):
        yield from tensors(value.state_dict(), path)
    elif isinstance(value, dict):
        for key, inner in value.items():
            yield from tensors(inner, f'{path}.{key}' if path else str(key))
    elif isinstance(value, (list, tuple)):
        for index, inner in enumerate(value):
            yield from tensors(inner, f'{path}.{index}' if path else str(index))
def bits_of(tensor):
    plain = tensor.detach().clone(memory_format=torch.contiguous_format)
    raw = plain.reshape(-1).view(torch.uint8).numpy().tobytes() if plain.numel() else b''
    return tensor.dtype, tuple(tensor.shape), raw
def load(path):
    sys.path.insert(0, '.')
    return torch.load(path, weights_only=False)
";

/// Files, the key of each one's model, and whether compacting it leaves anything to do.
const SHRUNK: [(&str, &str, bool); 17] = [
    ("torch/zip_default.pth", "model_state_dict", true),
    ("torch/full_resumable.pth", "model_state_dict", true),
    ("torch/legacy.pth", "model_state_dict", true),
    ("torch/legacy_protocol4.pth", "model_state_dict", true),
    ("torch/rezip_deflate.pth", "model_state_dict", true),
    ("torch/zip_crc32_off.pth", "model_state_dict", true),
    ("torch/zip_protocol1.pth", "model_state_dict", true),
    ("torch/mmengine_style.pth", "state_dict", true),
    ("torch/imagenet_style.pth.tar", "state_dict", true),
    ("torch/tensor_views.pth", "model_state_dict", false),
    ("torch/tensor_130.pth", "model_state_dict", false),
    ("torch/tensor_nan_inf.pth", "model_state_dict", false),
    ("torch/state_dict_ddp.pth", "", false),
    ("torch/module.pth", "", false),
    ("torch/module_in_dict.pth", "model", false),
    ("lightning/val_acc/last.ckpt", "state_dict", true),
    ("torchvision/model_3.pth", "model", true),
];

#[test]
fn a_converted_file_holds_the_models_tensors_bit_for_bit() {
    let program = format!(
        "{TENSORS}
from safetensors.torch import load_file
count = 0
for source, key, *made in zip(*[iter(sys.argv[1:])] * 4):
    whole = load(source)
    model = dict(tensors(whole[key] if key else whole))
    everything = dict(tensors(whole))
    for path, expected in zip(made, (model, everything)):
        there = load_file(path)
        assert there.keys() == expected.keys(), (source, there.keys() ^ expected.keys())
        for name in there:
            assert bits_of(there[name]) == bits_of(expected[name]), (source, path, name)
    count += len(model)
print(count)
"
    );
    let place = Place::new();
    let mut arguments = Vec::new();
    for (index, (file, key, _)) in SHRUNK.into_iter().enumerate() {
        arguments.extend([file.to_owned(), key.to_owned()]);
        for flags in [&[][..], &["--all"]] {
            let name = format!("{index}-{}.safetensors", flags.len());
            let (from, to) = (format!("tests/fixtures/{file}"), format!("[TMP]/{name}"));
            let ran = place.run(&[&["convert", &from, &to], flags].concat());
            assert_eq!(ran.code, 0, "{file}: {}", ran.stderr);
            arguments.push(place.join(&name).display().to_string());
        }
    }
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let Some(answer) = python("a_converted_file_holds_the_models_tensors_bit_for_bit", &program, &arguments) else {
        return;
    };
    assert!(answer.trim().parse::<usize>().unwrap() > 250, "{answer}");
}

#[test]
fn a_compacted_file_loads_as_weights_only_and_equals_what_was_kept() {
    let program = format!(
        "{TENSORS}
plain = (int, float, str, bool, type(None))
for source, key, made in zip(*[iter(sys.argv[1:])] * 3):
    whole = load(source)
    for options in ({{}}, {{'mmap': True}}):
        small = torch.load(made, weights_only=True, **options)
        assert small.pop('ckpt_class') == 'inference-only'
        assert type(small[key]) is type(whole[key]), type(small[key])
        expected, there = dict(tensors(whole)), dict(tensors(small))
        assert there.keys() <= expected.keys(), there.keys() - expected.keys()
        assert dict(tensors(whole[key])).keys() == dict(tensors(small[key])).keys()
        for name in there:
            assert bits_of(there[name]) == bits_of(expected[name]), name
            assert there[name].stride() == expected[name].stride(), name
        for name, value in small.items():
            if isinstance(value, plain):
                assert value == whole[name] and type(value) is type(whole[name]), name
        for name, value in whole.items():
            assert not isinstance(value, plain) or name in small, name
        assert not any('optim' in name for name in small if not isinstance(small[name], plain))
print('equal')
"
    );
    let place = Place::new();
    let mut arguments = Vec::new();
    for (index, (file, key, _)) in SHRUNK.into_iter().enumerate().filter(|(_, (_, _, is_smaller))| *is_smaller) {
        let (from, to) = (format!("tests/fixtures/{file}"), format!("[TMP]/{index}.pth"));
        let ran = place.run(&["compact", &from, &to]);
        assert_eq!(ran.code, 0, "{file}: {}", ran.stderr);
        let made = place.join(&format!("{index}.pth")).display().to_string();
        arguments.extend([file.to_owned(), key.to_owned(), made]);
    }
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let test = "a_compacted_file_loads_as_weights_only_and_equals_what_was_kept";
    let Some(answer) = python(test, &program, &arguments) else { return };
    assert_eq!(answer.trim(), "equal");
}

#[test]
fn every_element_type_and_every_shared_storage_survives_an_archive() {
    let program = "
import sys, torch
made = sys.argv[1]
shared = torch.arange(600, dtype=torch.float32)
names = 'float32 float64 float16 bfloat16 int64 int32 int16 int8 uint8 bool uint16 uint32 uint64 complex64 complex128 float8_e4m3fn float8_e5m2'
model = {name: torch.arange(-3, 9).abs().to(getattr(torch, name)).reshape(3, 4) for name in names.split()}
model['tied'] = shared[100:140].view(5, 8)
model['tied too'] = model['tied']
model['transposed'] = shared[120:150].view(5, 6).t()
model['strided'] = shared[7:500:3]
model['expanded'] = shared[300:303].unsqueeze(1).expand(3, 4)
model['empty'] = torch.empty(0, 3)
model['scalar'] = torch.tensor(2.5)
big = torch.arange(3_000_000, dtype=torch.float32).view(1500, 2000)
model['large transposed'] = big.t()
torch.save({'epoch': 1, 'model': model, 'optimizer': {'state': {}, 'param_groups': []}}, made)
";
    let place = Place::new();
    let made = place.join("made.pth");
    if python("every_element_type_and_every_shared_storage_survives_an_archive", program, &[made.to_str().unwrap()])
        .is_none()
    {
        return;
    }
    let ran = place.run(&["compact", "[TMP]/made.pth", "[TMP]/small.pth"]);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    let compare = format!(
        "{TENSORS}
source, small = (torch.load(path, weights_only=True)['model'] for path in sys.argv[1:])
assert list(source) == list(small)
for name in source:
    assert bits_of(source[name]) == bits_of(small[name]) and source[name].stride() == small[name].stride(), name
assert small['tied'].untyped_storage().data_ptr() == small['tied too'].untyped_storage().data_ptr()
assert small['tied'].untyped_storage().data_ptr() == small['strided'].untyped_storage().data_ptr()
assert small['strided'].untyped_storage().nbytes() < 600 * 4
writable = {{name: tensor for name, tensor in source.items() if name != 'complex128'}}
torch.save({{'model': writable}}, sys.argv[1])
print('equal')
"
    );
    let small = place.join("small.pth");
    let arguments = [made.to_str().unwrap(), small.to_str().unwrap()];
    python("every_element_type_and_every_shared_storage_survives_an_archive", &compare, &arguments).unwrap();
    let ran = place.run(&["convert", "[TMP]/made.pth", "[TMP]/flat.safetensors"]);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    let compare = format!(
        "{TENSORS}
from safetensors.torch import load_file
source, flat = torch.load(sys.argv[1], weights_only=True)['model'], load_file(sys.argv[2])
assert source.keys() == flat.keys()
for name in source:
    assert bits_of(source[name]) == bits_of(flat[name]), name
print('equal')
"
    );
    let flat = place.join("flat.safetensors");
    let arguments = [made.to_str().unwrap(), flat.to_str().unwrap()];
    python("every_element_type_and_every_shared_storage_survives_an_archive", &compare, &arguments).unwrap();
}
