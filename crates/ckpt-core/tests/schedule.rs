//! Properties of the decision when to save and when to stop.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::time::Duration;

use ckpt_core::ids::Step;
use ckpt_core::metric::Direction;
use ckpt_core::schedule::{Better, LastSave, Observed, Reason, Schedule, UNMEASURED_SAVE, UNMEASURED_STEP};
use proptest::prelude::*;
use proptest::test_runner::FileFailurePersistence;

const SECOND_NS: i64 = 1_000_000_000;
const EVERY_STEPS: Schedule =
    Schedule { every_steps: Some(100), every: None, on_better: None, on_signal: false, deadline_ns: None };

fn at(step: u64, last: Option<u64>) -> Observed {
    let last_save = last.map(|step| LastSave { step: Step(step), at_ns: 0 });
    Observed { last_save, ..Observed::new(Step(step), 0) }
}

fn by_deadline(seconds: i64) -> Schedule {
    Schedule { deadline_ns: Some(seconds * SECOND_NS), ..Schedule::default() }
}

/// One second a step, ten a save.
fn measured(now_s: i64, last_save: Option<LastSave>) -> Observed {
    Observed {
        now_ns: now_s * SECOND_NS,
        last_save,
        save_took: Some(Duration::from_secs(10)),
        step_took: Some(Duration::from_secs(1)),
        ..Observed::new(Step(7), 0)
    }
}

#[test]
fn multiples_of_the_absolute_step_are_saved_also_when_skipped_over() {
    for (step, last, saves) in [
        (0, None, false),
        (99, None, false),
        (100, None, true),
        (101, None, true),
        (100, Some(100), false),
        (101, Some(100), false),
        (199, Some(150), false),
        (203, Some(150), true),
        (1_000, Some(150), true),
        // Training went back behind the last save.
        (250, Some(900), false),
        (300, Some(900), true),
    ] {
        assert_eq!(EVERY_STEPS.decide(&at(step, last)).save, saves, "{step} after {last:?}");
    }
    let never = Schedule { every_steps: Some(0), ..EVERY_STEPS };
    assert!(!never.decide(&at(100, None)).save);
}

#[test]
fn time_counts_from_the_last_save_and_from_the_start_before_the_first() {
    let schedule = Schedule { every: Some(Duration::from_secs(60)), ..Schedule::default() };
    let observed = |now_s: i64, saved_s: Option<i64>| Observed {
        last_save: saved_s.map(|second| LastSave { step: Step(1), at_ns: second * SECOND_NS }),
        now_ns: now_s * SECOND_NS,
        ..Observed::new(Step(7), 0)
    };
    assert!(!schedule.decide(&observed(59, None)).save);
    assert!(schedule.decide(&observed(60, None)).save);
    assert!(!schedule.decide(&observed(100, Some(50))).save);
    assert!(schedule.decide(&observed(110, Some(50))).save);
}

#[test]
fn a_clock_that_was_set_back_costs_one_save_and_suppresses_none() {
    let schedule = Schedule { every: Some(Duration::from_secs(60)), ..Schedule::default() };
    let mut observed = Observed {
        now_ns: 10,
        last_save: Some(LastSave { step: Step(1), at_ns: i64::MAX }),
        ..Observed::new(Step(7), 0)
    };
    let decision = schedule.decide(&observed);
    assert!(decision.save);
    assert_eq!(decision.reasons, [Reason::Time { since: None }]);
    observed.last_save = Some(LastSave { step: Step(7), at_ns: 10 });
    observed.step = Step(8);
    assert!(!schedule.decide(&observed).save);
}

#[test]
fn better_is_strict_and_by_direction_and_never_by_what_is_no_number() {
    let decide = |direction, value: Option<f64>, best: Option<f64>| {
        let on_better = Some(Better { metric: "m".to_owned(), direction });
        Schedule { on_better, ..Schedule::default() }
            .decide(&Observed { value, best, ..Observed::new(Step(7), 0) })
            .save
    };
    for (direction, value, best, saves) in [
        (Direction::Max, Some(0.9), Some(0.8), true),
        (Direction::Max, Some(0.8), Some(0.8), false),
        (Direction::Min, Some(0.9), Some(0.8), false),
        (Direction::Min, Some(0.7), Some(0.8), true),
        (Direction::Max, Some(f64::NAN), None, false),
        (Direction::Max, Some(f64::INFINITY), Some(0.8), false),
        (Direction::Min, Some(0.5), Some(f64::NAN), true),
        (Direction::Min, Some(0.5), None, true),
        (Direction::Min, None, None, false),
    ] {
        assert_eq!(decide(direction, value, best), saves, "{direction:?} {value:?} {best:?}");
    }
}

#[test]
fn a_signal_saves_once_and_stops_where_it_is_asked_for() {
    let schedule = Schedule { on_signal: true, ..Schedule::default() };
    let signalled = |last| Observed { has_signal: true, ..at(7, last) };
    let decision = schedule.decide(&signalled(Some(5)));
    assert!(decision.save && decision.stop);
    let decision = schedule.decide(&signalled(Some(7)));
    assert!(!decision.save && decision.stop);
    let decision = Schedule::default().decide(&signalled(None));
    assert!(!decision.save && !decision.stop);
}

