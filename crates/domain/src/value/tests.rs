//! Values as JSON and in snapshots.

use proptest::prelude::*;
use serde_json::json;

use super::*;

fn scalar() -> impl Strategy<Value = Value> {
    prop_oneof![
        Just(Value::Empty),
        any::<bool>().prop_map(Value::Flag),
        any::<i64>().prop_map(Value::Integer),
        // Every finite decimal, the extreme ones too.
        any::<f64>().prop_filter("finite", |number| number.is_finite()).prop_map(Value::Decimal),
        ".{0,40}".prop_map(Value::Text),
    ]
}

fn value() -> impl Strategy<Value = Value> {
    prop_oneof![4 => scalar(), 1 => prop::collection::vec(scalar(), 0..8).prop_map(Value::List)]
}

proptest! {
    #[test]
    fn a_value_reads_back_from_json_text(value in value()) {
        let text = serde_json::to_string(&value).expect("written");
        prop_assert_eq!(serde_json::from_str::<Value>(&text).expect("read"), value);
    }

    #[test]
    fn a_value_reads_back_from_json_in_memory(value in value()) {
        prop_assert_eq!(&Value::try_from(Json::from(&value)).expect("read"), &value);
        prop_assert_eq!(serde_json::from_value::<Value>(Json::from(&value)).expect("read"), value);
    }

    #[test]
    fn a_value_reads_back_from_a_snapshot(value in value()) {
        let bytes = rmp_serde::to_vec(&value).expect("written");
        prop_assert_eq!(rmp_serde::from_slice::<Value>(&bytes).expect("read"), value);
    }

    #[test]
    fn both_ways_of_reading_agree_on_any_json(text in r#"[\[\]{}",:0-9a-z.eE+-]{0,30}"#) {
        let Ok(json) = serde_json::from_str::<Json>(&text) else { return Ok(()) };
        let direct = serde_json::from_str::<Value>(&text).map_err(|e| e.to_string());
        prop_assert_eq!(direct.ok(), Value::try_from(json).ok());
    }
}

#[test]
fn what_no_field_may_hold_is_refused_by_both_ways_of_reading() {
    let long = "a".repeat(MAX_TEXT_BYTES + 1);
    for json in
        [json!({}), json!([[1]]), json!([{}]), json!(long), json!([long]), json!(vec![0; MAX_LIST_ITEMS + 1])]
    {
        assert!(Value::try_from(json.clone()).is_err());
        assert!(serde_json::from_value::<Value>(json.clone()).is_err());
        assert!(serde_json::from_str::<Value>(&json.to_string()).is_err());
    }
    assert!(serde_json::from_str::<Value>("1e999").is_err());
    let most = json!(vec!["a"; MAX_LIST_ITEMS]);
    assert!(serde_json::from_value::<Value>(most).is_ok());
}
