use super::*;

const PURCHASES: &[(&str, &str)] = &[("user", "string"), ("product", "string"), ("price", "double")];

fn context() -> StreamingContext {
    StreamingContext::new("test", Duration::from_millis(1500))
}

#[test]
fn a_definition_with_every_operator_is_good() {
    let ctx = context();
    ctx.setting("replication", 1).setting("checkpoint_interval", Duration::from_secs(10));
    let mut functions = Functions::new();
    functions.batch_map("same", 1, &[("n", "bigint")], |rows| Ok(rows.clone())).unwrap();
    ctx.functions(functions);
    let purchases = ctx.socket("127.0.0.1:9999").acknowledge().csv(PURCHASES).named("purchases");
    let kept = purchases.filter("price > 1.0").select(&[("user", "\"user\""), ("say \"hi\"", "price * 2")]);
    kept.reduce_by_key(&["user"], &[("sum", "sum(\"say \"\"hi\"\"\")")]).distinct().print(5);
    purchases.sql("select product, count(*) as n\nfrom purchases\ngroup by product").print(10);
    purchases.count().batch_map("same").json("out");
    purchases.reduce(&[("total", "sum(price)")]).for_each_batch(|_| Ok(()));
    purchases.print(1);
    purchases.print(2);
    let state = StateUpdate::new(&[("last", "max(price)")]).typed("n", "bigint", "coalesce(state.n, 0) + count(*)");
    let state = state.touched().emit_changed().drop_when("n > 3");
    purchases.update_state_by_key(&["user"], state).print(3);
    purchases.update_state_by_key(&["user"], [("n", "coalesce(state.n, 0) + count(*)")]).print(3);
    let bob = purchases.filter("\"user\" = 'bob'").named("bob");
    purchases.union(&[&bob, &purchases]).csv("out/csv");
    purchases.sql_with(&[&bob], "select p.price from purchases p join bob b on p.product = b.product").parquet("out/p");
    let minute = Duration::from_secs(60);
    purchases.join_within(&bob, &["user"], minute).print(1);
    purchases.left_outer_join_within(&bob, &["user"], minute).print(1);
    bob.select(&[("user", "\"user\"")]).save_as_text_files("out/text", Some("txt"));
    bob.save_as_object_files("out/object");
    bob.http("http://127.0.0.1:1/");
    let lines = ctx.sockets(&["a:1", "b:2"]).text();
    lines.flat_map(FlatMap::split("value", " ", "word").keep(&["value"])).print(1);
    lines.flat_map(FlatMap::unnest("make_array(value)", "word")).print(1);
    lines.flat_map_split("value", "\t", "word").print(1);
    ctx.generate(100).keys(3).seed(2).limit(10).receivers(2).rows().print(1);
    ctx.socket("c:1").receivers(2).delimiter(";").null("-").fail_on_bad_record().csv(PURCHASES).print(1);
    ctx.socket("d:1").json(PURCHASES).print(1);
    ctx.check().unwrap_or_else(|error| panic!("{error}\n{}", ctx.definition().unwrap()));
}

#[test]
fn state_windows_and_joins_are_good() {
    let ctx = context();
    let length = Duration::from_secs(3);
    let purchases =
        ctx.queue(&[&["bob,pen,1"], &["ann,cap,2", "bob,cap,2"]]).repeat().csv(PURCHASES).named("purchases");
    let state = MapWithState::new(&[("n", "coalesce(state.n, 0) + 1")]).typed("dear", "double", "price");
    let state = state.emit(&[("n", "state.n"), ("price", "price")]).emit_when("price > 1").remove_when("price > 9");
    let counted = purchases.map_with_state(&["user"], state.timeout(Duration::from_secs(60)));
    counted.print(1);
    counted.state_snapshots().print(1);
    purchases.map_with_state(&["user"], MapWithState::new(&[("n", "count(*)")]).per_key()).print(1);
    purchases.semi(&counted, &["price"]).union(&[&purchases.anti(&counted, &["price"])]).repartition().print(1);
    purchases.top_k_per(&["user"], 2, &["price"]).repartition_by(&["user"]).print(1);
    purchases.combine_by_key(&["user"], &[("n", "count(*)")]).sort(&["-n"]).print(1);
    purchases.slice(Duration::from_secs(3), Duration::from_secs(6)).print(1);
    purchases
        .window(length, length)
        .group_by_key(&["user"])
        .cogroup(&purchases.window(length, length), &["user"])
        .print(1);
    let files = ctx.files("in").pattern("*.csv").new_files_only().poll_interval(Duration::from_millis(100));
    files.header().lines().delimiter(";").csv(PURCHASES).print(1);
    ctx.files("in").parquet(PURCHASES).print(1);
    ctx.check().unwrap_or_else(|error| panic!("{error}\n{}", ctx.definition().unwrap()));
}

