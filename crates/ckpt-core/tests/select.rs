//! Properties of verify, select and transfer, on checkpoints that are read from bytes like any other.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::PathBuf;

use ckpt_core::candidate::{Candidate, Shape, Source, SourceKind};
use ckpt_core::finding::{Code, Finding, Severity};
use ckpt_core::inspect;
use ckpt_core::metric::Metric;
use ckpt_core::name::Claim;
use ckpt_core::prune::{Best, Item, Retention, plan as plan_to_prune};
use ckpt_core::select::{Choice, Criteria, Nothing, Selection, select};
use ckpt_core::transfer::{Existing, TransferPlan, plan};
use ckpt_core::verify::{Expectations, Verified};
use ckpt_core::{Error, ErrorKind};
use proptest::prelude::*;
use proptest::test_runner::FileFailurePersistence;

/// A checkpoint under construction: a bare pickle of numbers.
#[derive(Clone, Debug)]
struct Draft {
    path: String,
    kind: SourceKind,
    modified_ns: i64,
    fields: Vec<(String, f64)>,
    is_damaged: bool,
    imports: Option<&'static str>,
    /// The run and the number of the commit in the directory.
    commit: Option<(&'static str, u64)>,
    saved_ns: Option<i64>,
}

fn draft(path: &str, fields: &[(&str, f64)]) -> Draft {
    let fields = fields.iter().map(|(name, value)| ((*name).to_owned(), *value)).collect();
    Draft {
        path: path.to_owned(),
        kind: SourceKind::Path,
        modified_ns: 0,
        fields,
        is_damaged: false,
        imports: None,
        commit: None,
        saved_ns: None,
    }
}

/// One commit of a run.
fn commit(path: &str, run: &'static str, sequence: u64, step: f64) -> Draft {
    Draft { commit: Some((run, sequence)), ..draft(path, &[("step", step)]) }
}

impl Draft {
    fn bytes(&self) -> Vec<u8> {
        let mut pickle = b"\x80\x02}(".to_vec();
        let text = |text: &str| {
            let mut bytes = b"X".to_vec();
            bytes.extend(u32::try_from(text.len()).unwrap().to_le_bytes());
            bytes.extend(text.as_bytes());
            bytes
        };
        for (name, value) in &self.fields {
            pickle.extend(text(name));
            pickle.push(b'G');
            pickle.extend(value.to_be_bytes());
        }
        // Never empty: an empty dict is no checkpoint.
        pickle.extend(text("note"));
        pickle.push(b'N');
        if let Some(import) = self.imports {
            pickle.extend(text("payload"));
            pickle.extend(format!("c{}\n", import.replacen('.', "\n", 1)).bytes());
        }
        pickle.extend(b"u.");
        pickle
    }

    fn verified(&self, expected: &Expectations) -> Verified {
        let path = PathBuf::from(&self.path);
        let bytes = self.bytes();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        let mut inspection = inspect::file(&name, &bytes.as_slice()).unwrap();
        if self.is_damaged {
            inspection.findings.push(Finding::error(Code::Truncated, "it was cut off"));
        }
        inspection.run_id = self.commit.map(|(run, _)| run.to_owned());
        inspection.sequence = self.commit.map(|(_, sequence)| sequence);
        inspection.saved_ns = self.saved_ns;
        let candidate = Candidate {
            path,
            aliases: Vec::new(),
            shape: Shape::File,
            claim: Claim::Strong,
            source: Source { kind: self.kind, location: String::new(), is_read_only: false },
            bytes: bytes.len() as u64,
            modified_ns: self.modified_ns,
        };
        Verified::new(candidate, inspection, None, expected)
    }
}

fn chosen_of(drafts: &[Draft], criteria: &Criteria) -> Result<Selection, Error> {
    select(drafts.iter().map(|draft| draft.verified(&Expectations::default())).collect(), criteria)
}

fn best(text: &str) -> Criteria {
    Criteria { choice: text.parse().unwrap(), ..Criteria::default() }
}

fn latest() -> Criteria {
    Criteria { choice: Choice::Latest, ..Criteria::default() }
}

fn taken(drafts: &[Draft], criteria: &Criteria) -> String {
    let selection = chosen_of(drafts, criteria).unwrap();
    selection.selected().unwrap().candidate.path.display().to_string()
}

#[test]
fn the_best_is_the_largest_accuracy_and_the_smallest_loss() {
    let drafts =
        [draft("a.pth", &[("accuracy", 0.8), ("loss", 0.1)]), draft("b.pth", &[("accuracy", 0.9), ("loss", 0.4)])];
    assert_eq!(taken(&drafts, &best("accuracy")), "b.pth");
    assert_eq!(taken(&drafts, &best("loss")), "a.pth");
    assert_eq!(taken(&drafts, &best("loss:max")), "b.pth");
}

#[test]
fn zero_is_a_value_and_missing_is_none() {
    let drafts = [draft("none.pth", &[("epoch", 9.0)]), draft("zero.pth", &[("epoch", 0.0), ("accuracy", 0.0)])];
    assert_eq!(taken(&drafts, &best("accuracy")), "zero.pth");
    assert_eq!(taken(&drafts, &best("accuracy:min")), "zero.pth");
}

#[test]
fn nan_and_infinities_never_win_in_either_direction() {
    for odd in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
        let drafts =
            [draft("odd.pth", &[("epoch", 9.0), ("loss", odd)]), draft("fair.pth", &[("epoch", 1.0), ("loss", 3.0)])];
        assert_eq!(taken(&drafts, &best("loss:min")), "fair.pth");
        assert_eq!(taken(&drafts, &best("loss:max")), "fair.pth");
    }
}

