use ckpt_core::ErrorKind;
use ckpt_core::format::dtype::Dtype;
use ckpt_store::save;
use ckpt_store::tch::{Converted, Misshaped, Strictness, compare, load, tensors};
use tch::nn::VarStore;
use tch::{Device, Kind, Tensor};

use crate::{bits, floats};

/// Variables of the given values, named by their kinds.
fn store(values: &[(&str, Tensor)]) -> VarStore {
    let variables = VarStore::new(Device::Cpu);
    for (name, value) in values {
        let _added = variables.root().add(name, value.copy(), false);
    }
    variables
}

#[test]
fn bytes_are_little_endian_in_rows_and_named_as_in_pytorch() {
    let values = Tensor::from_slice(&[0.875_f32, 1.0, -2.0]);
    let variables = store(&[
        ("bf16", values.to_kind(Kind::BFloat16)),
        ("bool", Tensor::from_slice(&[true, false])),
        ("f16", values.to_kind(Kind::Half)),
        ("i64", Tensor::from_slice(&[-3_i64])),
        ("transposed", Tensor::from_slice(&[1_i16, 2, 3, 4, 5, 6]).view([2, 3]).tr()),
    ]);
    let saved = tensors(&variables).unwrap();
    let told: Vec<_> = saved.iter().map(|t| (&*t.name, t.dtype.name(), &*t.shape, &*t.bytes)).collect();
    assert_eq!(
        told,
        [
            ("bf16", "bfloat16", &[3][..], &[0x60, 0x3f, 0x80, 0x3f, 0x00, 0xc0][..]),
            ("bool", "bool", &[2], &[1, 0]),
            ("f16", "float16", &[3], &[0x00, 0x3b, 0x00, 0x3c, 0x00, 0xc0]),
            ("i64", "int64", &[1], &[0xfd, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]),
            ("transposed", "int16", &[3, 2], &[1, 0, 4, 0, 2, 0, 5, 0, 3, 0, 6, 0]),
        ]
    );
}

#[test]
fn every_element_type_comes_back_to_the_last_bit() {
    let values = Tensor::arange(15, (Kind::Float, Device::Cpu)).view([3, 5]).sin() * 20.0;
    let kinds = [
        Kind::Double,
        Kind::Float,
        Kind::Half,
        Kind::BFloat16,
        Kind::Float8e4m3fn,
        Kind::Float8e5m2,
        Kind::Int64,
        Kind::Int,
        Kind::Int16,
        Kind::Int8,
        Kind::Uint8,
        Kind::Bool,
        Kind::ComplexFloat,
    ];
    for kind in kinds {
        let source = store(&[
            ("matrix", values.abs().to_kind(kind)),
            ("scalar", values.get(0).get(0).abs().to_kind(kind)),
            ("empty", Tensor::zeros([0, 4], (kind, Device::Cpu))),
        ]);
        let target = store(&[
            ("matrix", Tensor::zeros([3, 5], (kind, Device::Cpu))),
            ("scalar", Tensor::zeros([0_i64; 0], (kind, Device::Cpu))),
            ("empty", Tensor::zeros([0, 4], (kind, Device::Cpu))),
        ]);
        let report = load(&target, tensors(&source).unwrap(), Strictness::Strict).unwrap();
        assert_eq!((report.loaded.len(), report.is_exact(), report.converted.len()), (3, true, 0), "{kind:?}");
        assert_eq!(bits(&source), bits(&target), "{kind:?}");
    }
}

#[test]
fn what_a_safetensors_file_cannot_hold_is_refused() {
    let complex = store(&[("z", Tensor::zeros([2], (Kind::ComplexDouble, Device::Cpu)))]);
    assert_eq!(tensors(&complex).unwrap_err().kind(), ErrorKind::Unsupported);
    let sparse = store(&[]);
    let tensor = Tensor::eye(3, (Kind::Float, Device::Cpu)).to_sparse(None::<tch::Layout>, None::<i64>, 0);
    let _added = sparse.root().add("s", tensor, false);
    assert_eq!(tensors(&sparse).unwrap_err().kind(), ErrorKind::Unsupported);
}

fn model() -> VarStore {
    let (one, kind) = ([1.0_f32, 2.0], (Kind::Float, Device::Cpu));
    store(&[("a", Tensor::from_slice(&one)), ("b", Tensor::ones([2, 2], kind)), ("c", Tensor::ones([1], kind))])
}

