//! Good definitions, and what the other tests share.

mod complete;
mod limits;
mod wrong;

use super::*;
use tidemill_common::diag::Diagnostic;
use tidemill_connect::sinks::files::{FileFormat, FilePlace, FileSink, Json};
use tidemill_connect::sources::generate::{Generate, GenerateConfig};
use tidemill_connect::sources::socket::{Socket, SocketConfig};
use tidemill_connect::{Sink, Source};

const FULL: &str = r#"
name = "full.job-1"
batch_interval = "10s"
block_interval = "100ms"
block_bytes = "64KiB"
replication = 3
durability = "disk"
on_under_replicated = "pause"
key_groups = 128
checkpoint_interval = "1min"
cut_at_records = 1_000
cut_at_bytes = "1MiB"
max_batch_bytes = "64MiB"
max_task_failures = 2
backpressure = { proportional = 2, integral = 0.5, derived = 0.1, min_rate = 10, initial_rate = 50 }

[source.purchases]
connector = "socket"
addresses = ["127.0.0.1:9999", "[::1]:9998"]
acknowledge = true
format = "csv"
columns = { user = "string", product = "string", price = "decimal(10,2)" }
delimiter = ";"
null = "-"
on_bad_record = "fail"
max_rate = 500

[source.rows]
connector = "generate"
rows_per_second = 1000
limit = 5000

[stream.revenue]
from = "large"
[stream.revenue.update_state_by_key]
key = ["user"]
update = "touched"
emit = "changed"
initial = "state.csv"
drop_when = "purchases > 100"
state.purchases = "coalesce(state.purchases, 0) + count(*)"
state.amount = { type = "double", update = "coalesce(state.amount, 0) + sum(price)" }

[stream.large]
from = "purchases"
filter = "price > 10"

[stream.words]
from = "purchases"
flat_map = { split = "product", by = " ", as = "word", keep = ["user"] }

[stream.totals]
from = "large"
sql = '''
select sum(price) as total from large'''

[[output]]
from = "revenue"
print = { rows = 20 }

[[output]]
from = "revenue"
name = "files"
json = { path = "out" }

[[output]]
from = "rows"
print = true
"#;

fn good(text: &str) -> JobDef {
    parse(text).unwrap_or_else(|wrong| panic!("{}", wrong.render("job.toml", text, false)))
}

/// What is said about a definition, in the order of places, as "message @ text in the place".
fn mistakes(text: &str) -> Vec<String> {
    let wrong = parse(text).expect_err("this definition is wrong");
    assert!(!wrong.is_empty());
    let mut wrong: Vec<&Diagnostic> = wrong.iter().collect();
    wrong.sort_by_key(|diagnostic| diagnostic.span.as_ref().map_or(0, |span| span.start));
    wrong
        .into_iter()
        .map(|diagnostic| {
            let place = diagnostic.span.clone().map_or("nowhere", |span| &text[span]);
            format!("{} @ {place}", diagnostic.message)
        })
        .collect()
}

/// A job with a text source `lines`, a csv source `rows` and whatever else is given.
fn job_with(more: &str) -> String {
    format!(
        r#"name = "test"
batch_interval = "1s"
[source.lines]
connector = "socket"
address = "localhost:9999"
[source.rows]
connector = "socket"
address = "localhost:9998"
format = "csv"
columns = {{ user = "string", price = "double" }}
[[output]]
from = "lines"
print = true
{more}"#
    )
}

fn operator(stream: &str) -> Operator {
    let several = ["union", "join", "anti", "cogroup"].iter().any(|key| stream.starts_with(key));
    let from = if several { "[\"rows\", \"lines\"]" } else { "\"rows\"" };
    let job = good(&job_with(&format!("[stream.s]\nfrom = {from}\n{stream}")));
    job.streams[0].operator.clone()
}

