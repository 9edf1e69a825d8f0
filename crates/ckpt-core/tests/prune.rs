//! Properties of the retention decision.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeSet;
use std::time::Duration;

use ckpt_core::ErrorKind;
use ckpt_core::ids::{Epoch, Step};
use ckpt_core::metric::{Direction, Metric};
use ckpt_core::prune::{Action, Best, Item, PrunePlan, Retention, Soundness, plan};
use proptest::prelude::*;
use proptest::test_runner::FileFailurePersistence;

const HOUR_NS: i64 = 3_600_000_000_000;

fn metric(name: &str, value: f64) -> Metric {
    Metric { name: name.to_owned(), value, provenance: String::new(), direction: None }
}

/// A valid one of our own: the commit has the number of the step.
fn item(step: u64) -> Item {
    Item {
        name: format!("step-{step:08}"),
        step: Some(Step(step)),
        epoch: None,
        sequence: Some(step),
        saved_ns: i64::try_from(step).unwrap() * HOUR_NS,
        bytes: 1_000,
        metrics: Vec::new(),
        soundness: Soundness::Valid,
        is_pinned: false,
        pointers: Vec::new(),
    }
}

fn scored(step: u64, name: &str, value: f64) -> Item {
    Item { metrics: vec![metric(name, value)], ..item(step) }
}

fn damaged(step: u64) -> Item {
    Item { soundness: Soundness::Damaged, ..item(step) }
}

fn steps(items: std::ops::RangeInclusive<u64>) -> Vec<Item> {
    items.map(item).collect()
}

fn kept(plan: &PrunePlan) -> Vec<u64> {
    plan.kept().map(|item| item.step.unwrap().0).collect()
}

fn kept_of(items: &[Item], retention: &Retention) -> Vec<u64> {
    kept(&plan(items.to_vec(), retention, 0).unwrap())
}

fn reasons(plan: &PrunePlan, step: u64) -> Vec<&str> {
    let found = plan.items.iter().find(|planned| planned.item.step == Some(Step(step))).unwrap();
    found.reasons.iter().map(String::as_str).collect()
}

fn last(count: usize) -> Retention {
    Retention { keep_last: Some(count), ..Retention::default() }
}

fn best(text: &str) -> Retention {
    Retention { keep_best: vec![text.parse().unwrap()], ..Retention::default() }
}

#[test]
fn without_any_rule_nothing_goes() {
    let plan = plan(steps(1..=5), &Retention::default(), i64::MAX).unwrap();
    assert_eq!(plan.dropped().count(), 0);
    assert_eq!(reasons(&plan, 1), ["no rule asks for it to go"]);
}

#[test]
fn every_rule_that_keeps_one_is_told() {
    let mut items = steps(998..=1009);
    items[2].metrics = vec![metric("accuracy", 0.91)];
    items[2].is_pinned = true;
    items[2].pointers = vec!["best-accuracy".to_owned()];
    let retention = Retention {
        keep_last: Some(3),
        keep_every: Some(1000),
        keep_within: Some(Duration::from_secs(2 * 86_400)),
        ..best("accuracy=2")
    };
    let plan = plan(items, &retention, 1009 * HOUR_NS).unwrap();
    assert_eq!(
        reasons(&plan, 1000),
        [
            "pinned",
            "`best-accuracy` names it",
            "step 1000 is a multiple of 1000",
            "saved within 2d",
            "best 2 by accuracy: 0.91"
        ]
    );
    assert_eq!(reasons(&plan, 1009), ["the latest valid one", "last 3 of 12", "saved within 2d"]);
}

#[test]
fn each_rule_keeps_what_it_says_and_no_more() {
    let items = steps(1..=10);
    assert_eq!(kept_of(&items, &last(3)), [10, 9, 8]);
    assert_eq!(kept_of(&items, &Retention { keep_every: Some(4), ..Retention::default() }), [10, 8, 4]);
    let within = Retention { keep_within: Some(Duration::from_secs(2 * 3600)), ..Retention::default() };
    assert_eq!(kept(&plan(items, &within, 10 * HOUR_NS).unwrap()), [10, 9]);
}

