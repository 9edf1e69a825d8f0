use ckpt_core::ErrorKind;
use ckpt_core::format::dtype::Dtype;
use ckpt_store::save::Tensor;
use ckpt_store::tch::optimizer::{Adam, Group, Optimizer, Rule, Sgd};
use ckpt_store::tch::{Strictness, load, tensors};
use tch::Kind;

use crate::{Network, bits, floats};

fn rules() -> Vec<Rule> {
    let adam = Adam::new(0.01);
    vec![
        Sgd::new(0.05).into(),
        Sgd { momentum: 0.9, weight_decay: 0.01, nesterov: true, ..Sgd::new(0.05) }.into(),
        adam.into(),
        Adam { amsgrad: true, ..adam }.into(),
        Adam::decoupled(0.01).into(),
    ]
}

/// The losses of some steps, to the last bit.
fn train(network: &Network, optimizer: &mut Optimizer, steps: std::ops::Range<u64>) -> Vec<u64> {
    let losses = steps.map(|step| {
        let loss = network.loss(step, 0.3);
        optimizer.backward_step(&loss).unwrap();
        loss.double_value(&[]).to_bits()
    });
    losses.collect()
}

#[test]
fn a_resumed_run_is_the_same_run_to_the_last_bit() {
    for kind in [Kind::Float, Kind::BFloat16] {
        for rule in rules() {
            let whole = Network::new(kind);
            let mut optimizer = Optimizer::new(&whole.variables, rule).unwrap();
            optimizer.rule_mut(1).unwrap().set_lr(0.02);
            train(&whole, &mut optimizer, 0..17);
            let (model, state) = (tensors(&whole.variables).unwrap(), optimizer.tensors().unwrap());
            let groups = serde_json::to_string(&optimizer.groups()).unwrap();
            let losses = train(&whole, &mut optimizer, 17..50);

            let resumed = Network::new(kind);
            let mut optimizer = Optimizer::new(&resumed.variables, Sgd::new(1.0)).unwrap();
            load(&resumed.variables, model, Strictness::Strict).unwrap();
            optimizer.load(state, &serde_json::from_str::<Vec<Group>>(&groups).unwrap()).unwrap();
            assert_eq!(train(&resumed, &mut optimizer, 17..50), losses, "{kind:?}, {rule:?}");
            assert!(bits(&resumed.variables) == bits(&whole.variables), "{kind:?}, {rule:?}");
        }
    }
}

#[test]
fn state_has_the_names_and_types_of_pytorch() {
    let network = Network::new(Kind::Float);
    let mut optimizer = Optimizer::new(&network.variables, Adam { amsgrad: true, ..Adam::new(0.25) }).unwrap();
    // Step 2 leaves out the first bias, parameter 2: it has no state yet.
    optimizer.backward_step(&network.loss(2, 0.0)).unwrap();
    let state = optimizer.tensors().unwrap();
    let names: Vec<_> = state.iter().map(|t| format!("{} {} {:?}", t.name, t.dtype, t.shape)).collect();
    let of = |i: usize, shape: &str| {
        let averages =
            ["exp_avg", "exp_avg_sq", "max_exp_avg_sq"].map(|name| format!("state.{i}.{name} float32 {shape}"));
        [vec![format!("state.{i}.step float32 []")], averages.to_vec()].concat()
    };
    assert_eq!(names, [of(0, "[37, 19]"), of(1, "[5, 37]"), of(3, "[5]")].concat());
    assert_eq!(state[0].bytes, 1.0_f32.to_le_bytes().to_vec());

    let groups = serde_json::to_value(optimizer.groups()).unwrap();
    let options = serde_json::json!({
        "lr": 0.25, "betas": [0.9, 0.999], "eps": 1e-8, "weight_decay": 0.0, "amsgrad": true,
        "decoupled_weight_decay": false, "maximize": false,
    });
    for (i, (params, names)) in
        [([0, 1], ["first", "second"]), ([2, 3], ["first_bias", "second_bias"])].iter().enumerate()
    {
        let mut expected = options.clone();
        expected["params"] = serde_json::json!(params);
        expected["param_names"] = serde_json::json!(names);
        assert_eq!(groups[i], expected);
    }

    let mut optimizer = Optimizer::new(&network.variables, Sgd { momentum: 0.5, ..Sgd::new(0.25) }).unwrap();
    optimizer.backward_step(&network.loss(2, 0.0)).unwrap();
    let names: Vec<_> = optimizer.tensors().unwrap().into_iter().map(|t| t.name.into_owned()).collect();
    assert_eq!(names, [0, 1, 3].map(|i| format!("state.{i}.momentum_buffer")));
}