#[test]
fn everything_that_can_be_said() {
    let job = good(FULL);
    assert_eq!(job.name, "full.job-1");
    let settings = Settings {
        batch_interval: Duration::from_secs(10),
        block_interval: Duration::from_millis(100),
        block_bytes: 64 << 10,
        replication: 3,
        durability: Durability::Disk,
        on_under_replicated: OnUnderReplicated::Pause,
        key_groups: 128,
        checkpoint_interval: Duration::from_secs(60),
        cut_at_records: Some(1000),
        cut_at_bytes: Some(1 << 20),
        max_batch_bytes: 64 << 20,
        max_task_failures: 2,
        backpressure: Some(Backpressure {
            proportional: 2.0,
            integral: 0.5,
            derived: 0.1,
            min_rate: 10,
            initial_rate: Some(50),
        }),
    };
    assert_eq!(job.settings, settings);
    let purchases = job.source("purchases").unwrap();
    let Format::Csv { columns, delimiter: b';', null } = &purchases.format else { panic!() };
    let names: Vec<_> = columns.iter().map(|column| column.name.text.as_str()).collect();
    assert_eq!(names, ["user", "product", "price"]);
    assert_eq!(columns[2].data_type, ColumnType::Decimal(10, 2));
    assert_eq!(null.as_deref(), Some("-"));
    assert_eq!((purchases.on_bad_record, purchases.max_rate), (OnBadRecord::Fail, Some(500)));
    assert_eq!(job.source("rows").unwrap().on_bad_record.at_most(), None);
    let addresses = vec!["127.0.0.1:9999".to_owned(), "[::1]:9998".to_owned()];
    let socket = SocketConfig { addresses, acknowledge: true, receivers: 1 };
    assert_eq!(purchases.connector, Source::new(Socket, socket));
    let generate = GenerateConfig { rows_per_second: 1000, keys: 100, seed: 1, limit: Some(5000), receivers: 1 };
    assert_eq!(job.source("rows").unwrap().connector, Source::new(Generate, generate));

    let Operator::UpdateStateByKey(update) = &job.stream("revenue").unwrap().operator else { panic!() };
    let names: Vec<_> = update.state.iter().map(|column| column.name.text.as_str()).collect();
    assert_eq!(names, ["purchases", "amount"]);
    assert_eq!(update.state[1].data_type, Some(ColumnType::Double));
    assert_eq!((update.update, update.emit), (UpdateKeys::Touched, Emit::Changed));
    assert_eq!(update.initial.as_ref().unwrap().text, "state.csv");

    let names: Vec<_> = job.outputs.iter().map(|output| output.name.text.as_str()).collect();
    assert_eq!(names, ["revenue", "files", "rows"]);
    assert_eq!(job.outputs[0].target, Target::Print { rows: 20 });
    let files =
        FileSink { place: FilePlace::Directory("out".into()), format: FileFormat::Json, compression: None, roll: None };
    assert_eq!(job.outputs[1].target, Target::Sink(Sink::new(Json, files)));
    assert_eq!(job.outputs[2].target, Target::Print { rows: 10 });
}

#[test]
fn streams_keep_the_order_of_the_file_and_can_be_sorted() {
    let job = good(FULL);
    let names: Vec<_> = job.streams.iter().map(|stream| stream.name.text.as_str()).collect();
    assert_eq!(names, ["revenue", "large", "words", "totals"]);
    assert_eq!(job.topological(), [1, 0, 2, 3]);
}

#[test]
fn streams_come_after_all_that_they_read() {
    let job = good(&job_with(
        "[stream.d]\nfrom = [\"b\", \"c\", \"b\"]\nunion = true\n[stream.c]\nfrom = \"a\"\ndistinct = true\n\
         [stream.b]\nfrom = [\"a\", \"rows\"]\nunion = true\n[stream.a]\nfrom = \"rows\"\nfilter = \"price > 1\"",
    ));
    let order: Vec<_> = job.topological().into_iter().map(|at| job.streams[at].name.text.as_str()).collect();
    assert_eq!(order, ["a", "b", "c", "d"]);
    let from: Vec<_> = job.streams[0].from.iter().map(|name| name.text.as_str()).collect();
    assert_eq!(from, ["b", "c", "b"]);
}

#[test]
fn spans_are_inside_the_quotes() {
    let job = good(FULL);
    let filter = job.stream("large").unwrap();
    let Operator::Filter(sql) = &filter.operator else { panic!() };
    assert_eq!(&FULL[sql.span.clone()], "price > 10");
    assert_eq!(&FULL[filter.operator_span.clone()], "filter");
    assert_eq!(&FULL[filter.from[0].span.clone()], "purchases");
    assert_eq!(&FULL[filter.name.span.clone()], "large");
    let Operator::Sql(sql) = &job.stream("totals").unwrap().operator else { panic!() };
    assert_eq!(FULL[sql.span.clone()], sql.text);
}