#[test]
fn the_best_is_by_its_direction_and_ties_go_to_the_later() {
    let items: Vec<Item> =
        [(1, 0.5), (2, 0.9), (3, 0.9), (4, 0.1), (5, 0.2)].map(|(step, value)| scored(step, "val/loss", value)).into();
    assert_eq!(kept_of(&items, &best("loss=2")), [5, 4]);
    assert_eq!(kept_of(&items, &best("loss:max=1")), [5, 3]);
    assert_eq!(kept_of(&items, &best("loss:max=2")), [5, 3, 2]);
}

#[test]
fn what_is_not_a_number_is_never_best() {
    let values = [f64::NAN, f64::INFINITY, 0.3, f64::NEG_INFINITY, 150.0, 0.1];
    let items: Vec<Item> = (1..).zip(values).map(|(step, value)| scored(step, "accuracy", value)).collect();
    assert_eq!(kept_of(&items, &best("accuracy")), [6, 3]);
    let plan = plan(items[..2].to_vec(), &best("accuracy"), 0).unwrap();
    assert_eq!(kept(&plan), [2]);
    assert!(plan.warnings[0].contains("no valid checkpoint tells a usable accuracy"), "{:?}", plan.warnings);
}

#[test]
fn fractions_and_percentages_are_ranked_each_by_itself() {
    let items: Vec<Item> =
        [(1, 0.5), (2, 0.6), (3, 61.0), (4, 60.0)].map(|(step, value)| scored(step, "accuracy", value)).into();
    assert_eq!(kept_of(&items, &best("accuracy")), [4, 3, 2]);
}

#[test]
fn a_mistaken_metric_is_an_error_and_loses_nothing() {
    let items = vec![scored(1, "happiness", 1.0), scored(2, "val.f1", 0.5), scored(3, "test.f1", 0.6)];
    for (asked, part) in [
        ("accuracy", "happiness, test.f1, val.f1"),
        ("happiness", "`happiness:max` or `happiness:min`"),
        ("f1", "test.f1, val.f1"),
    ] {
        let error = plan(items.clone(), &best(asked), 0).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid, "{asked}");
        assert!(error.to_string().contains(part), "{error}");
    }
    assert_eq!(plan(Vec::new(), &best("accuracy"), 0).unwrap().items, []);
}

#[test]
fn a_direction_on_which_files_and_usage_disagree_is_asked_for() {
    let mut odd = scored(1, "accuracy", 0.5);
    odd.metrics[0].direction = Some(Direction::Min);
    let items = vec![odd, scored(2, "accuracy", 0.6), item(3)];
    assert_eq!(plan(items.clone(), &best("accuracy"), 0).unwrap_err().kind(), ErrorKind::Invalid);
    assert_eq!(kept_of(&items, &best("accuracy:min")), [3, 1]);
}

#[test]
fn a_rule_about_steps_wants_steps() {
    let items = vec![Item { step: None, ..item(1) }];
    let retention = Retention { keep_every: Some(10), ..Retention::default() };
    assert_eq!(plan(items, &retention, 0).unwrap_err().kind(), ErrorKind::Invalid);
    assert_eq!(plan(Vec::new(), &retention, 0).unwrap().items, []);
}

#[test]
fn a_zero_is_a_mistake_and_not_the_wish_to_lose_everything() {
    let none = Retention::default();
    let zeros = [
        last(0),
        Retention { keep_every: Some(0), ..none.clone() },
        Retention { keep_within: Some(Duration::ZERO), ..none.clone() },
        Retention { max_bytes: Some(0), ..none.clone() },
        Retention { keep_best: vec![Best { metric: "accuracy".to_owned(), direction: None, count: 0 }], ..none },
    ];
    for retention in zeros {
        assert_eq!(plan(steps(1..=2), &retention, 0).unwrap_err().kind(), ErrorKind::Invalid, "{retention:?}");
    }
    let twice = vec![item(1), item(1)];
    assert_eq!(plan(twice, &last(1), 0).unwrap_err().kind(), ErrorKind::Invalid);
}

