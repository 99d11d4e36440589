//! The JSON Schema of a definition, for editors; made from the same list of keys that the parser knows.

use super::ColumnType;
use super::keys::{self, Key, Shape, TableKind};
use super::limits::MAX_NAME_BYTES;
use serde_json::{Map, Value, json};
use tidemill_connect::{Connectors, Description, Payload};

/// The JSON Schema (2020-12) of a job definition, with sources and sinks of these kinds and models of these: the name of each
/// family, and the schema of a table of its parameters.
pub fn schema(connectors: &Connectors, families: impl IntoIterator<Item = (&'static str, Value)>) -> Value {
    let mut schema = table(&[keys::JOB]);
    schema["properties"]["source"]["additionalProperties"] = sources(connectors);
    schema["properties"]["model"]["additionalProperties"] = models(families);
    schema["properties"]["output"]["items"] = output(connectors);
    schema["$schema"] = json!("https://json-schema.org/draft/2020-12/schema");
    schema["title"] = json!("Tidemill job");
    schema["required"] = json!(["name", "batch_interval", "output"]);
    schema
}

/// An object with these keys and no others.
fn table(keys: &[&[Key]]) -> Value {
    let all = || keys.iter().copied().flatten();
    let properties: Map<_, _> = all().map(|key| (key.name.to_owned(), property(key))).collect();
    let required: Vec<_> = all().filter(|key| key.required).map(|key| key.name).collect();
    json!({
        "type": "object",
        "properties": properties,
        "required": required,
        "additionalProperties": false,
    })
}

/// An object with these keys, and with others that depend on a kind.
fn open_table(keys: &[Key]) -> Value {
    let mut schema = table(&[keys]);
    schema["additionalProperties"] = json!(true);
    schema
}

fn property(key: &Key) -> Value {
    let mut schema = shape(&key.shape);
    schema["description"] = json!(key.doc);
    schema
}

fn shape(shape: &Shape) -> Value {
    match shape {
        Shape::Text => json!({ "type": "string" }),
        Shape::Sql => json!({ "type": "string", "minLength": 1 }),
        Shape::JobName => name("^[A-Za-z0-9_][A-Za-z0-9_.-]*$"),
        Shape::Name => name(NAME),
        Shape::Names => json!({ "oneOf": [name(NAME), { "type": "array", "minItems": 1, "items": name(NAME) }] }),
        Shape::Column => json!({ "type": "string", "pattern": COLUMN }),
        Shape::Columns => {
            let column = json!({ "type": "string", "pattern": COLUMN });
            json!({ "oneOf": [column, list(&column)] })
        }
        Shape::ColumnsOrTable(keys) => {
            let column = json!({ "type": "string", "pattern": COLUMN });
            json!({ "oneOf": [column, list(&column), table(&[keys])] })
        }
        Shape::SortKeys => {
            let column = json!({ "type": "string", "pattern": SORT_KEY });
            json!({ "oneOf": [column, list(&column)] })
        }
        Shape::Address => json!({ "type": "string", "pattern": ADDRESS }),
        Shape::Addresses => list(&json!({ "type": "string", "pattern": ADDRESS })),
        Shape::Duration => json!({ "type": "string", "pattern": DURATION }),
        Shape::Time => json!({ "type": "string", "minLength": 1 }),
        Shape::Size => json!({ "type": "string", "pattern": SIZE }),
        Shape::Count(range) => {
            json!({ "type": "integer", "minimum": range.start(), "maximum": range.end() })
        }
        Shape::CountOrTable(range, keys) => {
            let count = json!({ "type": "integer", "minimum": range.start(), "maximum": range.end() });
            json!({ "oneOf": [count, table(&[keys])] })
        }
        Shape::Number => json!({ "type": "number", "minimum": 0 }),
        Shape::Flag => json!({ "type": "boolean" }),
        Shape::True => json!({ "const": true }),
        Shape::Choice(words) => json!({ "enum": words() }),
        Shape::Type => data_type(),
        Shape::SqlByColumn => by_column(json!({ "type": "string", "minLength": 1 })),
        Shape::TypeByColumn => by_column(data_type()),
        Shape::StateByColumn(keys) => {
            let sql = json!({ "type": "string", "minLength": 1 });
            by_column(json!({ "oneOf": [sql, table(&[keys])] }))
        }
        Shape::FlatMap => {
            let mut schema = one_of(table(&[keys::FLAT_MAP]), &[&["split"], &["unnest"]]);
            schema["dependentRequired"] = json!({ "split": ["by"], "by": ["split"] });
            schema
        }
        Shape::TableWithOneOf(keys, names) => {
            let alternatives: Vec<&[&str]> = names.iter().map(std::slice::from_ref).collect();
            one_of(table(&[keys]), &alternatives)
        }
        Shape::Batches => {
            let lines = json!({ "type": "array", "minItems": 1, "items": { "type": "string" } });
            json!({ "type": "array", "minItems": 1, "items": lines })
        }
        Shape::TextByName => json!({ "type": "object", "additionalProperties": { "type": "string" } }),
        Shape::Table(keys) => table(&[keys]),
        Shape::OpenTable(keys) => open_table(keys),
        Shape::TrueOrTable(keys) => json!({ "oneOf": [{ "const": true }, table(&[keys])] }),
        Shape::Named(kind) => json!({
            "type": "object",
            "propertyNames": { "pattern": NAME, "maxLength": MAX_NAME_BYTES },
            "additionalProperties": of_kind(*kind),
        }),
        Shape::List(kind) => json!({ "type": "array", "minItems": 1, "items": of_kind(*kind) }),
    }
}

const NAME: &str = "^[A-Za-z0-9_][A-Za-z0-9_-]*$";
const COLUMN: &str = "^(?!__).+";
const SORT_KEY: &str = "^-?(?!__).+";
const ADDRESS: &str = "^(\\[[0-9A-Fa-f:.]+\\]|[^:/\\[\\]\\s]+):[0-9]+$";
const DURATION: &str = "^ *[0-9.]+ *(us|ms|s|m|min|h) *$";
const SIZE: &str = "^ *[0-9.]+ *(B|kB|KB|MB|GB|KiB|MiB|GiB|K|M|G)? *$";

fn name(pattern: &str) -> Value {
    json!({ "type": "string", "pattern": pattern, "maxLength": MAX_NAME_BYTES })
}

fn data_type() -> Value {
    json!({ "type": "string", "pattern": ColumnType::PATTERN })
}

fn list(item: &Value) -> Value {
    json!({ "type": "array", "minItems": 1, "uniqueItems": true, "items": item })
}

fn by_column(value: Value) -> Value {
    json!({
        "type": "object",
        "minProperties": 1,
        "propertyNames": { "pattern": COLUMN },
        "additionalProperties": value,
    })
}

fn of_kind(kind: TableKind) -> Value {
    match kind {
        // Which kinds there are is not known here; `sources`, `models` and `output` say it.
        TableKind::Source => open_table(keys::SOURCE),
        TableKind::Model => open_table(keys::MODEL),
        TableKind::Stream => one_key_of(table(&[keys::STREAM, keys::OPERATORS]), &[keys::OPERATORS]),
        TableKind::Table => table(&[keys::TABLE]),
        TableKind::Output => open_table(keys::OUTPUT),
    }
}

fn output(connectors: &Connectors) -> Value {
    let mut output = one_key_of(table(&keys::output(connectors)), &keys::sinks(connectors));
    output["allOf"] = json!([{ "oneOf": [{ "required": ["from"] }, { "required": ["from_model"] }] }]);
    output
}

fn sources(connectors: &Connectors) -> Value {
    let kinds: Vec<Value> = connectors.sources().map(|connector| source(&connector)).collect();
    json!({ "oneOf": kinds })
}

fn source(connector: &Description) -> Value {
    let [own, payload, paced] = keys::of_source(connector);
    let mut schema = table(&[keys::SOURCE, own, payload, paced]);
    schema["properties"]["connector"]["enum"] = json!([connector.name]);
    schema["description"] = json!(connector.doc);
    if !connector.one_of.is_empty() {
        let alternatives: Vec<[&str; 1]> = connector.one_of.iter().map(|key| [*key]).collect();
        let alternatives: Vec<&[&str]> = alternatives.iter().map(|names| names.as_slice()).collect();
        schema = one_of(schema, &alternatives);
    }
    if matches!(connector.payload, Payload::Lines | Payload::Records) {
        schema["allOf"] = json!([formats()]);
    }
    schema
}

fn models(families: impl IntoIterator<Item = (&'static str, Value)>) -> Value {
    let kinds: Vec<Value> = families.into_iter().map(|(name, parameters)| model(name, parameters)).collect();
    json!({ "oneOf": kinds })
}

/// The keys of every model, and the parameters of this family.
fn model(kind: &str, parameters: Value) -> Value {
    let mut schema = table(&[keys::MODEL]);
    schema["properties"]["kind"]["enum"] = json!([kind]);
    let Value::Object(parameters) = parameters else { return schema };
    for (name, value) in parameters {
        match (&mut schema[name], value) {
            (Value::Object(properties), Value::Object(own)) => properties.extend(own),
            (Value::Array(required), Value::Array(own)) => required.extend(own),
            (said, value) => *said = value,
        }
    }
    schema
}

/// `columns` are for csv and json, and needed there; `delimiter` and `null` are for csv.
fn formats() -> Value {
    let is = |format: &str| json!({ "properties": { "format": { "const": format } }, "required": ["format"] });
    let absent = |keys: &[&str]| {
        let present: Vec<_> = keys.iter().map(|key| json!({ "required": [key] })).collect();
        json!({ "not": { "anyOf": present } })
    };
    let mut json_format = absent(&["delimiter", "null"]);
    json_format["required"] = json!(["columns"]);
    json!({
        "if": is("csv"),
        "then": { "required": ["columns"] },
        "else": {
            "if": is("json"),
            "then": json_format,
            "else": absent(&["columns", "delimiter", "null"]),
        },
    })
}

/// Exactly one of `keys` must be there.
fn one_key_of(schema: Value, keys: &[&[Key]]) -> Value {
    let alternatives: Vec<[&str; 1]> = keys.iter().copied().flatten().map(|key| [key.name]).collect();
    let alternatives: Vec<&[&str]> = alternatives.iter().map(|names| names.as_slice()).collect();
    one_of(schema, &alternatives)
}

/// The keys of exactly one of `alternatives` must be there.
fn one_of(mut schema: Value, alternatives: &[&[&str]]) -> Value {
    let required: Vec<_> = alternatives.iter().map(|keys| json!({ "required": keys })).collect();
    schema["oneOf"] = json!(required);
    schema
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    fn properties(schema: &Value) -> BTreeSet<String> {
        schema["properties"].as_object().into_iter().flatten().map(|(key, _)| key.clone()).collect()
    }

    fn names(keys: &[&[Key]]) -> BTreeSet<String> {
        keys.iter().copied().flatten().map(|key| key.name.to_owned()).collect()
    }

    fn family() -> (&'static str, Value) {
        let decay = json!({ "type": "number", "description": "What is left." });
        let parameters =
            json!({ "properties": { "decay": decay }, "required": ["decay"], "additionalProperties": false });
        ("mean", parameters)
    }

    #[test]
    fn has_the_keys_of_the_parser() {
        let schema = schema(&Connectors::default(), [family()]);
        assert_eq!(properties(&schema), names(&[keys::JOB]));
        let model = &schema["properties"]["model"]["additionalProperties"]["oneOf"][0];
        assert_eq!(properties(model), names(&[keys::MODEL, &[Key::new("decay", Shape::Number, "")]]));
        assert_eq!(
            (&model["properties"]["kind"]["enum"], &model["required"]),
            (&json!(["mean"]), &json!(["kind", "decay"]))
        );
        let source = &schema["properties"]["source"]["additionalProperties"]["oneOf"];
        for (number, connector) in Connectors::default().sources().enumerate() {
            let [own, payload, paced] = keys::of_source(&connector);
            assert_eq!(properties(&source[number]), names(&[keys::SOURCE, own, payload, paced]), "{}", connector.name);
        }
        assert_eq!(properties(&schema["properties"]["table"]["additionalProperties"]), names(&[keys::TABLE]));
        let stream = &schema["properties"]["stream"]["additionalProperties"];
        assert_eq!(properties(stream), names(&[keys::STREAM, keys::OPERATORS]));
        assert_eq!(stream["oneOf"].as_array().map(Vec::len), Some(keys::OPERATORS.len()));
        for key in keys::OPERATORS {
            let (Shape::Table(keys) | Shape::OpenTable(keys)) = &key.shape else { continue };
            assert_eq!(properties(&stream["properties"][key.name]), names(&[keys]), "{}", key.name);
        }
        assert_eq!(properties(&stream["properties"]["flat_map"]), names(&[keys::FLAT_MAP]));
        let output = &schema["properties"]["output"]["items"];
        let connectors = Connectors::default();
        assert_eq!(properties(output), names(&keys::output(&connectors)));
        assert_eq!(output["oneOf"].as_array().map(Vec::len), Some(keys::sinks(&connectors).len()));
        for key in connectors.sinks().flatten() {
            let (Shape::Table(keys) | Shape::TableWithOneOf(keys, _)) = &key.shape else { continue };
            assert_eq!(properties(&output["properties"][key.name]), names(&[keys]), "{}", key.name);
        }
    }

    #[test]
    fn every_property_is_described_and_every_object_closed() {
        fn walk(value: &Value) {
            for (_, property) in value["properties"].as_object().into_iter().flatten() {
                let constrains_only = property.get("const").is_some() && property.get("type").is_none();
                assert!(constrains_only || property["description"].is_string(), "{property}");
            }
            if value["type"] == "object" {
                assert!(value.get("additionalProperties").is_some(), "{value}");
            }
            match value {
                Value::Object(object) => object.values().for_each(walk),
                Value::Array(items) => items.iter().for_each(walk),
                _ => {}
            }
        }
        walk(&schema(&Connectors::default(), [family()]));
    }
}
