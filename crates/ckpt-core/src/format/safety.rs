//! Which imports of a pickle are harmless, which are dangerous, which nobody knows.
//!
//! The allow-list follows what PyTorch's own weights-only unpickler admits, widened by the plain data types that
//! trainers store (numbers, paths, dates). The deny-list names modules and functions that reach the operating
//! system, import or evaluate code, or fetch attributes by name, which is how a payload reaches the former.

use serde::{Deserialize, Serialize};

use super::imports::{DANGEROUS_MODULES, DANGEROUS_NAMES, SAFE_NAMES};
use crate::limits;

/// What loading a checkpoint with an unrestricted unpickler could do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Risk {
    /// It imports nothing, or only known data types.
    Safe,
    /// It imports names that are neither known as harmless nor as dangerous: the trainer's own classes.
    Unknown,
    /// It imports names that run commands or code.
    Dangerous,
}

impl Risk {
    /// The name in machine-readable output.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Safe => "safe",
            Self::Unknown => "unknown",
            Self::Dangerous => "dangerous",
        }
    }
}

/// One name that a pickle would import.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct GlobalName {
    /// `module.name`
    pub name: String,
    /// What it may do.
    pub risk: Risk,
}

/// Every name that loading the checkpoint would import, and the worst of their risks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Safety {
    /// The worst risk.
    pub verdict: Risk,
    /// The names, sorted.
    pub globals: Vec<GlobalName>,
}

impl Default for Safety {
    fn default() -> Self {
        Self { verdict: Risk::Safe, globals: Vec::new() }
    }
}

impl Safety {
    /// Adds one name.
    pub fn add(&mut self, module: &str, name: &str) {
        let risk = classify(module, name);
        self.add_as(format!("{module}.{name}"), risk);
    }

    /// Adds a name whose risk is known otherwise.
    pub fn add_as(&mut self, name: String, risk: Risk) {
        self.verdict = self.verdict.max(risk);
        // A flood of names must not wash a dangerous one out of the list.
        let room = if risk == Risk::Dangerous { limits::GLOBALS.saturating_mul(2) } else { limits::GLOBALS };
        if let Err(place) = self.globals.binary_search_by(|known| known.name.cmp(&name))
            && self.globals.len() < room
        {
            self.globals.insert(place, GlobalName { name, risk });
        }
    }

    /// Adds everything that another pickle of the same checkpoint imports.
    pub fn merge(&mut self, other: Self) {
        for global in other.globals {
            self.add_as(global.name, global.risk);
        }
        self.verdict = self.verdict.max(other.verdict);
    }

    /// The dangerous names.
    pub fn dangerous(&self) -> impl Iterator<Item = &str> {
        self.globals.iter().filter(|global| global.risk == Risk::Dangerous).map(|global| global.name.as_str())
    }
}

/// The dtypes and legacy storage classes directly under `torch`.
fn is_torch_data(name: &str) -> bool {
    const DTYPES: &[&str] = &["bool", "half", "float", "double", "short", "int", "long", "cfloat", "cdouble", "chalf"];
    const FAMILIES: &[&str] = &["float", "bfloat", "int", "uint", "complex", "qint", "quint", "bits"];
    DTYPES.contains(&name)
        || name.ends_with("Storage")
        || FAMILIES.iter().any(|family| {
            name.strip_prefix(family).is_some_and(|rest| {
                rest.starts_with(|char: char| char.is_ascii_digit())
                    && rest.chars().all(|char| char.is_ascii_alphanumeric() || char == '_')
            })
        })
}

/// Whether a module holds PyTorch's layers or optimizers.
fn is_torch_classes(module: &str) -> bool {
    ["torch.nn.modules.", "torch.optim."].iter().any(|path| {
        module.strip_prefix(path).is_some_and(|rest| {
            rest.starts_with(|char: char| char.is_ascii_lowercase())
                && rest.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_')
        })
    })
}

/// Whether a name is that of a class, and not of a module's alias such as `F`.
fn is_class(name: &str) -> bool {
    const CAPITALS: &[&str] = &["ASGD", "CELU", "ELU", "GELU", "GLU", "GRU", "LBFGS", "LSTM", "RNN", "SELU", "SGD"];
    name.starts_with(|char: char| char.is_ascii_uppercase())
        && name.chars().all(|char| char.is_ascii_alphanumeric())
        && (CAPITALS.contains(&name) || name.bytes().any(|byte| byte.is_ascii_lowercase()))
}

/// Whether a dotted name is an attribute of plain data: `pathlib.Path.write_text`. No data is stored under such a name.
fn is_safe_owner(module: &str, name: &str) -> bool {
    let owner = name.split('.').next().unwrap_or(name);
    SAFE_NAMES.iter().any(|(known, names)| *known == module && names.contains(&owner))
}