#[test]
fn the_sequence_of_commits_is_the_order_and_not_the_step_nor_the_clock() {
    // Training went back to step 50 and on from there.
    let mut items = vec![item(10), item(90), item(50), item(60)];
    for (item, sequence) in items.iter_mut().zip(1..) {
        item.sequence = Some(sequence);
        item.saved_ns = -item.saved_ns;
    }
    assert_eq!(kept_of(&items, &last(2)), [60, 50]);
    for item in &mut items {
        item.sequence = None;
    }
    assert_eq!(kept_of(&items, &last(2)), [90, 60]);
}

#[test]
fn those_that_cannot_be_compared_are_counted_each_sort_by_itself() {
    let epoch = |number: i32| Item {
        step: None,
        sequence: None,
        epoch: Some(Epoch::from(number)),
        name: format!("e{number}"),
        ..item(0)
    };
    let plan = plan(vec![item(1), item(2), epoch(7), epoch(8)], &last(1), 0).unwrap();
    let names: BTreeSet<&str> = plan.kept().map(|item| item.name.as_str()).collect();
    assert_eq!(names, BTreeSet::from(["step-00000002", "e8"]));
}

#[test]
fn damaged_ones_are_never_counted_and_kept_to_be_looked_at() {
    let items = vec![item(1), item(2), damaged(3), damaged(4)];
    let plan = plan(items, &last(1), 0).unwrap();
    assert_eq!(kept(&plan), [4, 3, 2]);
    assert_eq!(reasons(&plan, 3), ["damaged: kept to be looked at"]);
}

#[test]
fn damaged_ones_go_when_asked_and_a_newer_valid_one_stays() {
    let retention = Retention { drop_damaged: true, ..Retention::default() };
    let items = vec![damaged(1), item(2), damaged(3)];
    let planned = plan(items, &retention, 0).unwrap();
    assert_eq!(kept(&planned), [3, 2]);
    assert_eq!(reasons(&planned, 1), ["damaged, and `step-00000002` is valid and newer"]);
    assert_eq!(reasons(&planned, 3), ["damaged: kept, for no valid one is surely newer"]);
    assert_eq!(kept_of(&[damaged(1), damaged(2)], &retention), [2, 1]);
    let pinned = Item { is_pinned: true, ..damaged(1) };
    assert_eq!(kept_of(&[pinned, item(2)], &retention), [2, 1]);
    let unjudged = Item { soundness: Soundness::Unjudged, ..item(1) };
    assert_eq!(kept_of(&[unjudged, item(2)], &Retention { drop_damaged: true, ..last(1) }), [2, 1]);
}

#[test]
fn the_only_valid_one_stays_whatever_the_rules_say() {
    let items = vec![item(1), damaged(2)];
    for retention in
        [Retention { max_bytes: Some(1), ..last(1) }, Retention { keep_every: Some(7), ..Retention::default() }]
    {
        let plan = plan(items.clone(), &retention, i64::MAX).unwrap();
        assert!(kept(&plan).contains(&1));
        assert_eq!(reasons(&plan, 1)[0], "the only valid one");
    }
}

#[test]
fn the_budget_alone_takes_the_oldest_first() {
    let retention = Retention { max_bytes: Some(3_500), ..Retention::default() };
    let planned = plan(steps(1..=6), &retention, 0).unwrap();
    assert_eq!(kept(&planned), [6, 5, 4]);
    assert_eq!((planned.kept_bytes(), planned.freed_bytes()), (3_000, 3_000));
    assert_eq!(reasons(&planned, 1), ["over the budget of 3.5 kB"]);
    assert!(planned.warnings.is_empty());
}

#[test]
fn the_budget_takes_the_best_last() {
    let mut items = steps(1..=6);
    for (item, value) in items.iter_mut().zip([0.9, 0.5, 0.8, 0.1, 0.1, 0.1]) {
        item.metrics = vec![metric("accuracy", value)];
    }
    let retention = |budget| Retention { keep_last: Some(3), max_bytes: Some(budget), ..best("accuracy=2") };
    assert_eq!(kept_of(&items, &retention(10_000)), [6, 5, 4, 3, 1]);
    assert_eq!(kept_of(&items, &retention(3_000)), [6, 3, 1]);
    assert_eq!(kept_of(&items, &retention(2_000)), [6, 1]);
}

