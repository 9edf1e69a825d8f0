#![allow(clippy::disallowed_methods, reason = "fixtures are read from disk")]

use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::error::ErrorKind;

fn fixture(path: &str) -> History {
    let root = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/fixtures/");
    parse(path, &std::fs::read(format!("{root}{path}")).unwrap()).unwrap()
}

fn read(text: &str) -> History {
    parse("h", text.as_bytes()).unwrap()
}

fn kind(text: &str) -> ErrorKind {
    parse("h", text.as_bytes()).unwrap_err().kind()
}

fn record(value: Value) -> Record {
    let Value::Object(fields) = value else { panic!("no object") };
    Record::new(fields)
}

fn lines(history: &History) -> String {
    to_json_lines(history.records())
}

fn epochs(records: &[Record]) -> Vec<f64> {
    records.iter().filter_map(|record| record.epoch().map(Epoch::get)).collect()
}

fn column(history: &History, name: &str) -> Vec<Value> {
    history.records().iter().filter_map(|record| record.get(name).cloned()).collect()
}

#[test]
fn the_same_history_is_read_from_every_kind_of_file() {
    let list = fixture("history/list.json");
    assert_eq!(list.records().len(), 10);
    assert_eq!(list.warnings(), [""; 0]);
    for other in ["columns.json", "wrapped.json", "lines.jsonl", "table.csv"] {
        assert_eq!(fixture(&format!("history/{other}")), list, "{other}");
    }
}

#[test]
fn a_cut_off_last_line_is_left_out() {
    let history = fixture("history/lines_cut.jsonl");
    assert_eq!(epochs(history.records()), [0.0, 1.0, 2.0, 3.0, 4.0]);
    assert_eq!(history.warnings(), ["the last line was left out: it is cut off"]);
}

#[test]
fn rows_of_training_and_validation_become_one_record() {
    let history = fixture("history/lightning_metrics.csv");
    assert_eq!(
        to_csv(history.records()),
        "epoch,step,train_loss,val_acc,val_loss\n0,15,1.0,0.6,1.0\n1,31,0.5,0.625,0.5\n2,47,0.3333,0.65,0.3333\n\
         3,63,0.25,0.675,0.25\n"
    );
    assert_eq!((history.superseded(), history.warnings().len()), (0, 0));
}

#[test]
fn entries_of_one_step_of_a_trainer_state_become_one_record() {
    for (path, steps) in [
        ("hf/run/checkpoint-4/trainer_state.json", vec![2, 4]),
        ("hf/run/checkpoint-8/trainer_state.json", vec![2, 4, 6, 8]),
        ("history/trainer_state.json", vec![2, 4, 6, 8]),
    ] {
        let history = fixture(path);
        let found: Vec<u64> = history.records().iter().map(|record| record.step().unwrap().0).collect();
        assert_eq!(found, steps, "{path}");
        assert_eq!(history.superseded(), 0);
        let fourth = &history.records()[1];
        assert_eq!(fourth.epoch(), Epoch::new(1.0));
        assert_eq!(fourth.get("loss"), Some(&json!(0.6897962093353271)));
        assert_eq!(fourth.get("eval_loss"), Some(&json!(0.6824442148208618)));
    }
}

