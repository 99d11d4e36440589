//! The parameters of a family: a struct that is read and written, and says of itself what the JSON Schema of definitions has to say.

use crate::family::{Data, Family};
use serde_json::{Map, Value, json};

/// A struct of parameters, which `parameters!` makes.
pub trait Parameters: Data + Default {
    /// The comment on the struct, as lines.
    const ABOUT: &'static str;

    /// In the order of the struct.
    const ALL: &'static [Parameter];
}

/// A parameter.
#[derive(Debug)]
pub struct Parameter {
    /// As it is written.
    pub name: &'static str,
    /// The comment on the field, as lines.
    pub about: &'static str,
    /// The JSON Schema of its type.
    pub schema: fn() -> Value,
}

/// A struct of parameters, each with a comment and a default: the struct, its [`Default`], how it is read and written (one that is
/// missing has its default, one that is not known is refused), and its [`Parameters`].
macro_rules! parameters {
    (
        $(#[doc = $about:literal])+
        pub struct $name:ident {
            $($(#[doc = $of_field:literal])+ pub $field:ident: $type:ty = $default:expr,)*
        }
    ) => {
        $(#[doc = $about])+
        #[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
        #[serde(default, deny_unknown_fields)]
        pub struct $name {
            $($(#[doc = $of_field])+ pub $field: $type,)*
        }

        impl Default for $name {
            fn default() -> Self {
                $name { $($field: $default,)* }
            }
        }

        impl $crate::parameters::Parameters for $name {
            const ABOUT: &'static str = concat!($($about, "\n"),+);
            const ALL: &'static [$crate::parameters::Parameter] = &[$(
                $crate::parameters::Parameter {
                    name: stringify!($field),
                    about: concat!($($of_field, "\n"),+),
                    schema: <$type as $crate::parameters::Type>::schema,
                },
            )*];
        }
    };
}
pub(crate) use parameters;

/// The type of a parameter.
pub(crate) trait Type {
    /// The JSON Schema of what may be written.
    fn schema() -> Value;
}

/// An enum of words as the type of a parameter: its name, and the names of all its variants.
macro_rules! words {
    ($name:ident: $($word:ident),+) => {
        impl $crate::parameters::Type for $name {
            fn schema() -> serde_json::Value {
                // A variant that is not among them does not compile.
                let _ = |word: $name| match word { $($name::$word => ()),+ };
                serde_json::json!({ "enum": [$($name::$word),+] })
            }
        }
    };
}
pub(crate) use words;

impl Type for f64 {
    fn schema() -> Value {
        json!({ "type": "number" })
    }
}

impl Type for u32 {
    fn schema() -> Value {
        json!({ "type": "integer", "minimum": 0, "maximum": u32::MAX })
    }
}

impl Type for u64 {
    fn schema() -> Value {
        json!({ "type": "integer", "minimum": 0 })
    }
}

impl Type for bool {
    fn schema() -> Value {
        json!({ "type": "boolean" })
    }
}

impl Type for String {
    fn schema() -> Value {
        json!({ "type": "string" })
    }
}

impl<T: Type> Type for Vec<T> {
    fn schema() -> Value {
        json!({ "type": "array", "items": T::schema() })
    }
}

/// What may be left out.
impl<T: Type> Type for Option<T> {
    fn schema() -> Value {
        T::schema()
    }
}

/// The JSON Schema of a table of the family's parameters: each with its comment and its default, those without which it cannot be as
/// required.
pub(crate) fn schema<F: Family>() -> Value {
    let spec = F::Spec::default();
    let defaults = serde_json::to_value(&spec).unwrap_or_default();
    let properties: Map<String, Value> = F::Spec::ALL
        .iter()
        .map(|parameter| {
            let mut property = (parameter.schema)();
            property["description"] = json!(one_line(parameter.about));
            if let Some(default) = defaults.get(parameter.name).filter(|default| !default.is_null()) {
                property["default"] = default.clone();
            }
            (parameter.name.to_owned(), property)
        })
        .collect();
    let required: Vec<&str> = F::validate(&spec).err().iter().map(|wrong| wrong.parameter).collect();
    json!({
        "type": "object",
        "description": one_line(F::Spec::ABOUT),
        "properties": properties,
        "required": required,
        "additionalProperties": false,
    })
}

/// The lines of a comment as one.
fn one_line(comment: &str) -> String {
    comment.split_whitespace().collect::<Vec<_>>().join(" ")
}