#[test]
fn a_budget_that_cannot_be_met_is_said_and_takes_nothing_that_is_protected() {
    let mut items = steps(1..=4);
    items[0].is_pinned = true;
    items[1].pointers = vec!["latest".to_owned()];
    let retention = Retention { max_bytes: Some(10), ..Retention::default() };
    let plan = plan(items, &retention, 0).unwrap();
    assert_eq!(kept(&plan), [4, 2, 1]);
    assert!(plan.warnings[0].contains("budget of 10 B cannot be met: 3.0 kB"), "{:?}", plan.warnings);
}

/// What a set of checkpoints tells: all the same, or each something else.
fn any_item() -> impl Strategy<Value = Item> {
    let value = prop_oneof![Just(f64::NAN), Just(f64::INFINITY), 0.0..1.0_f64, Just(0.5), 0.0..120.0_f64];
    let numbers = (
        proptest::option::weighted(0.7, 0_u64..12),
        proptest::option::weighted(0.7, 0_i32..6),
        proptest::option::weighted(0.7, 0_u64..12),
        prop_oneof![-3..3_i64, Just(i64::MIN), Just(i64::MAX), (0..10_i64).prop_map(|hours| hours * HOUR_NS)],
        prop_oneof![0_u64..2_000, Just(u64::MAX)],
    );
    let soundness =
        prop_oneof![6 => Just(Soundness::Valid), 2 => Just(Soundness::Damaged), 1 => Just(Soundness::Unjudged)];
    let pointers = prop_oneof![9 => Just(Vec::new()), 1 => Just(vec!["latest".to_owned()])];
    (numbers, proptest::option::of(value), soundness, proptest::bool::weighted(0.1), pointers).prop_map(
        |((step, epoch, sequence, saved_ns, bytes), value, soundness, is_pinned, pointers)| Item {
            name: String::new(),
            step: step.map(Step),
            epoch: epoch.map(Epoch::from),
            sequence,
            saved_ns,
            bytes,
            metrics: value.map(|value| metric("accuracy", value)).into_iter().collect(),
            soundness,
            is_pinned,
            pointers,
        },
    )
}

/// Up to a dozen checkpoints; in three of four worlds all of them tell the same.
fn any_items() -> impl Strategy<Value = Vec<Item>> {
    (proptest::collection::vec(any_item(), 0..12), 0..4).prop_map(|(mut items, world)| {
        for (index, item) in items.iter_mut().enumerate() {
            item.name = format!("c{index}");
            if world > 0 {
                item.sequence = (world == 1).then(|| item.sequence.unwrap_or(index as u64));
                item.step = (world <= 2).then(|| item.step.unwrap_or(Step(3)));
            }
        }
        items
    })
}

fn any_retention() -> impl Strategy<Value = Retention> {
    let best = proptest::sample::subsequence(vec!["accuracy:max=1", "accuracy=2", "accuracy:min=1"], 0..3)
        .prop_map(|texts| texts.into_iter().map(|text| text.parse().unwrap()).collect::<Vec<Best>>());
    (
        proptest::option::of(1_usize..5),
        proptest::option::of(1_u64..5),
        best,
        proptest::option::of((1_u64..20).prop_map(|hours| Duration::from_secs(hours * 3600))),
        proptest::option::of(1_u64..6_000),
        any::<bool>(),
    )
        .prop_map(|(keep_last, keep_every, keep_best, keep_within, max_bytes, drop_damaged)| Retention {
            keep_last,
            keep_every,
            keep_best,
            keep_within,
            max_bytes,
            drop_damaged,
        })
}

fn any_now() -> impl Strategy<Value = i64> {
    prop_oneof![Just(i64::MIN), Just(-1), Just(0), Just(i64::MAX), (0..20_i64).prop_map(|hours| hours * HOUR_NS)]
}