#[test]
fn an_unknown_metric_is_an_error_that_lists_those_seen() {
    let error = chosen_of(&[draft("a.pth", &[("accuracy", 0.8), ("val_loss", 0.1)])], &best("f1")).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid);
    assert!(error.to_string().contains("accuracy, val_loss"), "{error}");
    let conditional = Criteria { conditions: vec!["f1>=0.5".parse().unwrap()], ..latest() };
    assert_eq!(
        chosen_of(&[draft("a.pth", &[("accuracy", 0.8)])], &conditional).unwrap_err().kind(),
        ErrorKind::Invalid
    );
}

#[test]
fn where_no_value_can_be_compared_the_choice_says_so() {
    let drafts =
        [draft("a.pth", &[("epoch", 1.0), ("loss", f64::NAN)]), draft("b.pth", &[("epoch", 2.0), ("loss", f64::NAN)])];
    let selection = chosen_of(&drafts, &best("loss")).unwrap();
    assert_eq!(selection.selected().unwrap().candidate.name(), "b.pth");
    assert!(selection.warnings[0].contains("by position alone"), "{:?}", selection.warnings);
}

#[test]
fn a_link_that_was_asked_for_by_name_is_called_by_that_name() {
    let mut linked = draft("checkpoint-1.pth", &[("epoch", 1.0)]).verified(&Expectations::default());
    linked.candidate.aliases.push(PathBuf::from("model_best.pth"));
    let criteria = Criteria { names: vec!["model_best*".parse().unwrap()], ..latest() };
    let selection = select(vec![linked], &criteria).unwrap();
    assert_eq!(selection.selected().unwrap().candidate.name(), "model_best.pth");
}

#[test]
fn an_unfamiliar_metric_wants_its_direction() {
    let drafts = [draft("a.pth", &[("zest", 1.0)]), draft("b.pth", &[("zest", 2.0)])];
    assert!(chosen_of(&drafts, &best("zest")).unwrap_err().to_string().contains("zest:max"));
    assert_eq!(taken(&drafts, &best("zest:max")), "b.pth");
}

