//! Windows: which batches they cover, when they fire, what follows them.

use super::*;
use crate::state::StageState;
use crate::window::Contents;
use proptest::prelude::*;

/// What batches of lines `user,product,price`, each a block, give at the first output; none where it does not fire.
fn fired(plan: &Arc<JobPlan>, tasks: u32, batches: &[Vec<String>]) -> Vec<Option<Vec<String>>> {
    let mut evaluator = Evaluator::new(plan.clone(), tasks).unwrap();
    let batches = batches.iter().enumerate().map(|(i, lines)| {
        let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
        block_on(evaluator.batch_json(&context(i as u64 + 1), &blocks(&lines))).unwrap().remove(0)
    });
    batches.collect()
}

fn lines(batches: &[&[&str]]) -> Vec<Vec<String>> {
    batches.iter().map(|lines| lines.iter().map(|line| format!("{line}\n")).collect()).collect()
}

fn shown(fired: Vec<Option<Vec<String>>>) -> Vec<String> {
    fired.into_iter().map(|rows| rows.map_or("-".into(), |rows| rows.join(" "))).collect()
}

fn messages(streams: &str) -> Vec<String> {
    let found = compile_in(&definition(streams), Path::new(".")).unwrap_err();
    found.iter().map(|mistake| mistake.message.clone()).collect()
}

const FIVE: &[&[&str]] = &[&["a,x,1", "b,y,2", "a,x,3"], &["b,x,4"], &[], &["c,x,5"], &[]];

fn five(stream: &str) -> Vec<String> {
    let plan = plan(&format!("[stream.out]\nfrom = \"purchases\"\n{stream}"));
    let batches = lines(FIVE);
    let all = shown(fired(&plan, 1, &batches));
    assert_eq!(shown(fired(&plan, 5, &batches)), all, "{stream}");
    all
}

#[test]
fn rows_of_a_window_come_batch_by_batch() {
    let a1 = r#"{"user":"a","product":"x","price":1.0}"#;
    let b2 = r#"{"user":"b","product":"y","price":2.0}"#;
    let a3 = r#"{"user":"a","product":"x","price":3.0}"#;
    let b4 = r#"{"user":"b","product":"x","price":4.0}"#;
    let c5 = r#"{"user":"c","product":"x","price":5.0}"#;
    let first = format!("{a1} {b2} {a3}");
    let two = format!("{first} {b4}");
    assert_eq!(five("window = { length = \"2s\" }"), [&first, &two, b4, c5, c5]);
    assert_eq!(five("window = { length = \"2s\", slide = \"2s\" }"), ["-", &two, "-", c5, "-"]);
    assert_eq!(five("window = { length = \"1s\", slide = \"2s\" }"), ["-", b4, "-", c5, "-"]);
    assert_eq!(five("slice = { from = \"0s\", to = \"2s\" }"), ["-", &two, "-", "-", "-"]);
    assert_eq!(five("slice = { from = \"2s\", to = \"3.5s\" }"), ["-", "-", "-", b4, "-"]);
}