/// `json.dumps(torch.optim.AdamW(…).state_dict()["param_groups"])` of PyTorch 2.15.
const OF_PYTORCH: &str = r#"[
  {"lr": 0.01, "betas": [0.9, 0.999], "eps": 1e-08, "weight_decay": 0.01, "amsgrad": false, "maximize": false,
   "foreach": null, "capturable": false, "differentiable": false, "fused": null, "decoupled_weight_decay": true, "params": [0, 1]},
  {"lr": 0.5, "betas": [0.9, 0.999], "eps": 1e-08, "weight_decay": 0.0, "amsgrad": false, "maximize": false,
   "foreach": null, "capturable": false, "differentiable": false, "fused": null, "decoupled_weight_decay": true, "params": [2, 3]}
]"#;

#[test]
fn groups_of_pytorch_are_taken_over() {
    let network = Network::new(Kind::Float);
    let mut optimizer = Optimizer::new(&network.variables, Sgd::new(1.0)).unwrap();
    optimizer.load([], &serde_json::from_str::<Vec<Group>>(OF_PYTORCH).unwrap()).unwrap();
    assert_eq!(*optimizer.rule_mut(0).unwrap(), Rule::Adam(Adam::decoupled(0.01)));
    assert_eq!(*optimizer.rule_mut(1).unwrap(), Rule::Adam(Adam { weight_decay: 0.0, ..Adam::decoupled(0.5) }));
    assert!(optimizer.rule_mut(2).is_none());
}

#[test]
fn steps_beyond_what_a_float_counts_are_counted() {
    let network = Network::new(Kind::Float);
    let mut optimizer = Optimizer::new(&network.variables, Adam::new(0.01)).unwrap();
    optimizer.backward_step(&network.loss(0, 0.0)).unwrap();
    let mut state = optimizer.tensors().unwrap();
    let steps = (1_i64 << 24) + 1;
    state[0] = Tensor::new("state.0.step", Dtype::of_torch("int64"), [], steps.to_le_bytes().to_vec());
    optimizer.load(state, &optimizer.groups()).unwrap();
    let step = optimizer.tensors().unwrap().swap_remove(0);
    assert_eq!((step.dtype.name(), &*step.bytes), ("int64", &steps.to_le_bytes()[..]));
}

/// A change of a state or its groups, the kind of the error it is answered with, and what that is about.
type Case = (fn(&mut Vec<Tensor<'static>>, &mut Vec<Group>), ErrorKind, &'static str);

#[test]
fn a_state_that_does_not_fit_is_refused_and_changes_nothing() {
    let cases: [Case; 13] = [
        (|_, groups| groups.truncate(1), ErrorKind::Invalid, "2"),
        (|_, groups| groups[1].params.push(4), ErrorKind::Invalid, "1"),
        (|_, groups| groups[0].params.swap(0, 1), ErrorKind::Invalid, "0"),
        (|_, groups| groups[0].param_names.swap(0, 1), ErrorKind::Invalid, "first"),
        (|_, groups| groups[0].maximize = true, ErrorKind::Unsupported, "0"),
        (|_, groups| groups[0].rule = Sgd::new(0.1).into(), ErrorKind::Invalid, "first"),
        (|state, _| drop(state.remove(1)), ErrorKind::Invalid, "first"),
        (|state, _| state[1].name = "state.0.momentum".into(), ErrorKind::Invalid, "first"),
        (|state, _| state.push(floats("state.4.exp_avg", &[5], &[0.0; 5])), ErrorKind::Invalid, "state.4.exp_avg"),
        (|state, _| state.push(floats("state.0.more", &[1], &[0.0])), ErrorKind::Unsupported, "state.0.more"),
        (|state, _| state.push(floats("exp_avg", &[1], &[0.0])), ErrorKind::Invalid, "exp_avg"),
        (|state, _| state[1].shape.reverse(), ErrorKind::Invalid, "state.0.exp_avg"),
        (|state, _| state[0] = floats("state.0.step", &[], &[1.5]), ErrorKind::Corrupt, "state.0.step"),
    ];
    let network = Network::new(Kind::Float);
    let mut optimizer = Optimizer::new(&network.variables, Adam::new(0.01)).unwrap();
    train(&network, &mut optimizer, 0..3);
    let (state, groups) = (optimizer.tensors().unwrap(), optimizer.groups());
    train(&network, &mut optimizer, 3..5);
    optimizer.set_lr(0.5);
    let (later_state, later_groups) = (optimizer.tensors().unwrap(), optimizer.groups());
    for (i, (change, kind, subject)) in cases.into_iter().enumerate() {
        let (mut state, mut groups) = (state.clone(), groups.clone());
        change(&mut state, &mut groups);
        let error = optimizer.load(state, &groups).unwrap_err();
        assert_eq!((error.kind(), error.subject()), (kind, subject), "case {i}: {error}");
        assert_eq!((optimizer.tensors().unwrap(), optimizer.groups()), (later_state.clone(), later_groups.clone()));
    }
    optimizer.load(state.clone(), &groups).unwrap();
    assert_eq!((optimizer.tensors().unwrap(), optimizer.groups()), (state, groups));
}