#[test]
fn the_state_of_a_trainer_is_no_history_but_may_hold_one() {
    let state =
        r#"{"rng": [1, 2, 3], "loader": {"next": 4}, "history": [{"epoch": 0, "loss": 1}, {"epoch": 1, "loss": 2}]}"#;
    assert_eq!(epochs(read(state).records()), [0.0, 1.0]);
    for without in
        [r#"{"rng": [1, 2, 3], "loader": null}"#, r#"{"loader": {}, "seeds": [7]}"#, r#"{"rng": {}, "history": []}"#]
    {
        let history = read(without);
        assert_eq!((history.records().len(), history.warnings().len()), (0, 0), "{without}");
    }
    assert_eq!(epochs(read(r#"{"epoch": [0, 1], "loader": [0.1, 0.2]}"#).records()), [0.0, 1.0], "seconds spent there");
}

#[test]
fn results_of_ultralytics_are_read() {
    let history = fixture("ultralytics/train/results.csv");
    let records = history.records();
    assert_eq!(history.warnings(), [""; 0]);
    assert_eq!(epochs(records), (1..=i32::try_from(records.len()).unwrap()).map(f64::from).collect::<Vec<_>>());
    assert_eq!(records[7].get("metrics/mAP50-95(B)"), Some(&json!(0.0049)));
    assert_eq!(fixture("history/results.csv"), history);
    // Older versions pad their columns.
    let padded = read("   epoch,  train/box_loss\n       0,          1.25\n");
    assert_eq!(lines(&padded), "{\"epoch\":0,\"train/box_loss\":1.25}\n");
}

#[test]
fn nan_is_read_and_a_null_is_filled() {
    let history = fixture("history/nan_gap_duplicate.json");
    assert_eq!(epochs(history.records()), [0.0, 1.0, 3.0]);
    assert!(json::number(&column(&history, "train_loss")[0]).unwrap().is_nan());
    assert_eq!(column(&history, "val_acc"), [json!(0.6), json!(0.625), json!(0.675)]);
    assert_eq!(history.superseded(), 0);
    assert_eq!(merge(vec![Source::new("a", 0, history)], None).gaps, [(2, 2)]);
}

#[test]
fn columns_count_from_zero_unless_keras_tells_the_epochs() {
    assert_eq!(epochs(read(r#"{"loss": [3, 2], "params": {"epochs": 2}}"#).records()), [0.0, 1.0]);
    assert_eq!(epochs(read(r#"{"epoch": [5, 6], "history": {"loss": [3, 2]}}"#).records()), [5.0, 6.0]);
    assert_eq!(
        lines(&read(r#"{"step": [5, 6], "loss": [3, 2]}"#)),
        "{\"step\":5,\"loss\":3}\n{\"step\":6,\"loss\":2}\n"
    );
    let ragged = read(r#"{"loss": [3, 2, 1], "val": [7]}"#);
    assert_eq!((ragged.records().len(), ragged.warnings().len()), (3, 1));
    assert_eq!(read(r#"{"loss": [], "val": []}"#).records(), []);
    let named = read(r#"{"history": [3, 2], "loss": [1, 0], "acc": [5, 6]}"#);
    assert_eq!(to_csv(named.records()), "epoch,history,loss,acc\n0,3,1,5\n1,2,0,6\n");
}

#[test]
fn a_single_record_with_a_list_is_no_columns() {
    assert_eq!(read(r#"{"epoch": 7, "loss": 0.5, "per_class": [0.1, 0.2]}"#).records().len(), 1);
    assert_eq!(read(r#"{"epoch": 2, "train_loss": [0.5, 0.4]}"#).records().len(), 2);
    assert_eq!(read(r#"{"epoch": 2, "train_loss": [0.5, 0.4, 0.3]}"#).records().len(), 3);
}

#[test]
fn a_record_glued_to_a_cut_off_one_is_kept() {
    let history = read(
        "{\"epoch\": 0, \"loss\": 3}\n{\"epoch\": 1, \"lo{\"epoch\": 1, \"loss\": 2}\n\
         {\"epoch\": 2, \"loss\": 1}{\"epoch\": 3, \"loss\": NaN}\n{\"epoch\": 4, \"val\": {\"acc\": 1}",
    );
    assert_eq!(epochs(history.records()), [0.0, 1.0, 2.0, 3.0]);
    assert_eq!(
        history.warnings(),
        ["the last line was left out: it is cut off", "cut-off records left out, with another on the same line: 1"]
    );
}

#[test]
fn tables_of_other_loggers_are_read() {
    let keras = read("epoch;loss;run\n0;nan;007\n1;.5;007\n");
    assert_eq!(
        lines(&keras),
        "{\"epoch\":0,\"loss\":\"nan\",\"run\":\"007\"}\n{\"epoch\":1,\"loss\":0.5,\"run\":\"007\"}\n"
    );
    let quoted =
        read("\u{feff}epoch,\"note, long\",loss\r\n0,\"a \"\"b\"\", c\",1e-3\r\nepoch,\"note, long\",loss\r\n");
    assert_eq!(lines(&quoted), "{\"epoch\":0,\"note, long\":\"a \\\"b\\\", c\",\"loss\":0.001}\n");
    let pandas = read(",epoch,loss,loss\n0,4,0.5,0.6\n1,5,0.25,0.3,9\n");
    assert_eq!(lines(&pandas), "{\"epoch\":4,\"loss\":0.5}\n{\"epoch\":5,\"loss\":0.25}\n");
    assert_eq!(pandas.warnings().len(), 2);
}

#[test]
fn a_cut_off_last_row_is_left_out_and_a_doubtful_one_is_told() {
    let cut = read("epoch,loss,acc\n0,0.5,0.1\n1,0.4");
    assert_eq!((epochs(cut.records()), cut.warnings().len()), (vec![0.0], 1));
    let doubtful = read("epoch,loss,acc\n0,0.5,0.1\n1,0.4,0.");
    assert_eq!((epochs(doubtful.records()), doubtful.warnings().len()), (vec![0.0, 1.0], 1));
    let mut bytes = "epoch,note,acc\n0,a,0.1\n1,\u{e9}".as_bytes().to_vec();
    bytes.pop();
    assert_eq!(epochs(parse("h", &bytes).unwrap().records()), [0.0]);
}

#[test]
fn what_is_no_history_is_refused() {
    assert_eq!(kind("[{\"epoch\": 0}, {\"ep"), ErrorKind::Incomplete);
    assert_eq!(kind("{\"log_history\": [\n  {\n    \"epoch\": 1,\n    \"val\": {}\n  },\n"), ErrorKind::Incomplete);
    assert_eq!(kind("[{\"epoch\" 0}]"), ErrorKind::Corrupt);
    for other in
        ["[1, 2]", "{\"lr\": 0.1}", "{\"architectures\": [\"Bert\"]}", "To be, or\nnot to be", "0,1.5\n1,1.25\n"]
    {
        assert_eq!(kind(other), ErrorKind::Unsupported, "{other}");
    }
    assert_eq!(parse("h", b"PK\x03\x04\xff\xfe,").unwrap_err().kind(), ErrorKind::Unsupported);
    assert_eq!(parse("h.json", b"[1]").unwrap_err().to_string(), "no training history in `h.json`");
    // A journal that was opened, and nothing written into it yet.
    assert_eq!((read(" \n").records().len(), read("").warnings().len()), (0, 1));
    assert_eq!(read("[]").records(), []);
    assert_eq!(read("epoch,loss\n").records(), []);
}

#[test]
fn a_journal_that_goes_back_drops_the_abandoned_branch() {
    let history = read(
        "{\"epoch\":0,\"loss\":9}\n{\"epoch\":1,\"loss\":8}\n{\"epoch\":2,\"loss\":7}\n{\"epoch\":3,\"loss\":6}\n\
         {\"epoch\":1,\"loss\":5}\n",
    );
    assert_eq!(lines(&history), "{\"epoch\":0,\"loss\":9}\n{\"epoch\":1,\"loss\":5}\n");
    assert_eq!(history.superseded(), 3);
    assert_eq!(history.warnings(), ["records left out, as the run went back and recorded anew: 3"]);

    let steps = History::new([1, 2, 3, 2].map(|step| record(json!({"step": step, "loss": 0}))));
    assert_eq!((steps.records().len(), steps.superseded()), (3, 0), "the same values contradict nothing");
    let steps = [(1, 9), (2, 8), (3, 7), (2, 6)].map(|(step, loss)| record(json!({"step": step, "loss": loss})));
    assert_eq!(column(&History::new(steps), "loss"), [json!(9), json!(6)]);
}

#[test]
fn a_row_that_replaces_another_joins_what_it_no_longer_contradicts() {
    let history = History::new([
        record(json!({"epoch": 0, "acc": 0})),
        record(json!({"epoch": 0, "step": 9, "acc": 1})),
        record(json!({"epoch": 0, "acc": 1, "loss": 2})),
    ]);
    assert_eq!(lines(&history), "{\"epoch\":0,\"step\":9,\"acc\":1,\"loss\":2}\n");
    assert_eq!(history.superseded(), 1);
}

#[test]
fn rows_that_only_look_alike_are_not_joined() {
    let phases = read("epoch,phase,loss,time\n0,train,9,1\n0,val,8,2\n1,train,7,3\n1,val,6,4\n");
    assert_eq!((phases.records().len(), phases.superseded()), (4, 0));
    // Clocks differ in every row.
    let timed = History::new([
        record(json!({"epoch": 0, "loss": 1, "timestamp": 10})),
        record(json!({"epoch": 0, "acc": 2, "timestamp": 11})),
    ]);
    assert_eq!(lines(&timed), "{\"epoch\":0,\"loss\":1,\"timestamp\":11,\"acc\":2}\n");
    // Neither epoch nor step: nothing collapses.
    assert_eq!(read(r#"[{"loss": 1}, {"loss": 2}, {"loss": 1}]"#).records().len(), 3);
}

#[test]
fn rows_that_know_less_join_those_that_know_more() {
    // Lightning logs the learning rate by step, the epoch's mean without contradicting the steps.
    let history = History::new([
        record(json!({"step": 10, "lr": 0.1})),
        record(json!({"epoch": 0, "step": 10, "loss": 5})),
        record(json!({"epoch": 0, "step": 20, "loss": 4})),
        record(json!({"epoch": 0, "val": 3})),
        record(json!({"epoch": 0, "loss": 4.5})),
    ]);
    assert_eq!(
        lines(&history),
        "{\"step\":10,\"lr\":0.1,\"epoch\":0,\"loss\":5}\n{\"epoch\":0,\"step\":20,\"loss\":4,\"val\":3}\n\
         {\"epoch\":0,\"loss\":4.5}\n"
    );
    assert_eq!(history.superseded(), 0);
}

fn losses(epochs: impl IntoIterator<Item = i32>, loss: f64) -> History {
    History::new(epochs.into_iter().map(|epoch| record(json!({"epoch": epoch, "loss": loss}))))
}

fn of(merged: &Merged) -> Vec<(f64, &str)> {
    merged.entries.iter().map(|entry| (entry.record.epoch().unwrap().get(), &*entry.source)).collect()
}

#[test]
fn without_a_resume_point_only_duplicates_are_dropped() {
    let merged =
        merge(vec![Source::new("old", 2, losses(0..5, 1.0)), Source::new("new", 0, losses([2, 3, 7], 0.5))], None);
    let expected = [(0.0, "old"), (1.0, "old"), (2.0, "new"), (3.0, "new"), (4.0, "old"), (7.0, "new")];
    assert_eq!(of(&merged), expected);
    assert_eq!((merged.duplicates, merged.cut, merged.undecided), (2, 0, 0));
    assert_eq!(merged.gaps, [(5, 6)]);
    let conflict = &merged.conflicts[0];
    assert_eq!((merged.conflicts.len(), conflict.epoch, &*conflict.kept), (2, Epoch::new(2.0), "new"));
    assert_eq!(conflict.passed_over.iter().map(|label| &**label).collect::<Vec<_>>(), ["old"]);
    assert!(conflict.fields.contains("loss") && conflict.fields.len() == 1);
}

#[test]
fn the_branch_that_a_run_left_behind_is_dropped() {
    let mut now = Source::new("now", 0, losses([4], 0.1));
    now.resumed_at = now.history.implied_resume();
    assert_eq!(now.resumed_at, Some(ResumePoint::of_epoch(3.into())));
    let mut before = Source::new("before", 1, losses(2..8, 0.5));
    before.resumed_at = before.history.implied_resume();
    let first = Source::new("first", 2, losses(0..9, 1.0));
    let merged = merge(vec![first, before, now], None);
    assert_eq!(of(&merged), [(0.0, "first"), (1.0, "first"), (2.0, "before"), (3.0, "before"), (4.0, "now")]);
    assert_eq!((merged.cut, merged.duplicates), (4 + 7, 0));
    assert_eq!(losses(1..3, 0.1).implied_resume(), None);
}

#[test]
fn a_cut_applies_to_every_source() {
    let sources = vec![Source::new("a", 0, losses(0..5, 1.0)), Source::new("b", 1, losses(3..9, 1.0))];
    let merged = merge(sources, Some(ResumePoint::of_epoch(3.into())));
    assert_eq!(of(&merged), [(0.0, "a"), (1.0, "a"), (2.0, "a"), (3.0, "a")]);
    assert_eq!((merged.cut, merged.duplicates), (6, 1));
    assert_eq!(merged.conflicts, []);
}

#[test]
fn a_cut_within_an_epoch_goes_by_step() {
    let steps = [(0, 10), (1, 20), (1, 30), (2, 40)].map(|(epoch, step)| record(json!({"epoch": epoch, "step": step})));
    let history = History::new(steps.into_iter().chain([record(json!({"step": 25})), record(json!({"loss": 1}))]));
    let point = ResumePoint { epoch: Epoch::new(1.0), step: Some(Step(20)) };
    let merged = merge(vec![Source::new("a", 0, history)], Some(point));
    assert_eq!(to_csv(merged.records()), "epoch,step,loss\n0,10,\n1,20,\n,,1\n");
    assert_eq!((merged.cut, merged.undecided), (3, 1));
}

#[test]
fn an_epoch_recorded_by_step_comes_from_one_source() {
    let steps = |steps: &[u64], loss: f64| {
        History::new(steps.iter().map(|step| record(json!({"epoch": 0, "step": step, "loss": loss}))))
    };
    let sources = vec![Source::new("b", 1, steps(&[10, 20, 30], 2.0)), Source::new("a", 1, steps(&[10, 15], 1.0))];
    let merged = merge(sources, None);
    assert_eq!(of(&merged), [(0.0, "a"), (0.0, "a")]);
    assert_eq!((merged.duplicates, merged.conflicts.len()), (3, 1));
    // Values of different steps are no conflict.
    let sources = vec![Source::new("a", 0, steps(&[10], 1.0)), Source::new("b", 1, steps(&[20], 2.0))];
    assert_eq!(merge(sources, None).conflicts, []);
}

#[test]
fn fractions_of_an_epoch_leave_no_gap() {
    let merged = merge(vec![Source::new("hf", 0, fixture("history/trainer_state.json"))], None);
    assert_eq!((merged.gaps, merged.entries.len()), (vec![], 4));
}

#[test]
fn what_cannot_be_a_number_in_json_stays_a_text() {
    let history = read("[{\"epoch\": 0, \"loss\": NaN, \"top\": [1, 2], \"none\": null}]");
    assert_eq!(to_json(history.records()), "[\n{\"epoch\":0,\"loss\":\"NaN\",\"top\":[1,2],\"none\":null}\n]\n");
    assert_eq!(to_csv(history.records()), "epoch,loss,top,none\n0,NaN,\"[1,2]\",\n");
    let nothing: [&Record; 0] = [];
    assert_eq!((to_json(nothing), to_csv(nothing)), ("[]\n".to_owned(), String::new()));
}

#[test]
fn going_back_again_and_again_takes_linear_time() {
    // n records by step that no epoch can drop, and n epochs that each go back: a rule that looks at all records for
    // each of them would need 10^10 comparisons here.
    let n = 100_000_u32;
    let steps = (0..n).map(|step| record(json!({"step": step})));
    let forth = (0..n).map(|epoch| record(json!({"epoch": epoch, "loss": 1})));
    let back = (0..n).rev().map(|epoch| record(json!({"epoch": epoch, "loss": 2})));
    let history = History::new(steps.chain(forth).chain(back));
    assert_eq!((history.records().len(), history.superseded()), (n as usize + 1, 2 * n as usize - 1));
}

fn a_record() -> impl Strategy<Value = Record> {
    let key = |top: i64| proptest::option::weighted(0.8, -1..top);
    let phase = proptest::option::weighted(0.2, prop_oneof![Just("train"), Just("val")]);
    (key(6), key(4), phase, proptest::option::of(0..3_i64), proptest::option::of(0..3_i64)).prop_map(
        |(epoch, step, phase, loss, acc)| {
            let fields = [
                ("epoch", epoch.map(Value::from)),
                ("step", step.map(|step| Value::from(step.unsigned_abs()))),
                ("phase", phase.map(Value::from)),
                ("loss", loss.map(Value::from)),
                ("acc", acc.map(Value::from)),
            ];
            Record::new(fields.into_iter().filter_map(|(name, value)| Some((name, value?))))
        },
    )
}

fn a_point() -> impl Strategy<Value = Option<ResumePoint>> {
    let point = (0..6_i32, proptest::option::of(0..4_u64))
        .prop_map(|(epoch, step)| ResumePoint { epoch: Some(epoch.into()), step: step.map(Step) });
    proptest::option::of(point)
}

/// Sources of different priorities in any order.
fn sources() -> impl Strategy<Value = Vec<Source>> {
    let source = (proptest::collection::vec(a_record(), 0..12), a_point());
    proptest::collection::vec(source, 0..5)
        .prop_map(|sources| {
            let numbered = sources.into_iter().zip(0_u32..);
            numbered
                .map(|((records, resumed_at), priority)| Source {
                    resumed_at,
                    ..Source::new(format!("s{priority}"), priority, History::new(records))
                })
                .collect::<Vec<_>>()
        })
        .prop_shuffle()
}

proptest! {
    #[test]
    fn a_merge_does_not_depend_on_the_order_of_its_sources(one in sources(), cut in a_point(), seed in any::<u64>()) {
        let mut other = one.clone();
        let count = other.len().max(1);
        other.rotate_left(usize::try_from(seed % 7).unwrap() % count);
        if seed % 2 == 0 {
            other.reverse();
        }
        prop_assert_eq!(merge(one, cut), merge(other, cut));
    }

    #[test]
    fn no_epoch_comes_from_two_sources_and_no_moment_twice(sources in sources(), cut in a_point()) {
        let total: usize = sources.iter().map(|source| source.history.records().len()).sum();
        let merged = merge(sources, cut);
        prop_assert_eq!(merged.entries.len() + merged.duplicates + merged.cut, total);
        let mut owners = HashMap::new();
        let mut moments = std::collections::HashSet::new();
        for entry in &merged.entries {
            let epoch = entry.record.epoch().map(|epoch| epoch.get().to_bits());
            let step = entry.record.step();
            if epoch.or(step.map(|step| step.0)).is_some() {
                prop_assert!(moments.insert((epoch, step, entry.record.series())));
                let place = (epoch, step.filter(|_| epoch.is_none()));
                prop_assert_eq!(owners.entry(place).or_insert(&entry.source), &&entry.source);
            }
            if let Some(point) = cut {
                prop_assert_ne!(entry.record.is_after(&point), Some(true));
            }
        }
        prop_assert!(epochs(&merged.records().cloned().collect::<Vec<_>>()).is_sorted());
    }

    #[test]
    fn merging_a_merge_again_changes_nothing(sources in sources(), cut in a_point()) {
        let once = merge(sources, cut);
        let again = merge(vec![Source::new("again", 0, once.clone().into_history())], cut);
        prop_assert_eq!(once.records().collect::<Vec<_>>(), again.records().collect::<Vec<_>>());
        prop_assert_eq!((again.duplicates, again.cut, again.conflicts.len()), (0, 0, 0));
        prop_assert_eq!(once.gaps, again.gaps);
    }

    #[test]
    fn merging_a_written_merge_with_its_sources_adds_nothing(mut sources in sources()) {
        for source in &mut sources {
            source.resumed_at = None;
            source.priority += 1;
            // Records with neither epoch nor step cannot be told apart and would come twice.
            source.history.records.retain(|record| record.epoch().is_some() || record.step().is_some());
        }
        let once = merge(sources.clone(), None);
        let written = parse("h", to_json(once.records()).as_bytes()).unwrap();
        sources.push(Source::new("written", 0, written));
        let again = merge(sources, None);
        prop_assert_eq!(once.records().collect::<Vec<_>>(), again.records().collect::<Vec<_>>());
    }

    #[test]
    fn what_is_written_is_read_back(records in proptest::collection::vec(a_record(), 1..12), loss in any::<f64>()) {
        let first = Record::new([("epoch", json!(0)), ("loss", json!(loss))]);
        let history = History::new(records.into_iter().chain([first]));
        for text in [to_json(history.records()), to_json_lines(history.records())] {
            let back = parse("h", text.as_bytes()).unwrap();
            prop_assert_eq!(back.records(), history.records());
        }
        // A table keeps the values, not each record's order of fields.
        let back = parse("h", to_csv(history.records()).as_bytes()).unwrap();
        let sorted = |history: &History| -> Vec<Vec<(String, Value)>> {
            let fields = |record: &Record| record.fields().map(|(name, value)| (name.to_owned(), value.clone())).collect();
            let mut records: Vec<Vec<_>> = history.records().iter().map(fields).collect();
            records.iter_mut().for_each(|fields| fields.sort_by(|one, other| one.0.cmp(&other.0)));
            records
        };
        prop_assert_eq!(sorted(&back), sorted(&history));
    }

    #[test]
    fn no_bytes_make_the_parser_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200), text in "[\\[{\"epoch:,\\]}0-9. \n]{0,80}") {
        let _: Result<History, _> = parse("h", &bytes);
        let _: Result<History, _> = parse("h", text.as_bytes());
    }
}
