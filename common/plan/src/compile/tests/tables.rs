//! Tables, in queries and joins.

use super::*;
use crate::plan::Placement;
use Placement::{KeyGroups, Single, Splits};

const TABLE: &str = "[table.users]\npath = \"users.csv\"\nformat = \"csv\"\n\
    columns = { user = \"string\", country = \"string\", born = \"int\" }\n";
const USERS: &str = "user,country,born\nana,es,1990\nbob,uk,1980\nbob,ie,1980\ndan,de,1970\n,fr,1960\n";

fn with_users(streams: &str, users: &str) -> Result<Arc<JobPlan>, Diagnostics> {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("users.csv"), users).unwrap();
    compile_in(&definition(&format!("{TABLE}{streams}")), folder.path()).map(Arc::new)
}

fn query(sql: &str) -> Arc<JobPlan> {
    with_users(&format!("[stream.out]\nfrom = [\"purchases\", \"users\"]\nsql = '''{sql}'''"), USERS).unwrap()
}

fn join(kind: &str, from: [&str; 2]) -> Arc<JobPlan> {
    with_users(&format!("[stream.out]\nfrom = {from:?}\n{kind} = {{ on = \"user\" }}"), USERS).unwrap()
}

fn placements(plan: &JobPlan) -> Vec<Placement> {
    plan.stages.iter().map(|stage| stage.placement).collect()
}

/// Batch by batch; the same for every number of tasks.
fn everywhere(plan: &Arc<JobPlan>) -> Vec<String> {
    let once = run(plan, 1, &[PURCHASES, &[], PURCHASES]);
    assert_eq!(once[0], once[2]);
    for tasks in [2, 3, 8] {
        assert_eq!(run(plan, tasks, &[PURCHASES, &[], PURCHASES]), once);
    }
    once.into_iter().next().unwrap()
}