#[test]
fn defaults() {
    let job = good(&job_with(""));
    assert_eq!(job.settings, Settings::with_batch_interval(Duration::from_secs(1)));
    assert_eq!(job.settings.block_interval, Duration::from_millis(200));
    assert_eq!(job.settings.checkpoint_interval, Duration::from_secs(5));
    let short = Settings::with_batch_interval(Duration::from_millis(10));
    assert_eq!(short.block_interval, Duration::from_millis(5));
    let lines = job.source("lines").unwrap();
    assert_eq!((&lines.format, lines.on_bad_record), (&Format::Text, OnBadRecord::SKIP));
}

#[test]
fn what_nothing_reads_is_warned_of() {
    let rest = r#"
[stream.used]
from = "lines"
count = true
[stream.unused]
from = "used"
count = true
"#;
    let job = good(&job_with(rest));
    let messages: Vec<_> = warnings(&job).iter().map(|warning| warning.message.clone()).collect();
    let source = "nothing reads the source `rows`: its records are received and never looked at";
    assert_eq!(messages, [source, "nothing reads the stream `unused`, so it is not computed"]);
    let mut job = good(FULL);
    job.sources[0].on_bad_record = OnBadRecord::DeadLetter { at_most: None };
    let bad = format!("nothing reads `{}_bad`: bad records are counted, and go nowhere", job.sources[0].name.text);
    assert!(warnings(&job).iter().any(|warning| warning.message == bad), "{:?}", warnings(&job));
}

#[test]
fn operators() {
    let Operator::Select(columns) = operator("select = { b = \"price\", a = \"user\" }") else { panic!() };
    assert_eq!((columns[0].name.text.as_str(), columns[1].sql.text.as_str()), ("b", "user"));
    assert_eq!(operator("count = true"), Operator::Count);
    assert_eq!(operator("distinct = true"), Operator::Distinct);
    assert!(matches!(operator("reduce = { n = \"count(*)\" }"), Operator::Reduce(n) if n.len() == 1));
    assert_eq!(operator("union = true").inputs(), Inputs::Several);
    let unnest = operator("flat_map = { unnest = \"[1, 2]\", as = \"n\" }");
    let Operator::FlatMap { each: FlatMapEach::Unnest(_), keep, .. } = unnest else { panic!() };
    assert!(keep.is_empty());
    let anti = operator("anti = { on = { left = \"a\", right = [\"b\"] } }");
    let Operator::Join { kind: JoinKind::Anti, on, within: None } = anti else { panic!() };
    assert_eq!((on.left[0].text.as_str(), on.right[0].text.as_str()), ("a", "b"));
    let late = operator("join = { on = \"a\", within = \"3h\" }");
    let Operator::Join { kind: JoinKind::Inner, within: Some(within), .. } = late else { panic!() };
    assert_eq!(within.duration, Duration::from_secs(3 * 3600));
    let Operator::Cogroup(on) = operator("cogroup = { on = [\"a\", \"b\"] }") else { panic!() };
    assert_eq!(on.left, on.right);
    let Operator::Sort { by, limit } = operator("sort = { by = [\"-a\", \"b\"], descending = true }") else { panic!() };
    let by: Vec<_> = by.iter().map(|key| (key.column.text.as_str(), key.descending)).collect();
    assert_eq!((by, limit), (vec![("a", false), ("b", true)], None));
    let Operator::TopK { k: 3, by, per } = operator("top_k = { k = 3, by = [\"a\", \"-b\"] }") else { panic!() };
    assert_eq!((by[0].descending, by[1].descending, per.len()), (true, false, 0));
    assert_eq!(operator("repartition = true"), Operator::Repartition { by: Vec::new() });
    let by_key = operator("reduce_by_key = { key = \"user\", aggregates = { n = \"count(*)\" } }");
    let Operator::ReduceByKey { key, .. } = by_key else { panic!() };
    assert_eq!(key[0].text, "user");
    let state = operator("update_state_by_key = { key = \"user\", state = { n = \"count(*)\" } }");
    let Operator::UpdateStateByKey(state) = state else { panic!() };
    assert_eq!((state.update, state.emit), (UpdateKeys::EveryKey, Emit::All));
    assert_eq!((&state.initial, &state.drop_when), (&None, &None));
    let map = operator("map_with_state = { key = \"user\", state = { n = \"1\" }, timeout = \"2s\" }");
    let Operator::MapWithState(map) = map else { panic!() };
    assert_eq!((map.per, map.timeout, map.emit), (Per::Record, Some(Duration::from_secs(2)), None));
    assert_eq!(operator("state_snapshots = true"), Operator::StateSnapshots);
}