#[test]
fn models_are_good() {
    let ctx = context();
    let points = ctx.socket("127.0.0.1:9999").csv(&[("y", "double"), ("x", "vector(3)")]).named("points");
    let price = ctx.model("price", "linear_regression", &[("step_size", 1e-2.into()), ("iterations", 1.into())]);
    let groups = ctx.model("groups", "kmeans", &[("k", 2.into()), ("seed", 7.into())]);
    points.train(&price, &["x"], "y").stream().print(1);
    let weighted = ctx.model("weighted", "recursive_least_squares", &[]);
    points.train_weighted(&weighted, &["x"], "y", "2.0");
    points.train_unlabelled(&groups, &["x"]);
    price.print();
    groups.output("json", Toml::named(&[("path", "out")]));
    let scored = points.select(&[("y", "y"), ("p", "predict('price', x)"), ("even", "y > 0")]);
    scored.evaluate("p", "y", &[("task", "regression".into()), ("metrics", vec!["mse", "rmse"].into())]).print(1);
    scored.ab_test("even", "p", &[]).print(1);
    scored.choose(&[("one", "p"), ("other", "y")], &[("window", 5.into())]).print(1);
    scored.detect_drift("p - y", "adwin", &[("delta", 0.002.into())]).print(1);
    ctx.check().unwrap_or_else(|error| panic!("{error}\n{}", ctx.definition().unwrap()));
    assert_eq!(price.name(), "price");
}

#[test]
fn the_text_is_what_one_would_write() {
    let ctx = context();
    let lines = ctx.socket("127.0.0.1:9999").text().named("lines");
    lines.filter("value <> ''").print(10);
    let expected = r#"name = "test"
batch_interval = "1500ms"

[source.lines]
connector = "socket"
address = "127.0.0.1:9999"
format = "text"

[stream.filter_2]
from = "lines"
filter = "value <> ''"

[[output]]
from = "filter_2"
print = { rows = 10 }
"#;
    assert_eq!(ctx.definition().unwrap(), expected);
}

#[test]
fn misuse_is_told_with_its_operator() {
    let ctx = context();
    let lines = ctx.socket("127.0.0.1:9999").text();
    lines.reduce_by_key(&[], &[("n", "count(*)")]).named("late").print(1);
    let expected = "`reduce_by_key` of `reduce_by_key_2`: expected at least one key column";
    assert_eq!(ctx.definition().unwrap_err().to_string(), expected);
}

#[test]
fn streams_of_two_contexts_do_not_meet() {
    let (one, other) = (context(), context());
    let lines = one.socket("a:1").text().named("lines");
    lines.union(&[&other.socket("a:1").text()]).print(1);
    let expected = "`union` of `lines`: the streams belong to different contexts";
    assert_eq!(one.definition().unwrap_err().to_string(), expected);
}

#[test]
fn mistakes_in_expressions_are_told_with_their_line() {
    let ctx = context();
    ctx.socket("127.0.0.1:9999").text().filter("valeu = 1").print(1);
    let StreamingError::Definition(text) = ctx.check().unwrap_err() else { panic!("not the definition") };
    assert!(text.contains("there is no column `valeu`") && text.contains("did you mean `value`?"), "{text}");
    let none = context();
    let _ = none.socket("127.0.0.1:9999").text();
    assert!(none.check().unwrap_err().to_string().contains("nothing to execute"));
}

#[test]
fn a_closure_stays_here() {
    let ctx = context();
    ctx.socket("127.0.0.1:9999").text().named("lines").for_each_batch(|_| Ok(()));
    let stays = StreamingError::OnlyHere { operator: "for_each_batch", stream: "lines".into() };
    assert_eq!(ctx.submit("http://127.0.0.1:1").unwrap_err(), stays);
}

#[tokio::test]
async fn nothing_blocks_a_runtime() {
    let ctx = context();
    ctx.generate(1).rows().print(1);
    assert_eq!(ctx.run_local(1).unwrap_err(), StreamingError::InsideRuntime);
}
