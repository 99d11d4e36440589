//! Words that people bring along from other engines.

/// A key that is none here, and what to do instead.
pub type Hints = &'static [(&'static str, &'static str)];

/// What other engines call keys, and what they are called here. Spark's names of operators are here in snake case.
pub const ALIASES: &[(&str, &str)] = &[
    ("map", "select"),
    ("transform", "sql"),
    ("where", "filter"),
    ("join_within", "join"),
    ("inner_join", "join"),
    ("semi_join", "semi"),
    ("left_semi_join", "semi"),
    ("anti_join", "anti"),
    ("left_anti_join", "anti"),
    ("foreachRDD", "for_each_batch"),
    ("foreach_rdd", "for_each_batch"),
    ("window", "length"),
    ("window_duration", "length"),
    ("size", "length"),
    ("slide_duration", "slide"),
    ("kind", "connector"),
    ("type", "connector"),
    ("schema", "columns"),
    ("separator", "delimiter"),
];
