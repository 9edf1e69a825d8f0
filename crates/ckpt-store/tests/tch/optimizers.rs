use ckpt_store::tch::optimizer::{Adam, Optimizer, Rule, Sgd};
use tch::Kind;
use tch::nn::{self, OptimizerConfig};

use crate::{Network, bits};

const STEPS: u64 = 60;

/// A rule, and libtorch's own optimizer with the same options on a network of its own.
type Pair = (Rule, nn::Optimizer, Network);

fn pair(kind: Kind, rule: impl Into<Rule>, config: impl OptimizerConfig) -> Pair {
    let network = Network::new(kind);
    (rule.into(), config.build(&network.variables, 0.01).unwrap(), network)
}

fn pairs(kind: Kind, eps: f64) -> Vec<Pair> {
    let (sgd, momentum) = (Sgd::new(0.01), Sgd { momentum: 0.9, ..Sgd::new(0.01) });
    let (adam, adamw) = (Adam { eps, ..Adam::new(0.01) }, Adam { eps, ..Adam::decoupled(0.01) });
    let (their_adam, their_adamw) = (nn::Adam::default().eps(eps), nn::AdamW::default().eps(eps));
    vec![
        pair(kind, sgd, nn::Sgd::default()),
        pair(kind, Sgd { weight_decay: 0.1, ..sgd }, nn::sgd(0.0, 0.0, 0.1, false)),
        pair(kind, momentum, nn::sgd(0.9, 0.0, 0.0, false)),
        pair(kind, Sgd { dampening: 0.3, weight_decay: 0.1, ..momentum }, nn::sgd(0.9, 0.3, 0.1, false)),
        pair(kind, Sgd { weight_decay: 0.01, nesterov: true, ..momentum }, nn::sgd(0.9, 0.0, 0.01, true)),
        pair(kind, adam, their_adam),
        pair(kind, Adam { weight_decay: 0.1, betas: (0.8, 0.95), ..adam }, nn::adam(0.8, 0.95, 0.1).eps(eps)),
        pair(kind, Adam { amsgrad: true, ..adam }, their_adam.amsgrad(true)),
        pair(kind, adamw, their_adamw),
        pair(kind, Adam { amsgrad: true, weight_decay: 0.2, ..adamw }, their_adamw.amsgrad(true).wd(0.2)),
    ]
}

/// Steps both and compares their networks after each step. Two groups learn at different rates, and the rate changes on the way.
fn walk((rule, mut theirs, their_network): Pair, mut compare: impl FnMut(u64, Rule, &Network, &Network)) {
    let network = Network::new(their_network.weights[0].kind());
    let mut ours = Optimizer::new(&network.variables, rule).unwrap();
    ours.rule_mut(1).unwrap().set_lr(0.05);
    theirs.set_lr_group(1, 0.05);
    for step in 0..STEPS {
        if step == STEPS / 2 {
            ours.set_lr(0.002);
            theirs.set_lr(0.002);
        }
        ours.backward_step(&network.loss(step, 0.0)).unwrap();
        theirs.backward_step(&their_network.loss(step, 0.0));
        compare(step, rule, &network, &their_network);
    }
}

#[test]
fn every_step_is_libtorchs_own_to_the_last_bit() {
    for kind in [Kind::Float, Kind::Double] {
        for pair in pairs(kind, 1e-8) {
            walk(pair, |step, rule, ours, theirs| {
                assert!(bits(&ours.variables) == bits(&theirs.variables), "{kind:?}, step {step}, {rule:?}");
            });
        }
    }
}

/// How far the weights are from the others, relative to their size.
fn distance(ours: &Network, theirs: &Network) -> f64 {
    let distances = ours.weights.iter().zip(&theirs.weights).map(|(ours, theirs)| {
        let (ours, theirs) = (ours.to_kind(Kind::Double), theirs.to_kind(Kind::Double));
        (&ours - &theirs).norm().double_value(&[]) / theirs.norm().double_value(&[])
    });
    // Not `max`, which would pass over NaN.
    distances.fold(0.0, |far, distance| if distance <= far { far } else { distance })
}

/// libtorch on the CPU rounds the factor of a sum to the narrow type, and in the last elements of a tensor every intermediate
/// result too; on the GPU, and here, the sum alone is rounded.
#[test]
fn narrow_types_stay_within_three_roundings_of_libtorchs_own() {
    for (kind, one_rounding) in [(Kind::BFloat16, 2.0_f64.powi(-8)), (Kind::Half, 2.0_f64.powi(-11))] {
        // The usual `eps` is no more than 0 as a `Half`.
        for pair in pairs(kind, 1e-3) {
            walk(pair, |step, rule, ours, theirs| {
                let distance = distance(ours, theirs);
                assert!(distance <= 3.0 * one_rounding, "{distance} {kind:?}, step {step}, {rule:?}");
            });
        }
    }
}

#[test]
fn a_parameter_without_a_gradient_stays_as_it_is() {
    let network = Network::new(Kind::Float);
    let mut optimizer = Optimizer::new(&network.variables, Sgd { momentum: 0.9, ..Sgd::new(0.1) }).unwrap();
    optimizer.backward_step(&network.loss(0, 0.0)).unwrap();
    let before = network.biases[0].copy();
    // This step leaves the bias out, whose momentum would still move it.
    optimizer.backward_step(&network.loss(2, 0.0)).unwrap();
    assert_eq!(network.biases[0], before);
    optimizer.backward_step(&network.loss(3, 0.0)).unwrap();
    assert_ne!(network.biases[0], before);
}