#[test]
fn strict_loads_all_or_nothing() {
    let fits = [floats("a", &[2], &[5.0, 6.0]), floats("b", &[2, 2], &[0.0; 4])];
    for extra in
        [vec![], vec![floats("c", &[2], &[0.0; 2])], vec![floats("c", &[1], &[0.0]), floats("d", &[1], &[0.0])]]
    {
        let variables = model();
        let before = bits(&variables);
        let error = load(&variables, [&fits[..], &extra].concat(), Strictness::Strict).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid, "{error}");
        assert_eq!(error.subject(), if extra.len() == 2 { "d" } else { "c" });
        assert_eq!(bits(&variables), before);
    }
}

#[test]
fn lenient_loads_what_fits_and_names_the_rest() {
    let variables = model();
    let given = [
        floats("zebra", &[1], &[0.0]),
        floats("b", &[4], &[0.0; 4]),
        floats("a", &[2], &[5.0, 6.0]),
        floats("d", &[1], &[0.0]),
    ];
    assert_eq!(compare(&variables, given.clone()).unwrap().loaded, ["a"]);
    assert_eq!(bits(&variables), bits(&model()), "comparing changes nothing");

    let report = load(&variables, given, Strictness::Lenient).unwrap();
    assert_eq!(report.loaded, ["a"]);
    assert_eq!(report.missing, ["c"]);
    assert_eq!(report.unexpected, ["d", "zebra"]);
    let float = Dtype::of_torch("float32");
    let b = Misshaped { name: "b".to_owned(), variable: (float.clone(), vec![2, 2]), checkpoint: (float, vec![4]) };
    assert_eq!(report.misshaped, [b]);
    assert_eq!(bits(&variables)[0].1, [5.0_f32, 6.0].map(f32::to_le_bytes).concat());
    assert_eq!(bits(&variables)[1..], bits(&model())[1..]);
}

#[test]
fn floats_are_rounded_to_the_type_of_their_variable_and_that_is_told() {
    // Ties go to even in both: between 1 and 1 + 2^-7, and between 1 + 2^-7 and 1 + 2^-6.
    let variables = store(&[("half", Tensor::zeros([2], (Kind::BFloat16, Device::Cpu)))]);
    let step = 2.0_f32.powi(-8);
    let report = load(&variables, [floats("half", &[2], &[1.0 + step, 1.0 + 3.0 * step])], Strictness::Strict).unwrap();
    let (from, to) = (Dtype::of_torch("float32"), Dtype::of_torch("bfloat16"));
    assert_eq!(report.converted, [Converted { name: "half".to_owned(), from, to }]);
    assert_eq!(bits(&variables)[0].1, [0x80, 0x3f, 0x82, 0x3f]);
}

#[test]
fn integers_are_never_made_of_floats() {
    let variables = store(&[("count", Tensor::from_slice(&[7_i64]))]);
    let report = load(&variables, [floats("count", &[1], &[2.5])], Strictness::Lenient).unwrap();
    assert_eq!((report.loaded.len(), report.misshaped.len()), (0, 1));
    assert_eq!(load(&variables, [floats("count", &[1], &[2.5])], Strictness::Strict).unwrap_err().subject(), "count");
}

#[test]
fn a_tensor_with_fewer_bytes_than_its_shape_says_is_corrupt_and_changes_nothing() {
    for (shape, length) in [(vec![2, 2], 15), (vec![2, 2], 17), (vec![2, 2], 0)] {
        let variables = model();
        let lying = save::Tensor { bytes: vec![0; length].into(), ..floats("b", &shape, &[]) };
        let given = [floats("a", &[2], &[5.0, 6.0]), floats("c", &[1], &[0.0]), lying];
        let error = load(&variables, given, Strictness::Lenient).unwrap_err();
        assert_eq!((error.kind(), error.subject()), (ErrorKind::Corrupt, "b"));
        assert_eq!(bits(&variables), bits(&model()));
    }
}

#[test]
fn a_copy_does_not_follow_the_variable() {
    let variables = model();
    let saved = tensors(&variables).unwrap();
    let _filled = variables.variables().remove("a").unwrap().fill_(9.0);
    assert_eq!(&*saved[0].bytes, [1.0_f32, 2.0].map(f32::to_le_bytes).concat());
    assert_eq!(bits(&variables)[0].1, [9.0_f32, 9.0].map(f32::to_le_bytes).concat());
}