/// The latest valid one, by the plainest rule there is; none where checkpoints tell different things.
fn latest(items: &[Item]) -> Option<&Item> {
    let valid: Vec<&Item> = items.iter().filter(|item| item.soundness == Soundness::Valid).collect();
    if valid.iter().all(|item| item.sequence.is_some()) {
        let most = valid.iter().map(|item| item.sequence).max()?;
        let mut first = valid.into_iter().filter(|item| item.sequence == most);
        return first.next().filter(|_| first.next().is_none());
    }
    let is_stepped = valid.iter().all(|item| item.sequence.is_none() && item.step.is_some());
    let most = valid.iter().map(|item| item.step).max()?;
    let mut first = valid.into_iter().filter(|item| item.step == most);
    first.next().filter(|_| is_stepped && first.next().is_none())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1_000, failure_persistence: Some(Box::new(FileFailurePersistence::Off)), ..ProptestConfig::default() })]

    #[test]
    fn whatever_the_rules_and_the_clock_nothing_protected_goes(
        items in any_items(),
        retention in any_retention(),
        now_ns in any_now(),
    ) {
        let Ok(planned) = plan(items.clone(), &retention, now_ns) else { return Ok(()) };
        let dropped: Vec<&str> = planned.dropped().map(|item| item.name.as_str()).collect();
        for item in &items {
            if item.is_pinned || !item.pointers.is_empty() || item.soundness == Soundness::Unjudged {
                prop_assert!(!dropped.contains(&item.name.as_str()), "{}", item.name);
            }
            if item.soundness == Soundness::Damaged && !retention.drop_damaged {
                prop_assert!(!dropped.contains(&item.name.as_str()), "{}", item.name);
            }
        }
        if let Some(latest) = latest(&items) {
            prop_assert!(!dropped.contains(&latest.name.as_str()), "the latest");
        }
        let is_valid = |item: &Item| item.soundness == Soundness::Valid;
        prop_assert_eq!(items.iter().any(is_valid), planned.kept().any(is_valid));
        if !retention.has_rules() && retention.max_bytes.is_none() {
            prop_assert!(planned.dropped().all(|item| !is_valid(item)));
        }
    }

    #[test]
    fn every_one_is_kept_or_dropped_with_a_reason(items in any_items(), retention in any_retention(), now_ns in any_now()) {
        let Ok(planned) = plan(items.clone(), &retention, now_ns) else { return Ok(()) };
        let mut names: Vec<String> = planned.kept().chain(planned.dropped()).map(|item| item.name.clone()).collect();
        names.sort();
        let mut expected: Vec<String> = items.iter().map(|item| item.name.clone()).collect();
        expected.sort();
        prop_assert_eq!(names, expected);
        for planned in &planned.items {
            prop_assert!(!planned.reasons.is_empty());
            prop_assert!(planned.action == Action::Keep || planned.reasons.len() == 1);
        }
    }

    #[test]
    fn the_plan_does_not_depend_on_the_order(
        items in any_items(),
        retention in any_retention(),
        now_ns in any_now(),
        seed in any::<u64>(),
    ) {
        let mut shuffled = items.clone();
        if !shuffled.is_empty() {
            let count = shuffled.len();
            shuffled.rotate_left(usize::try_from(seed % 11).unwrap() % count);
            if seed % 2 == 0 {
                shuffled.reverse();
            }
        }
        let text = |planned: ckpt_core::Result<PrunePlan>| planned.map(|plan| format!("{plan:?}")).map_err(|error| error.to_string());
        prop_assert_eq!(text(plan(items, &retention, now_ns)), text(plan(shuffled, &retention, now_ns)));
    }

    #[test]
    fn what_a_plan_keeps_the_same_plan_keeps_again(items in any_items(), retention in any_retention(), now_ns in any_now()) {
        let Ok(planned) = plan(items, &retention, now_ns) else { return Ok(()) };
        let left: Vec<Item> = planned.kept().cloned().collect();
        if let Ok(again) = plan(left, &retention, now_ns) {
            let more: Vec<&str> = again.dropped().map(|item| item.name.as_str()).collect();
            prop_assert!(more.is_empty(), "{more:?}");
        }
    }

    #[test]
    fn a_budget_is_met_or_the_plan_says_so(items in any_items(), retention in any_retention(), now_ns in any_now()) {
        let (Some(budget), Ok(planned)) = (retention.max_bytes, plan(items, &retention, now_ns)) else { return Ok(()) };
        let is_told = planned.warnings.iter().any(|warning| warning.contains("cannot be met"));
        prop_assert_eq!(planned.kept_bytes() > budget, is_told);
    }
}