#[test]
fn before_the_deadline_there_is_time_for_a_step_and_a_slow_save() {
    // 21 seconds are needed.
    assert!(!by_deadline(100).decide(&measured(78, None)).stop);
    let decision = by_deadline(100).decide(&measured(79, None));
    assert!(decision.save && decision.stop);
    assert_eq!(decision.reasons, [Reason::Deadline { left: Duration::from_secs(21) }]);
    // Saved when it was near already: not again, and still stop.
    let saved = Some(LastSave { step: Step(6), at_ns: 80 * SECOND_NS });
    let decision = by_deadline(100).decide(&measured(85, saved));
    assert!(!decision.save && decision.stop);
    // Saved "tomorrow": the clock was set back, and it was not now.
    let decision = by_deadline(100).decide(&measured(85, Some(LastSave { step: Step(6), at_ns: i64::MAX })));
    assert!(decision.save && decision.stop);
    // The deadline has passed, and the process is still there.
    let decision = by_deadline(100).decide(&measured(500, Some(LastSave { step: Step(2), at_ns: 0 })));
    assert!(decision.save && decision.stop);
}

#[test]
fn what_was_not_measured_is_taken_to_be_long() {
    let needed = i64::try_from((UNMEASURED_SAVE * 2 + UNMEASURED_STEP).as_secs()).unwrap();
    let observed = |now_s: i64| Observed { now_ns: now_s * SECOND_NS, ..Observed::new(Step(7), 0) };
    assert!(!by_deadline(1_000).decide(&observed(1_000 - needed - 1)).stop);
    assert!(by_deadline(1_000).decide(&observed(1_000 - needed)).stop);
}

#[test]
fn the_end_saves_what_was_not_saved() {
    let decision = EVERY_STEPS.finish(&at(7, Some(5)));
    assert!(decision.save && decision.stop);
    assert_eq!(decision.reasons, [Reason::Finish]);
    assert!(!EVERY_STEPS.finish(&at(7, Some(7))).save);
}

fn any_time() -> impl Strategy<Value = i64> {
    prop_oneof![Just(i64::MIN), Just(i64::MAX), Just(0), -100..100_i64, any::<i64>()]
}

fn any_observed() -> impl Strategy<Value = Observed> {
    let span = || proptest::option::of(prop_oneof![Just(Duration::MAX), (0_u64..100).prop_map(Duration::from_nanos)]);
    let last = proptest::option::of((prop_oneof![0_u64..20, Just(u64::MAX)], any_time()));
    let value = || proptest::option::of(prop_oneof![Just(f64::NAN), Just(f64::INFINITY), -1.0..1.0_f64]);
    (
        prop_oneof![0_u64..20, Just(u64::MAX)],
        any_time(),
        any_time(),
        last,
        value(),
        value(),
        any::<bool>(),
        span(),
        span(),
    )
        .prop_map(|(step, now_ns, started_ns, last, value, best, has_signal, save_took, step_took)| Observed {
            step: Step(step),
            now_ns,
            started_ns,
            last_save: last.map(|(step, at_ns)| LastSave { step: Step(step), at_ns }),
            value,
            best,
            has_signal,
            save_took,
            step_took,
        })
}

fn any_schedule() -> impl Strategy<Value = Schedule> {
    let direction = prop_oneof![Just(Direction::Max), Just(Direction::Min)];
    (
        proptest::option::of(prop_oneof![0_u64..5, Just(u64::MAX)]),
        proptest::option::of((0_u64..100).prop_map(Duration::from_nanos)),
        proptest::option::of(direction.prop_map(|direction| Better { metric: "m".to_owned(), direction })),
        any::<bool>(),
        proptest::option::of(any_time()),
    )
        .prop_map(|(every_steps, every, on_better, on_signal, deadline_ns)| Schedule {
            every_steps,
            every,
            on_better,
            on_signal,
            deadline_ns,
        })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1_000, failure_persistence: Some(Box::new(FileFailurePersistence::Off)), ..ProptestConfig::default() })]

    #[test]
    fn nothing_is_done_without_a_reason(schedule in any_schedule(), observed in any_observed()) {
        let decision = schedule.decide(&observed);
        prop_assert!(!decision.save || !decision.reasons.is_empty());
        prop_assert!(!decision.stop || !decision.reasons.is_empty());
        prop_assert!(decision.save || decision.stop || decision.reasons.is_empty());
    }

    #[test]
    fn after_the_save_there_is_nothing_left_to_save(schedule in any_schedule(), observed in any_observed()) {
        let decision = schedule.decide(&observed);
        if decision.save {
            let better = if decision.reasons.iter().any(|reason| matches!(reason, Reason::Better { .. })) { observed.value } else { observed.best };
            let last_save = Some(LastSave { step: observed.step, at_ns: observed.now_ns });
            let again = schedule.decide(&Observed { last_save, best: better, ..observed });
            prop_assert!(!again.save);
        }
    }

    #[test]
    fn wherever_a_run_is_interrupted_no_multiple_goes_unsaved(
        strides in proptest::collection::vec((1_u64..40, any::<bool>()), 1..60),
        every in 1_u64..50,
    ) {
        let schedule = Schedule { every_steps: Some(every), ..Schedule::default() };
        let (mut step, mut last) = (0, None);
        for (stride, is_killed) in strides {
            let before = step;
            step += stride;
            if schedule.decide(&at(step, last)).save {
                last = Some(step);
            }
            if step / every > before / every {
                prop_assert_eq!(last, Some(step));
            }
            if is_killed {
                // The next session goes on from the last save.
                step = last.unwrap_or(0);
            }
        }
    }

    #[test]
    fn a_deadline_that_was_near_stays_near(deadline_s in 100..200_i64, now_s in 0..300_i64, later_s in 0..300_i64) {
        let stop = |now_s| by_deadline(deadline_s).decide(&measured(now_s, None)).stop;
        prop_assert!(!stop(now_s) || stop(now_s + later_s));
        prop_assert!(now_s < deadline_s || stop(now_s));
    }
}