#[test]
fn a_percentage_beside_fractions_is_not_the_best() {
    let fractions = [
        draft("a.pth", &[("accuracy", 0.9)]),
        draft("b.pth", &[("accuracy", 0.8)]),
        draft("percent.pth", &[("accuracy", 87.5)]),
    ];
    let selection = chosen_of(&fractions, &best("accuracy")).unwrap();
    assert_eq!(selection.selected().unwrap().candidate.path, PathBuf::from("a.pth"));
    let reasons: Vec<&str> = selection.outcomes.iter().map(|outcome| outcome.reason.as_str()).collect();
    assert!(reasons.iter().any(|reason| reason.contains("another scale")), "{reasons:?}");
    // One rival of each scale: the fraction stands.
    assert_eq!(taken(&[fractions[0].clone(), fractions[2].clone()], &best("accuracy")), "a.pth");
    // Most are percentages: the odd one is the fraction, also where it would be 0.9 %.
    let percentages = [
        draft("x.pth", &[("accuracy", 0.9)]),
        draft("y.pth", &[("accuracy", 85.0)]),
        draft("z.pth", &[("accuracy", 87.5)]),
    ];
    assert_eq!(taken(&percentages, &best("accuracy")), "z.pth");
    // As many of each: a run that tells percentages begins low.
    let run = [(0.0, 0.5), (1.0, 1.0), (2.0, 55.0), (3.0, 88.0)];
    let run = run.map(|(epoch, accuracy)| draft(&format!("e{epoch}.pth"), &[("epoch", epoch), ("accuracy", accuracy)]));
    assert_eq!(taken(&run, &best("accuracy")), "e3.pth");
    // A loss has no scale.
    assert_eq!(taken(&[draft("p.pth", &[("loss", 87.5)]), draft("q.pth", &[("loss", 0.9)])], &best("loss")), "q.pth");
}

#[test]
fn the_latest_is_by_step_before_epoch_and_never_by_time_alone() {
    let mut old = draft("old.pth", &[("global_step", 500.0)]);
    old.modified_ns = 99;
    assert_eq!(taken(&[old, draft("new.pth", &[("global_step", 900.0)])], &latest()), "new.pth");
    let drafts = [draft("a.pth", &[("epoch", 3.0), ("step", 10.0)]), draft("b.pth", &[("epoch", 2.0), ("step", 20.0)])];
    assert_eq!(taken(&drafts, &latest()), "b.pth");
    let mut unknown = draft("unknown.pth", &[("accuracy", 0.5)]);
    unknown.modified_ns = 99;
    assert_eq!(taken(&[unknown, draft("epoch.pth", &[("epoch", 0.0)])], &latest()), "epoch.pth");
}

#[test]
fn where_steps_are_known_of_some_only_epochs_decide() {
    let drafts = [
        draft("a.pth", &[("epoch", 50.0)]),
        draft("b.pth", &[("epoch", 1.0), ("global_step", 100.0)]),
        draft("c.pth", &[("epoch", 49.0), ("global_step", 4900.0)]),
    ];
    assert_eq!(taken(&drafts, &latest()), "a.pth");
}

#[test]
fn without_any_position_the_time_of_modification_decides() {
    let (mut one, mut two) = (draft("one.pth", &[("accuracy", 0.1)]), draft("two.pth", &[("accuracy", 0.1)]));
    (one.modified_ns, two.modified_ns) = (2, 1);
    assert_eq!(taken(&[one, two], &latest()), "one.pth");
}

#[test]
fn the_time_that_a_checkpoint_tells_counts_before_that_of_its_file() {
    let (mut one, mut two) = (draft("one.pth", &[("accuracy", 0.1)]), draft("two.pth", &[("accuracy", 0.1)]));
    (one.modified_ns, one.saved_ns, two.modified_ns) = (9, Some(1), 2);
    assert_eq!(taken(&[one, two], &latest()), "two.pth");
}

#[test]
fn after_going_back_the_last_commit_is_the_latest_and_not_the_largest_step() {
    let run =
        [commit("r/s800", "run", 3, 800.0), commit("r/s1200", "run", 4, 1200.0), commit("r/s900", "run", 5, 900.0)];
    assert_eq!(taken(&run, &latest()), "r/s900");
    let selection = chosen_of(&run, &latest()).unwrap();
    let ranked: Vec<_> = selection.ranked.iter().map(|item| item.candidate.name()).collect();
    assert_eq!(ranked, ["s900", "s1200", "s800"]);
    assert_eq!(selection.rule, "latest (by commit)");
    assert!(selection.reason().contains("commit 5"), "{}", selection.reason());
    // Another directory stands between the steps of the first, which keeps together.
    let with = |other: Draft| [run.to_vec(), vec![other]].concat();
    assert_eq!(taken(&with(commit("copy/s1000", "run", 99, 1000.0)), &latest()), "copy/s1000");
    assert_eq!(taken(&with(commit("copy/s850", "run", 99, 850.0)), &latest()), "r/s900");
    assert_eq!(taken(&with(draft("r/x.pth", &[("step", 901.0)])), &latest()), "r/x.pth");
    // The numbers are those of the directory, whichever run a commit is of.
    assert_eq!(taken(&with(commit("r/s1", "other", 99, 1.0)), &latest()), "r/s1");
    let rule = chosen_of(&with(draft("r/x.pth", &[("step", 1.0)])), &latest()).unwrap().rule;
    assert_eq!(rule, "latest (by step, within one directory by commit)");
}

