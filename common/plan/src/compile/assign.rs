//! Which values a column of state with a declared type takes: those that stay what they are, or are rounded to the digits
//! that were declared. All else is a cast, which has to be written.

use datafusion::arrow::datatypes::DataType;
use tidemill_rows::type_name;

/// Why values of this type do not become the declared one without a cast, or none if they do. A value that does not fit
/// fails the job when it comes.
pub(super) fn refused(found: &DataType, declared: &DataType) -> Option<String> {
    match assignable(found, declared) {
        true => None,
        false => {
            Some(format!("the column is declared as {}, and its update gives {}", called(declared), called(found)))
        }
    }
}

/// What to do about it.
pub(super) fn mend(found: &DataType, declared: &DataType) -> String {
    let declared = called(declared);
    let written = match (found.is_floating() || found.is_decimal()) && (declared == "int" || declared == "bigint") {
        true => format!("`cast(.. as {declared})`, which rounds"),
        false => format!("`cast(.. as {declared})`"),
    };
    format!("declare another type, or say what is meant: {written}")
}

fn called(data_type: &DataType) -> String {
    match data_type {
        DataType::FixedSizeList(_, length) => format!("vector({length})"),
        DataType::List(item) | DataType::LargeList(item) => format!("list of {}", type_name(item.data_type())),
        other => type_name(other),
    }
}

fn assignable(found: &DataType, declared: &DataType) -> bool {
    use DataType::{Date32, Decimal128, FixedSizeList, LargeList, List, Timestamp};
    if found == declared || found.is_null() || (found.is_string() && declared.is_string()) {
        return true;
    }
    match declared {
        to if to.is_integer() => found.is_integer() || matches!(found, Decimal128(_, 0)),
        to if to.is_floating() || to.is_decimal() => found.is_numeric(),
        to if to.is_binary() => found.is_binary(),
        Timestamp(..) => matches!(found, Timestamp(..) | Date32),
        FixedSizeList(to, _) => match found {
            List(item) | LargeList(item) | FixedSizeList(item, _) => assignable(item.data_type(), to.data_type()),
            _ => false,
        },
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decode::arrow_type;
    use std::sync::Arc;
    use tidemill_job::ColumnType;

    #[test]
    fn what_stays_what_it_is() {
        use ColumnType::*;
        let all = [Boolean, Int, BigInt, Float, Double, String, Date, Timestamp, Decimal(10, 2), Binary, Vector(2)];
        for found in all {
            let taken: Vec<_> =
                all.into_iter().filter(|to| refused(&arrow_type(found), &arrow_type(*to)).is_none()).collect();
            let expected = match found {
                Int | BigInt => vec![Int, BigInt, Float, Double, Decimal(10, 2)],
                Float | Double | Decimal(..) => vec![Float, Double, Decimal(10, 2)],
                Date => vec![Date, Timestamp],
                other => vec![other],
            };
            assert_eq!(taken, expected, "{found:?}");
        }
        let list = DataType::List(Arc::new(datafusion::arrow::datatypes::Field::new_list_field(DataType::Int64, true)));
        assert_eq!(refused(&list, &arrow_type(Vector(3))), None);
        assert_eq!(refused(&DataType::Null, &DataType::Int64), None);
    }

    #[test]
    fn what_is_said() {
        let wrong = refused(&DataType::Float64, &DataType::Int64).unwrap();
        assert_eq!(wrong, "the column is declared as bigint, and its update gives double");
        let mend = mend(&DataType::Float64, &DataType::Int64);
        assert_eq!(mend, "declare another type, or say what is meant: `cast(.. as bigint)`, which rounds");
    }
}