/// What importing `module.name` and calling it may do.
#[must_use]
pub fn classify(module: &str, name: &str) -> Risk {
    let module = match module {
        "__builtin__" => "builtins",
        "copy_reg" => "copyreg",
        other => other,
    };
    let full = format!("{module}.{name}");
    let within = |path: &str| full == path || full.strip_prefix(path).is_some_and(|rest| rest.starts_with('.'));
    if DANGEROUS_MODULES.iter().any(|path| within(path)) || DANGEROUS_NAMES.iter().any(|path| within(path)) {
        return Risk::Dangerous;
    }
    // A dotted name walks attributes: `torch.serialization` + `os.system`, `torch` + `_utils.torch.load`.
    let mut steps = name.split('.');
    let tails = name.match_indices('.').filter_map(|(dot, _)| name.get(dot.saturating_add(1)..));
    if name.contains('.')
        && (is_safe_owner(module, name)
            || steps
                .any(|step| DANGEROUS_MODULES.contains(&step) || step.starts_with("__") || step == "_load_from_bytes")
            || std::iter::once(name).chain(tails).any(|tail| DANGEROUS_NAMES.contains(&tail)))
    {
        return Risk::Dangerous;
    }
    if module == "builtins" && name.starts_with("__") {
        return Risk::Dangerous;
    }
    let listed = SAFE_NAMES.iter().any(|(known, names)| *known == module && names.contains(&name));
    let rebuilder = module == "torch._utils" && name.starts_with("_rebuild_");
    let torch_data = matches!(module, "torch" | "torch.cuda") && is_torch_data(name);
    let numpy_dtype = module == "numpy.dtypes" && name.ends_with("DType");
    let torch_class = is_class(name) && is_torch_classes(module);
    let jit_class = module == "__torch__"
        || module.starts_with("__torch__.")
        || (module == "torch.jit._pickle" && name.starts_with("build_"));
    if listed || rebuilder || torch_data || numpy_dtype || torch_class || jit_class {
        Risk::Safe
    } else {
        Risk::Unknown
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kin_of_os_system_is_dangerous() {
        for (module, name) in [
            ("os", "system"),
            ("posix", "system"),
            ("nt", "system"),
            ("builtins", "eval"),
            ("__builtin__", "exec"),
            ("builtins", "getattr"),
            ("subprocess", "Popen"),
            ("runpy", "run_path"),
            ("torch.serialization", "os.system"),
            ("torch.hub", "load"),
            ("importlib", "import_module"),
            ("numpy.testing._private.utils", "runstring"),
            ("operator", "attrgetter"),
            ("collections", "OrderedDict.__init__.__globals__"),
            ("os.path", "join"),
            ("torch", "_utils.torch.load"),
            ("torch", "storage._load_from_bytes"),
            ("builtins", "__loader__"),
            ("_pickle", "loads"),
            ("torch", "load"),
            ("types", "FunctionType"),
            ("pathlib", "Path.write_text"),
            ("_operator", "methodcaller"),
            ("torch._utils", "_import_dotted_name"),
            ("torch._ops", "_OpNamespace"),
            ("numpy.core.multiarray", "fromfile"),
            ("numpy._core.multiarray", "fromfile"),
            ("functools", "reduce"),
            ("__builtin__", "map"),
            ("platform", "popen"),
        ] {
            assert_eq!(classify(module, name), Risk::Dangerous, "{module}.{name}");
        }
    }

    #[test]
    fn what_torch_itself_writes_is_safe() {
        for (module, name) in [
            ("torch._utils", "_rebuild_tensor_v2"),
            ("torch", "FloatStorage"),
            ("torch", "float8_e4m3fn"),
            ("torch", "bfloat16"),
            ("torch", "uint16"),
            ("collections", "OrderedDict"),
            ("numpy.core.multiarray", "scalar"),
            ("numpy", "dtype"),
            ("_codecs", "encode"),
            ("torch.nn.modules.linear", "Linear"),
            ("torch.nn.modules.rnn", "GRU"),
            ("torch.optim.sgd", "SGD"),
            ("torch.optim.lr_scheduler", "CosineAnnealingLR"),
            ("torch", "Size"),
            ("__torch__.m", "Net"),
        ] {
            assert_eq!(classify(module, name), Risk::Safe, "{module}.{name}");
        }
    }

    #[test]
    fn a_trainers_own_class_is_unknown() {
        for (module, name) in [
            ("ultralytics.nn.tasks", "DetectionModel"),
            ("osprey", "Net"),
            ("torch", "floating_point"),
            ("torch.nn.modules.module", "warnings"),
            ("torch.nn.modules.loss", "F"),
            ("torch.nn.modules._functions", "Function"),
        ] {
            assert_eq!(classify(module, name), Risk::Unknown, "{module}.{name}");
        }
    }

    #[test]
    fn the_worst_name_decides() {
        let mut safety = Safety::default();
        safety.add("collections", "OrderedDict");
        assert_eq!(safety.verdict, Risk::Safe);
        safety.add("my.project", "Config");
        safety.add("posix", "system");
        safety.add("collections", "OrderedDict");
        assert_eq!(safety.verdict, Risk::Dangerous);
        assert_eq!(safety.dangerous().collect::<Vec<_>>(), ["posix.system"]);
        assert_eq!(safety.globals.len(), 3);
    }
}