#[test]
fn by_default_the_source_counts_before_the_epoch() {
    let mut input = draft("input.pth", &[("epoch", 90.0)]);
    input.kind = SourceKind::InputDatasets;
    let mut working = draft("working.pth", &[("epoch", 10.0)]);
    working.kind = SourceKind::Working;
    let drafts = [input, working];
    assert_eq!(taken(&drafts, &Criteria::default()), "working.pth");
    assert_eq!(taken(&drafts, &latest()), "input.pth");
    let reversed = Criteria { priority: vec![SourceKind::InputDatasets], ..Criteria::default() };
    assert_eq!(taken(&drafts, &reversed), "input.pth");
    let only = Criteria { kinds: vec![SourceKind::InputDatasets], ..Criteria::default() };
    assert_eq!(taken(&drafts, &only), "input.pth");
}

#[test]
fn a_damaged_favourite_is_fallen_back_from_and_said() {
    let mut damaged = draft("damaged.pth", &[("epoch", 9.0)]);
    damaged.is_damaged = true;
    let selection =
        chosen_of(&[damaged, draft("sound.pth", &[("epoch", 8.0)]), draft("older.pth", &[("epoch", 7.0)])], &latest())
            .unwrap();
    assert_eq!(selection.selected().unwrap().candidate.path, PathBuf::from("sound.pth"));
    let passed: Vec<_> = selection.fell_back_from().map(|item| item.candidate.name()).collect();
    assert_eq!(passed, ["damaged.pth"]);
}

#[test]
fn a_planted_import_is_never_chosen_unless_allowed() {
    let mut planted = draft("planted.pth", &[("epoch", 9.0)]);
    planted.imports = Some("os.system");
    let selection = chosen_of(std::slice::from_ref(&planted), &latest()).unwrap();
    assert_eq!((selection.taken, selection.nothing()), (None, Nothing::Safe));
    assert!(selection.outcomes[0].reason.contains("os.system"), "{}", selection.outcomes[0].reason);
    let allowed = Expectations { allow_unsafe: true, ..Expectations::default() };
    assert!(select(vec![planted.verified(&allowed)], &latest()).unwrap().selected().is_some());
}

#[test]
fn a_metric_that_may_be_one_of_several_is_asked_for() {
    let drafts = [draft("a.pth", &[("val_accuracy", 0.5)]), draft("b.pth", &[("train_accuracy", 0.9)])];
    let error = chosen_of(&drafts, &best("accuracy")).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid);
    assert!(error.to_string().contains("train_accuracy, val_accuracy"), "{error}");
    assert_eq!(taken(&drafts, &best("val_accuracy")), "a.pth");
}

#[test]
fn what_kept_anything_from_being_selected_is_told_apart() {
    let mut damaged = draft("damaged.pth", &[("epoch", 9.0), ("accuracy", 0.5)]);
    assert_eq!(chosen_of(&[], &latest()).unwrap().nothing(), Nothing::Found);
    let named = Criteria { names: vec!["other*".parse().unwrap()], ..latest() };
    assert_eq!(chosen_of(std::slice::from_ref(&damaged), &named).unwrap().nothing(), Nothing::Found);
    let conditional = Criteria { conditions: vec!["accuracy>=0.8".parse().unwrap()], ..latest() };
    assert_eq!(chosen_of(std::slice::from_ref(&damaged), &conditional).unwrap().nothing(), Nothing::Found);
    damaged.is_damaged = true;
    assert_eq!(chosen_of(&[damaged], &latest()).unwrap().nothing(), Nothing::Valid);
}

#[test]
fn a_negative_epoch_is_an_error_and_epoch_zero_is_not() {
    let verdict = |epoch| draft("a.pth", &[("epoch", epoch)]).verified(&Expectations::default()).verdict;
    assert!(verdict(0.0).is_valid);
    assert_eq!(verdict(-1.0).reason().unwrap().code, Code::BadValue);
}