#[test]
fn aggregates_over_windows() {
    assert_eq!(
        five("count_by_window = { length = \"2s\", slide = \"2s\" }"),
        ["-", r#"{"count":4}"#, "-", r#"{"count":1}"#, "-"]
    );
    assert_eq!(five("count_by_window = { length = \"1s\" }")[2], r#"{"count":0}"#);
    let sum = "reduce_by_window = { aggregates = { s = \"sum(price)\" }, length = \"1s\" }";
    assert_eq!(five(sum), [r#"{"s":6.0}"#, r#"{"s":4.0}"#, "", r#"{"s":5.0}"#, ""]);
    let by_user = "reduce_by_key_and_window = { key = \"user\", length = \"2s\", aggregates = { s = \"sum(price)\", \
                   p = \"count(distinct product)\", m = \"avg(price)\" }";
    let rows = five(&format!("{by_user} }}"));
    assert_eq!(rows[1], r#"{"user":"a","s":4.0,"p":1,"m":2.0} {"user":"b","s":6.0,"p":2,"m":3.0}"#);
    assert_eq!(rows[2], r#"{"user":"b","s":4.0,"p":1,"m":4.0}"#);
    let kept = five(&format!("{by_user}, keep_zero_keys = true }}"));
    assert_eq!(kept[1], rows[1]);
    assert_eq!(
        kept[4],
        r#"{"user":"a","s":null,"p":0,"m":null} {"user":"b","s":null,"p":0,"m":null} {"user":"c","s":5.0,"p":1,"m":5.0}"#
    );
}

/// What a job over [`FIVE`] gives, whatever the number of tasks.
fn streams(streams: &str) -> Vec<String> {
    let plan = plan(streams);
    let batches = lines(FIVE);
    let all = shown(fired(&plan, 1, &batches));
    assert_eq!(shown(fired(&plan, 5, &batches)), all, "{streams}");
    all
}

const PER_USER: &str = "[stream.per_user]\nfrom = \"purchases\"\nreduce_by_key = { key = \"user\", aggregates = { \
                        n = \"count(*)\" } }\n";

#[test]
fn windows_of_several_streams() {
    let both = "[stream.both]\nfrom = [\"some\", \"others\"]\nunion = true\n[stream.out]\nfrom = \"both\"\n";
    let some =
        "[stream.some]\nfrom = \"purchases\"\nselect = { user = \"user\", n = \"10 * cast(price as bigint)\" }\n";
    let others = "[stream.others]\nfrom = \"per_user\"\nselect = { user = \"user\", n = \"n\" }\n";
    let window = "window = { length = \"2s\", slide = \"2s\" }\n";
    let row = |user: &str, n: i64| format!("{{\"user\":\"{user}\",\"n\":{n}}}");
    // Without keys as one: in each batch the rows of one stream, then those of the other.
    let mixed = streams(&format!("{PER_USER}{some}{others}{both}{window}"));
    let (first, second) = ([row("a", 10), row("b", 20), row("a", 30)].join(" "), [row("b", 40), row("b", 1)].join(" "));
    assert!(mixed[1].starts_with(&first) && mixed[1].ends_with(&second), "{mixed:?}");
    assert_eq!((&mixed[0], &mixed[3]), (&"-".to_string(), &[row("c", 50), row("c", 1)].join(" ")));
    // With keys: by key, and of one key batch by batch.
    let keyed = some.replace("purchases", "per_user").replace("cast(price as bigint)", "n");
    let keyed = streams(&format!("{PER_USER}{keyed}{others}{both}{window}"));
    assert_eq!(keyed[1], [row("a", 20), row("a", 2), row("b", 10), row("b", 1), row("b", 10), row("b", 1)].join(" "));
    let counted = streams(&format!("{PER_USER}{some}{others}{both}count_by_window = {{ length = \"2s\" }}"));
    assert_eq!(counted, ["5", "7", "2", "2", "2"].map(|n| format!("{{\"count\":{n}}}")));
}

#[test]
fn streams_over_windows_that_fire_together() {
    let last = |name: &str, length: &str| {
        format!("[stream.{name}]\nfrom = \"purchases\"\nwindow = {{ length = \"{length}\", slide = \"2s\" }}\n")
    };
    let (last, longer) = (last("last", "1s"), last("longer", "4s"));
    let joined = "[stream.out]\nfrom = [\"last\", \"longer\"]\nsql = \"select l.user, count(*) as n from last l join \
                  longer r on l.user = r.user group by l.user\"";
    let found = streams(&format!("{last}{longer}{joined}"));
    assert_eq!(found, ["-", r#"{"user":"b","n":2}"#, "-", r#"{"user":"c","n":1}"#, "-"]);
    let all = "[stream.out]\nfrom = [\"last\", \"longer\"]\nunion = true";
    let all = streams(&format!("{last}{longer}{all}"));
    let rows = |batch: &str| if batch == "-" { 0 } else { batch.matches("user").count() };
    assert_eq!(all.iter().map(|batch| rows(batch)).collect::<Vec<_>>(), [0, 5, 0, 6, 0]);
}

#[test]
fn state_over_windows_is_visited_when_they_fire() {
    let last = "[stream.last]\nfrom = \"purchases\"\nwindow = { length = \"1s\", slide = \"2s\" }\n";
    let state = "[stream.state]\nfrom = \"last\"\nmap_with_state = { key = \"user\", timeout = \"1s\", initial = \"s.csv\", \
                 state = { n = \"coalesce(state.n, 0) + 1\" }, emit = { user = \"user\", gone = \"timing_out\" } }\n";
    let snapshots = "[stream.all]\nfrom = \"state\"\nstate_snapshots = true\n";
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("s.csv"), "user,n\na,5\n").unwrap();
    let of = |output: &str| {
        let renamed = format!("{last}{state}{snapshots}").replace(&format!("[stream.{output}]"), "[stream.out]");
        let renamed = renamed.replace(&format!("from = \"{output}\""), "from = \"out\"");
        let plan = Arc::new(compile_in(&definition(&renamed), folder.path()).unwrap());
        let found = shown(fired(&plan, 1, &lines(FIVE)));
        assert_eq!(shown(fired(&plan, 5, &lines(FIVE))), found);
        found
    };
    let gone = |user: &str, gone: bool| format!("{{\"user\":\"{user}\",\"gone\":{gone}}}");
    let rows = [gone("a", true), gone("b", true), gone("c", false)].join(" ");
    assert_eq!(of("state"), ["-", &gone("b", false), "-", &rows, "-"]);
    assert_eq!(of("all"), ["-", r#"{"user":"a","n":5} {"user":"b","n":1}"#, "-", r#"{"user":"c","n":1}"#, "-"]);
}

#[test]
fn values_and_lists_over_windows() {
    let select = "select = { p = \"product\" }\n[stream.out]\nfrom = \"p\"\n";
    let count =
        plan(&format!("[stream.p]\nfrom = \"purchases\"\n{select}count_by_value_and_window = {{ length = \"2s\" }}"));
    assert_eq!(shown(fired(&count, 3, &lines(FIVE)))[1], r#"{"p":"x","count":3} {"p":"y","count":1}"#);
    let lists = five("group_by_key_and_window = { key = \"user\", values = \"price\", length = \"2s\" }");
    assert_eq!(lists[1], r#"{"user":"a","price":[1.0,3.0]} {"user":"b","price":[2.0,4.0]}"#);
    let all = five("group_by_key_and_window = { key = \"user\", length = \"2s\" }");
    assert_eq!(all[2], r#"{"user":"b","product":["x"],"price":[4.0]}"#);
}

#[test]
fn what_follows_a_window_fires_with_it() {
    let over = |stream: &str| {
        let plan = plan(&format!(
            "[stream.w]\nfrom = \"purchases\"\nwindow = {{ length = \"2s\", slide = \"2s\" }}\n\
             [stream.out]\nfrom = \"w\"\n{stream}"
        ));
        shown(fired(&plan, 3, &lines(FIVE)))
    };
    assert_eq!(over("count = true"), ["-", r#"{"count":4}"#, "-", r#"{"count":1}"#, "-"]);
    assert_eq!(over("sql = \"select count(*) as n from w\""), ["-", r#"{"n":4}"#, "-", r#"{"n":1}"#, "-"]);
    let sum = "aggregates = { s = \"sum(price)\" }";
    assert_eq!(
        over(&format!("reduce_by_key = {{ key = \"product\", {sum} }}"))[1],
        r#"{"product":"x","s":8.0} {"product":"y","s":2.0}"#
    );
    assert_eq!(over("reduce = { s = \"sum(price)\" }")[3], r#"{"s":5.0}"#);
    assert_eq!(over("distinct = true")[3], r#"{"user":"c","product":"x","price":5.0}"#);
    let state = "update_state_by_key = { key = \"user\", state = { n = \"coalesce(state.n, 0) + count(*)\" } }";
    assert_eq!(over(state)[3], r#"{"user":"a","n":2} {"user":"b","n":2} {"user":"c","n":1}"#);
    let wider = over("count_by_window = { length = \"4s\" }");
    assert_eq!(wider, ["-", r#"{"count":4}"#, "-", r#"{"count":5}"#, "-"]);
}

#[test]
fn a_window_of_keyed_rows_keeps_their_order() {
    let plan = plan(
        "[stream.s]\nfrom = \"purchases\"\nreduce_by_key = { key = \"user\", aggregates = { s = \"sum(price)\" } }\n\
         [stream.t]\nfrom = \"s\"\nselect = { s = \"s\" }\n\
         [stream.out]\nfrom = \"t\"\nwindow = { length = \"4s\" }",
    );
    let rows = shown(fired(&plan, 3, &lines(FIVE)));
    assert_eq!(rows[3], r#"{"s":4.0} {"s":2.0} {"s":4.0} {"s":5.0}"#);
}

#[test]
fn batches_cut_early_and_late_ones_are_in_the_windows_of_their_time() {
    let count = "[stream.out]\nfrom = \"purchases\"\ncount_by_window = { length = \"2s\" }";
    let definition = definition(count).replacen("key_groups", "cut_at_records = 5\nkey_groups", 1);
    let plan = Arc::new(compile_in(&definition, Path::new(".")).unwrap());
    let mut evaluator = Evaluator::new(plan, 2).unwrap();
    let mut previous_ms = 0;
    let mut fired = Vec::new();
    for (number, time_ms) in [1000, 1300, 1600, 2000, 4500, 5000].into_iter().enumerate() {
        let ctx = BatchContext { batch: BatchId(number as u64 + 1), time_ms, previous_ms };
        let rows = block_on(evaluator.batch_json(&ctx, &blocks(&["a,x,1\n"]))).unwrap().remove(0);
        fired.push(rows.map_or("-".to_string(), |rows| rows.join(" ")));
        previous_ms = time_ms;
    }
    assert_eq!(fired, [r#"{"count":1}"#, "-", "-", r#"{"count":4}"#, r#"{"count":0}"#, r#"{"count":2}"#]);
}

#[test]
fn values_and_lists_over_a_window_are_folded() {
    let over = |operator: &str| {
        let streams = format!(
            "[stream.w]\nfrom = \"purchases\"\nwindow = {{ length = \"2s\" }}\n[stream.out]\nfrom = \"w\"\n{operator}"
        );
        let plan = plan(&streams);
        let folds = plan.stages.iter().filter(
            |stage| matches!(&stage.state, Some(StageState::Window(op)) if matches!(op.contents(), Contents::Folds(_))),
        );
        assert_eq!((folds.count(), plan.stages.len()), (1, 2), "{operator}");
        shown(fired(&plan, 3, &lines(FIVE)))
    };
    let counts = over("count_by_value = true");
    assert_eq!(counts[2], r#"{"user":"b","product":"x","price":4.0,"count":1}"#);
    assert_eq!(over("distinct = true")[4], r#"{"user":"c","product":"x","price":5.0}"#);
    assert_eq!(
        over("group_by_key = { key = \"product\", values = \"price\" }")[1].split(' ').next(),
        Some(r#"{"product":"x","price":[1.0,3.0,4.0]}"#)
    );
}

#[test]
fn mistakes_in_windows() {
    let wrong = |stream: &str| messages(&format!("[stream.out]\nfrom = \"purchases\"\n{stream}"));
    assert_eq!(
        wrong("window = { length = \"1500ms\", slide = \"100ms\" }"),
        [
            "the length of a window is a multiple of the batch interval, 1s",
            "the slide of a window is a multiple of the batch interval, 1s"
        ]
    );
    assert_eq!(
        wrong("reduce_by_key_and_window = { key = \"usr\", length = \"1ms\", aggregates = { s = \"sum(price)\" } }")
            .len(),
        2
    );
    assert_eq!(
        wrong("group_by_key_and_window = { key = [\"user\", \"product\", \"price\"], length = \"1s\" }"),
        ["there is no column beside the key to make lists of"]
    );
    let over = |first: &str, then: &str| {
        messages(&format!("[stream.w]\nfrom = \"purchases\"\n{first}\n[stream.out]\nfrom = \"w\"\n{then}"))
    };
    assert_eq!(
        over("window = { length = \"4s\", slide = \"2s\" }", "window = { length = \"3s\" }"),
        ["the length of a window is a multiple of the slide of what it reads, 2s"]
    );
    assert_eq!(
        over("slice = { from = \"0s\", to = \"2s\" }", "window = { length = \"3s\" }"),
        ["a `slice` fires only once, so there is nothing for a window to slide over"]
    );
    assert_eq!(
        over("select = { count = \"price\" }", "count_by_value_and_window = { length = \"3s\" }"),
        ["there are two columns called `count`"]
    );
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 16, ..ProptestConfig::default() })]
    /// Whole numbers add up to the same in whatever order: windows by folds are windows over all rows.
    #[test]
    fn folds_give_what_all_rows_give(
        batches in prop::collection::vec(prop::collection::vec((0..4u8, 0..5i32), 0..5), 1..40),
        length in 1..24u32,
        slide in 1..6u32,
    ) {
        let frame = format!("length = \"{length}s\", slide = \"{slide}s\"");
        let aggregates = "aggregates = { n = \"count(*)\", s = \"sum(price)\", l = \"min(price)\", h = \"max(price)\", \
                          d = \"count(distinct price)\" }";
        let folded = plan(&format!(
            "[stream.out]\nfrom = \"purchases\"\nreduce_by_key_and_window = {{ key = \"user\", {frame}, {aggregates} }}"
        ));
        let whole = plan(&format!(
            "[stream.w]\nfrom = \"purchases\"\nwindow = {{ {frame} }}\n\
             [stream.same]\nfrom = \"w\"\nfilter = \"true\"\n\
             [stream.out]\nfrom = \"same\"\nreduce_by_key = {{ key = \"user\", {aggregates} }}"
        ));
        let line = |(user, price): &(u8, i32)| format!("u{user},p,{price}\n");
        let batches: Vec<Vec<String>> = batches.iter().map(|rows| rows.iter().map(line).collect()).collect();
        let expected = fired(&whole, 1, &batches);
        prop_assert_eq!(&fired(&folded, 1, &batches), &expected);
        prop_assert_eq!(&fired(&folded, 3, &batches), &expected);
    }

    /// What has a form of its own over a window gives what the same operator over the rows of the window gives: counts
    /// and values by key, lists in the order of the batches. Blocks of several rows, rows with keys and without.
    #[test]
    fn operators_over_windows_give_what_all_rows_give(
        batches in prop::collection::vec(prop::collection::vec(("[abc]{0,2}", 0..4u8, 0..5i32), 0..9), 1..24),
        length in 1..12u32,
        slide in 1..4u32,
        keyed in any::<bool>(),
        operator in prop::sample::select(vec![
            "count_by_value = true",
            "distinct = true",
            "group_by_key = { key = \"product\" }",
            "group_by_key = { key = [\"product\", \"user\"], values = \"price\" }",
        ]),
    ) {
        let rows = match keyed {
            true => "reduce_by_key = { key = [\"user\", \"product\"], aggregates = { price = \"sum(price)\" } }",
            false => "filter = \"price > 0\"",
        };
        let blocks = |rows: &Vec<(String, u8, i32)>| -> Vec<String> {
            let line = |(user, product, price): &(String, u8, i32)| format!("{user},{product},{price}\n");
            rows.chunks(3).map(|rows| rows.iter().map(line).collect()).collect()
        };
        let batches: Vec<Vec<String>> = batches.iter().map(blocks).collect();
        let window = format!("window = {{ length = \"{length}s\", slide = \"{slide}s\" }}");
        let over = |between: &str| plan(&format!(
            "[stream.r]\nfrom = \"purchases\"\n{rows}\n[stream.w]\nfrom = \"r\"\n{window}\n{between}\n{operator}"
        ));
        let folded = over("[stream.out]\nfrom = \"w\"");
        let whole = over("[stream.same]\nfrom = \"w\"\nfilter = \"true\"\n[stream.out]\nfrom = \"same\"");
        let expected = fired(&whole, 1, &batches);
        prop_assert_eq!(&fired(&folded, 1, &batches), &expected);
        prop_assert_eq!(&fired(&folded, 3, &batches), &expected);
    }
}