#[test]
fn a_join_looks_up_every_row_where_it_is() {
    let inner = join("join", ["purchases", "users"]);
    assert_eq!(placements(&inner), [Splits]);
    let of = |user: &str, product: &str, country: &str, born: i32| {
        format!(r#"{{"user":"{user}","product":"{product}","country":"{country}","born":{born}}}"#)
    };
    let bare = |row: String| -> String {
        let (before, rest) = row.split_once(r#""price":"#).unwrap();
        format!("{before}{}", rest.split_once(',').unwrap().1)
    };
    let rows: Vec<_> = everywhere(&inner).into_iter().map(bare).collect();
    let expected = [
        of("ana", "iphone cover", "es", 1990),
        of("bob", "headphones", "uk", 1980),
        of("bob", "headphones", "ie", 1980),
        of("ana", "samsung cover", "es", 1990),
        of("bob", "ipad cover", "uk", 1980),
        of("bob", "ipad cover", "ie", 1980),
    ];
    assert_eq!(rows, expected);
    let outer = join("left_outer_join", ["purchases", "users"]);
    assert_eq!(placements(&outer), [Splits]);
    let rows = everywhere(&outer);
    assert_eq!(rows[6], r#"{"user":"cid","product":"ipad cover","price":7.49,"country":null,"born":null}"#);
    assert_eq!(rows.len(), 7);
    let turned = join("right_outer_join", ["users", "purchases"]);
    assert_eq!(placements(&turned), [Splits]);
    assert_eq!(
        everywhere(&turned)[6],
        r#"{"user":"cid","country":null,"born":null,"product":"ipad cover","price":7.49}"#
    );
    for (kind, count) in [("semi", 4), ("anti", 1)] {
        let plan = join(kind, ["purchases", "users"]);
        assert_eq!((placements(&plan), everywhere(&plan).len()), (vec![Splits], count), "{kind}");
    }
}

#[test]
fn rows_of_a_table_without_a_partner_are_found_in_one_place() {
    let right = join("right_outer_join", ["purchases", "users"]);
    assert_eq!(placements(&right), [Splits, Single]);
    let rows = everywhere(&right);
    assert_eq!(rows.len(), 8);
    assert_eq!(
        rows[6..],
        [
            r#"{"user":"dan","product":null,"price":null,"country":"de","born":1970}"#,
            r#"{"user":"","product":null,"price":null,"country":"fr","born":1960}"#
        ]
    );
    let full = join("full_outer_join", ["users", "purchases"]);
    assert_eq!((placements(&full), everywhere(&full).len()), (vec![Splits, Single], 9));
    let active = join("semi", ["users", "purchases"]);
    assert_eq!(placements(&active), [Splits, Single]);
    assert_eq!(everywhere(&active).len(), 3);
}

#[test]
fn keys_are_compared_as_those_of_streams() {
    let streams = "[stream.bought]\nfrom = \"purchases\"\nselect = { user = \"user\", year = \"case when user = 'cid' then cast('nan' as double) else 1980.0 end\" }\n\
        [stream.out]\nfrom = [\"bought\", \"users\"]\njoin = { on = { left = \"year\", right = \"born\" } }";
    let plan = with_users(streams, USERS).unwrap();
    assert_eq!(placements(&plan), [Splits]);
    let rows = everywhere(&plan);
    assert_eq!(
        (rows.len(), rows[0].as_str()),
        (8, r#"{"year":1980.0,"bought_user":"ana","users_user":"bob","country":"uk"}"#)
    );
    let wrong =
        "[stream.out]\nfrom = [\"purchases\", \"users\"]\njoin = { on = { left = \"user\", right = \"born\" } }";
    let wrong = with_users(wrong, USERS).unwrap_err();
    assert_eq!(wrong.iter().next().unwrap().message, "`user` is a string in `purchases`, `born` a int in `users`");
}

#[test]
fn keyed_rows_keep_their_keys() {
    let totals = "[stream.totals]\nfrom = \"purchases\"\n\
        reduce_by_key = { key = \"user\", aggregates = { n = \"count(*)\" } }\n\
        [stream.out]\nfrom = [\"totals\", \"users\"]\nleft_outer_join = { on = \"user\" }";
    let plan = with_users(totals, USERS).unwrap();
    assert_eq!(placements(&plan), [Splits, KeyGroups]);
    let users: Vec<_> = everywhere(&plan).iter().map(|row| row[9..18].to_string()).collect();
    assert_eq!(users, [r#"ana","n":"#, r#"bob","n":"#, r#"bob","n":"#, r#"cid","n":"#]);
}

#[test]
fn queries_read_tables() {
    let grouped = query(
        "select country, count(*) as n from purchases join users using (user) where born > 1975 group by country order by country",
    );
    assert_eq!(placements(&grouped), [Splits, KeyGroups, Single]);
    let expected = [r#"{"country":"es","n":2}"#, r#"{"country":"ie","n":2}"#, r#"{"country":"uk","n":2}"#];
    assert_eq!(everywhere(&grouped), expected);
    // By the key of the join, for which the planner sees no need to move rows.
    let by_user =
        query("select user, count(*) as n from purchases join users using (user) group by user order by user");
    assert_eq!(everywhere(&by_user), [r#"{"user":"ana","n":2}"#, r#"{"user":"bob","n":4}"#]);
    let ranked = query(
        "select country, row_number() over (partition by country order by n) as place \
         from (select user, count(*) as n from purchases group by user) as t join users using (user) order by country",
    );
    let expected = ["es", "ie", "uk"].map(|country| format!(r#"{{"country":"{country}","place":1}}"#));
    assert_eq!(everywhere(&ranked), expected);
    let unknown = query("select user from purchases where user not in (select user from users)");
    assert_eq!(everywhere(&unknown), [r#"{"user":"cid"}"#]);
    assert_eq!(everywhere(&query("select max(born) as youngest from users")), [r#"{"youngest":1990}"#]);
    let conditions = query(
        "select p.user, country from purchases as p left join users as u on p.user = u.user and u.born + price > 1985.4",
    );
    let mut rows = everywhere(&conditions);
    rows.sort();
    assert_eq!((placements(&conditions), rows.len()), (vec![Splits], 7));
    assert_eq!(rows[6], r#"{"user":"cid","country":null}"#);
}

#[test]
fn a_batch_sees_the_content_that_is_there_since() {
    let streams = [
        "[stream.out]\nfrom = [\"purchases\", \"users\"]\njoin = { on = \"user\" }",
        "[stream.out]\nfrom = [\"purchases\", \"users\"]\nright_outer_join = { on = \"user\" }",
        "[stream.out]\nfrom = [\"purchases\", \"users\"]\nsql = \"select country, count(*) as n from purchases join users using (user) group by country\"",
        "[stream.out]\nfrom = [\"purchases\", \"users\"]\nsql = \"select max(born) as youngest from users\"",
    ];
    let contents = [USERS, "user,country,born\nana,fr,2001\n", "user,country,born\n"];
    for stream in streams {
        let fresh: Vec<_> =
            contents.iter().map(|users| run(&with_users(stream, users).unwrap(), 2, &[PURCHASES]).remove(0)).collect();
        for tasks in [1, 3] {
            let mut evaluator = Evaluator::new(with_users(stream, USERS).unwrap(), tasks).unwrap();
            evaluator.tables().put(0, BatchId(3), contents[1].into());
            evaluator.tables().put(0, BatchId(4), contents[2].into());
            let mut at = |batch| {
                let outputs = block_on(evaluator.batch_json(&context(batch), &blocks(PURCHASES))).unwrap().remove(0);
                outputs.unwrap()
            };
            for (batch, content) in [(1, 0), (3, 1), (2, 0), (4, 2), (9, 2), (3, 1)] {
                assert_eq!(at(batch), fresh[content], "batch {batch} of {stream}");
            }
            let since = |batch| evaluator.tables().since(0, BatchId(batch)).0;
            assert_eq!([2, 3, 4, 5].map(since), [0, 3, 4, 4]);
            evaluator.tables().settle(BatchId(3));
            assert_eq!([3, 4].map(since), [3, 4]);
            evaluator.tables().settle(BatchId(4));
            assert_eq!([3, 4].map(since), [0, 4], "what no batch needs is gone");
        }
    }
}

#[test]
fn the_fingerprint_knows_the_content() {
    let streams = "[stream.out]\nfrom = [\"purchases\", \"users\"]\njoin = { on = \"user\" }";
    let fingerprint = |users: &str| with_users(streams, users).unwrap().fingerprint;
    assert_eq!(fingerprint(USERS), fingerprint(USERS));
    assert_ne!(fingerprint(USERS), fingerprint(&USERS.replace("1990", "1991")));
}

#[test]
fn a_table_that_cannot_be_read_is_a_mistake() {
    let streams = "[stream.out]\nfrom = [\"purchases\", \"users\"]\nsql = \"select 1 as a from users\"";
    let wrong = with_users(streams, "user,country,born\nana,es,1990\nbob,uk,long ago\n").unwrap_err();
    let messages: Vec<_> = wrong.iter().map(|wrong| wrong.message.clone()).collect();
    assert!(messages[0].starts_with("the file of table `users` cannot be used: line 3: "), "{messages:?}");
    assert_eq!(messages.len(), 1);
}

#[test]
fn nothing_waits_for_a_table() {
    let streams = "[stream.out]\nfrom = [\"purchases\", \"users\"]\njoin = { on = \"user\", within = \"3s\" }";
    let wrong = with_users(streams, USERS).unwrap_err();
    let messages: Vec<_> = wrong.iter().map(|wrong| wrong.message.clone()).collect();
    assert_eq!(messages, ["a table does not come later: `within` is for two streams"]);
}