#[test]
fn missing_keys_and_a_missing_optimizer_are_named() {
    let expected =
        Expectations { keys: vec!["epoch".to_owned(), "model".to_owned()], resumable: true, allow_unsafe: false };
    let verdict = draft("a.pth", &[("epoch", 1.0)]).verified(&expected).verdict;
    let messages: Vec<_> = verdict
        .findings
        .iter()
        .filter(|finding| finding.severity == Severity::Error)
        .map(|finding| finding.message.as_str())
        .collect();
    assert_eq!(messages, ["it lacks the required keys model", "it is inference-only: it holds no model weights"]);
}

#[test]
fn an_older_one_never_replaces_a_newer_one() {
    let verified = |epoch: f64| draft("best.pth", &[("epoch", epoch)]).verified(&Expectations::default());
    let (old, new) = (verified(3.0), verified(7.0));
    assert!(matches!(plan(&old, Existing::Other(&new), false), TransferPlan::Refuse { .. }));
    assert!(matches!(plan(&old, Existing::Other(&new), true), TransferPlan::SetAside { .. }));
    assert!(matches!(plan(&new, Existing::Other(&old), false), TransferPlan::Replace { .. }));
    assert!(matches!(plan(&new, Existing::Other(&verified(7.0)), false), TransferPlan::Refuse { .. }));
    let unknown = draft("best.pth", &[("accuracy", 0.9)]).verified(&Expectations::default());
    assert!(matches!(plan(&new, Existing::Other(&unknown), false), TransferPlan::Refuse { .. }));
    let mut damaged = draft("best.pth", &[("epoch", 9.0)]);
    damaged.is_damaged = true;
    assert!(matches!(
        plan(&new, Existing::Other(&damaged.verified(&Expectations::default())), false),
        TransferPlan::SetAside { .. }
    ));
}

fn any_draft() -> impl Strategy<Value = Draft> {
    let number = prop_oneof![Just(f64::NAN), Just(f64::INFINITY), Just(0.0), Just(-0.0), 0.0..1.0_f64, 0.0..100.0_f64];
    (
        proptest::option::of(0_u32..5),
        proptest::option::of(0_u32..5),
        proptest::option::of(number),
        proptest::sample::select(SourceKind::ALL.to_vec()),
        0_i64..3,
        any::<bool>(),
        proptest::option::of((proptest::sample::select(vec!["one", "two"]), 0_u64..4, 0_i64..3)),
    )
        .prop_map(|(epoch, step, accuracy, kind, modified_ns, is_damaged, commit)| {
            let mut made = draft("x.pth", &[]);
            made.fields.extend(epoch.map(|epoch| ("epoch".to_owned(), f64::from(epoch))));
            made.fields.extend(step.map(|step| ("step".to_owned(), f64::from(step))));
            made.fields.extend(accuracy.map(|accuracy| ("accuracy".to_owned(), accuracy)));
            made.commit = commit.map(|(run, sequence, _)| (run, sequence));
            made.saved_ns = commit.map(|(.., saved_ns)| saved_ns);
            Draft { kind, modified_ns, is_damaged, ..made }
        })
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: Some(Box::new(FileFailurePersistence::Off)), ..ProptestConfig::default() })]

    #[test]
    fn the_choice_does_not_depend_on_the_order(
        mut drafts in proptest::collection::vec(any_draft(), 1..8),
        seed in any::<u64>(),
        rule in 0..3,
    ) {
        for (index, draft) in drafts.iter_mut().enumerate() {
            draft.path = format!("d{}/x{index}.pth", index % 3);
        }
        let criteria = match rule {
            0 => latest(),
            1 => Criteria::default(),
            _ => best("accuracy"),
        };
        let mut shuffled = drafts.clone();
        let count = shuffled.len();
        shuffled.rotate_left(usize::try_from(seed % 7).unwrap() % count);
        if seed % 2 == 0 {
            shuffled.reverse();
        }
        let (one, two) = (chosen_of(&drafts, &criteria), chosen_of(&shuffled, &criteria));
        match (one, two) {
            (Ok(one), Ok(two)) => prop_assert_eq!(
                one.ranked.iter().map(|item| &item.candidate.path).collect::<Vec<_>>(),
                two.ranked.iter().map(|item| &item.candidate.path).collect::<Vec<_>>()
            ),
            (Err(_), Err(_)) => {}
            _ => prop_assert!(false, "an error in one order only"),
        }
    }

    #[test]
    fn within_one_directory_a_later_commit_is_never_behind_an_earlier_one(
        mut drafts in proptest::collection::vec(any_draft(), 1..10),
    ) {
        for (index, draft) in drafts.iter_mut().enumerate() {
            draft.path = format!("d{}/x{index}.pth", index % 2);
            // One directory is of one kind.
            draft.kind = SourceKind::Path;
        }
        let ranked = chosen_of(&drafts, &latest()).unwrap().ranked;
        for (index, later) in ranked.iter().enumerate() {
            let place = |item: &Verified| item.candidate.path.parent().unwrap().to_owned();
            let mut before = ranked[..index].iter().filter(|item| place(item) == place(later));
            let Some(sequence) = later.inspection.sequence else { continue };
            prop_assert!(before.all(|item| item.inspection.sequence.is_none_or(|before| before >= sequence)));
        }
    }

    #[test]
    fn what_is_selected_is_never_pruned(
        mut drafts in proptest::collection::vec(any_draft(), 1..8),
        now_ns in any::<i64>(),
        drop_damaged in any::<bool>(),
        are_ours in any::<bool>(),
    ) {
        for (index, draft) in drafts.iter_mut().enumerate() {
            draft.path = format!("{index}.pth");
            draft.kind = SourceKind::Path;
            // A directory of both is decided by `select` itself, in the store.
            draft.commit = are_ours.then_some(("one", index as u64));
        }
        let items: Vec<Item> = drafts.iter().map(|draft| Item::of(&draft.verified(&Expectations::default()))).collect();
        for (rule, criteria) in [("", latest()), ("accuracy:max=1", best("accuracy:max"))] {
            let mut retention = Retention { keep_last: Some(1), drop_damaged, ..Retention::default() };
            retention.keep_best.extend(rule.parse::<Best>());
            let Ok(planned) = plan_to_prune(items.clone(), &retention, now_ns) else { continue };
            // Damaged ones have a say in how the others are compared, until they are gone.
            let is_gone = |draft: &Draft| draft.is_damaged && planned.dropped().any(|item| item.name == draft.path);
            let left: Vec<Draft> = drafts.iter().filter(|draft| !is_gone(draft)).cloned().collect();
            let Ok(selection) = chosen_of(&left, &criteria) else { continue };
            // Where no value can be compared there is no best: `select` says so in a warning.
            let is_by_position = selection.warnings.iter().any(|warning| warning.contains("by position alone"));
            if let Some(chosen) = selection.selected().filter(|_| !is_by_position) {
                let name = chosen.candidate.path.display().to_string();
                let value = |metrics: &[Metric]| metrics.iter().map(|metric| metric.value).next();
                let equals = |item: &Item| !rule.is_empty() && value(&item.metrics) == value(&chosen.inspection.metrics);
                prop_assert!(planned.kept().any(|item| item.name == name || equals(item)), "{rule}: {name} goes");
            }
        }
    }

    #[test]
    fn what_is_chosen_is_valid_and_has_the_best_finite_value(mut drafts in proptest::collection::vec(any_draft(), 1..8)) {
        for (index, draft) in drafts.iter_mut().enumerate() {
            draft.path = format!("{index}.pth");
        }
        let Ok(selection) = chosen_of(&drafts, &best("accuracy:max")) else { return Ok(()) };
        let Some(chosen) = selection.selected() else {
            prop_assert!(drafts.iter().all(|draft| draft.is_damaged));
            return Ok(());
        };
        prop_assert!(chosen.verdict.is_valid);
        let value = |item: &Verified| item.inspection.metrics.first().map(|metric| metric.value).filter(|value| (0.0..=1.0).contains(value));
        if let Some(value_chosen) = value(chosen) {
            for rival in selection.ranked.iter().filter(|item| item.verdict.is_valid) {
                prop_assert!(value(rival).is_none_or(|value| value <= value_chosen));
            }
        }
    }
}
