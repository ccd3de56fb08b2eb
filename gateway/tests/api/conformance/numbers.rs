//! Numbers: their ranges and notations.

use serde_json::json;

use super::transcoder::{assert_accepted, assert_rejected};

#[tokio::test]
async fn integers_of_32_bits_are_numbers_within_their_range() {
    for field in ["anInt32", "aSint32", "aSfixed32"] {
        assert_accepted(
            field,
            &[
                ("0", json!(0)),
                ("-0", json!(0)),
                ("2147483647", json!(i32::MAX)),
                ("-2147483648", json!(i32::MIN)),
                ("\"2147483647\"", json!(i32::MAX)),
                ("\"-2147483648\"", json!(i32::MIN)),
                ("2.147483647e9", json!(i32::MAX)),
            ],
        )
        .await;
    }
    for (field, path) in [("anInt32", "an_int32"), ("aSint32", "a_sint32"), ("aSfixed32", "a_sfixed32")] {
        assert_rejected(field, path, &["2147483648", "-2147483649", "\"2147483648\"", "1e10"]).await;
    }
    for field in ["aUint32", "aFixed32"] {
        assert_accepted(field, &[("4294967295", json!(u32::MAX)), ("\"4294967295\"", json!(u32::MAX))]).await;
    }
    for (field, path) in [("aUint32", "a_uint32"), ("aFixed32", "a_fixed32")] {
        assert_rejected(field, path, &["4294967296", "-1", "\"-1\""]).await;
    }
}

#[tokio::test]
async fn integers_of_64_bits_are_strings_within_their_range() {
    for field in ["anInt64", "aSint64", "aSfixed64"] {
        assert_accepted(
            field,
            &[
                ("0", json!("0")),
                ("9223372036854775807", json!("9223372036854775807")),
                ("\"9223372036854775807\"", json!("9223372036854775807")),
                ("-9223372036854775808", json!("-9223372036854775808")),
                ("\"-9223372036854775808\"", json!("-9223372036854775808")),
                ("9007199254740993", json!("9007199254740993")),
                ("1e18", json!("1000000000000000000")),
            ],
        )
        .await;
    }
    for (field, path) in [("anInt64", "an_int64"), ("aSint64", "a_sint64"), ("aSfixed64", "a_sfixed64")] {
        let out_of_range = ["9223372036854775808", "-9223372036854775809", "\"9223372036854775808\"", "1e19"];
        assert_rejected(field, path, &out_of_range).await;
        assert_rejected(field, path, &["\"-9223372036854775809\"", "-1e19"]).await;
    }
    for field in ["aUint64", "aFixed64"] {
        let max = json!("18446744073709551615");
        assert_accepted(field, &[("18446744073709551615", max.clone()), ("\"18446744073709551615\"", max)]).await;
    }
    for (field, path) in [("aUint64", "a_uint64"), ("aFixed64", "a_fixed64")] {
        assert_rejected(field, path, &["18446744073709551616", "-1", "\"18446744073709551616\""]).await;
    }
}

#[tokio::test]
async fn integer_can_have_an_exponent_or_a_zero_fraction() {
    let hundred = ["100", "1e2", "1E2", "1.0e2", "100.000", "\"100\"", "\"1e2\"", "\"100.0\"", "1000e-1"];
    assert_accepted("anInt32", &hundred.map(|text| (text, json!(100)))).await;
    assert_accepted("anInt64", &hundred.map(|text| (text, json!("100")))).await;
}

#[tokio::test]
async fn invalid_integer_is_rejected() {
    let invalid =
        ["0.5", "1e-1", "\"\"", "\" 1\"", "\"1 \"", "\"+1\"", "\"0x1\"", "\"1.\"", "\"01\"", "true", "[1]", "{}"];
    assert_rejected("anInt32", "an_int32", &invalid).await;
    assert_rejected("aUint64", "a_uint64", &invalid).await;
    assert_rejected("anInt64", "an_int64", &["\"NaN\"", "\"Infinity\"", "\"1_000\"", "\"١\""]).await;
}

#[tokio::test]
async fn doubles_keep_full_precision() {
    assert_accepted(
        "aDouble",
        &[
            ("0.1", json!(0.1)),
            ("-0", json!(-0.0)),
            ("1.7976931348623157e308", json!(f64::MAX)),
            ("-1.7976931348623157e308", json!(f64::MIN)),
            ("5e-324", json!(5e-324)),
            ("1e-400", json!(0.0)),
            ("\"1.5\"", json!(1.5)),
            ("\"-1e3\"", json!(-1000.0)),
            ("9007199254740993", json!(9_007_199_254_740_992.0)),
        ],
    )
    .await;
    assert_rejected("aDouble", "a_double", &["\"1e999\"", "\"\"", "\" 1\"", "\"1,5\"", "true", "[]"]).await;
}

#[tokio::test]
async fn floats_are_rounded_within_their_range() {
    assert_accepted(
        "aFloat",
        &[
            ("0.1", json!(0.1)),
            ("3.4028235e38", json!(3.402_823_5e38)),
            ("1e-46", json!(0.0)),
            ("\"-2.5\"", json!(-2.5)),
        ],
    )
    .await;
    assert_rejected("aFloat", "a_float", &["3.5e38", "-3.5e38", "\"1e39\"", "1e308"]).await;
}

#[tokio::test]
async fn nan_and_infinity_are_strings() {
    for field in ["aDouble", "aFloat", "aDoubleValue", "aFloatValue"] {
        let texts = ["\"NaN\"", "\"Infinity\"", "\"-Infinity\""];
        assert_accepted(field, &texts.map(|text| (text, json!(text.trim_matches('"'))))).await;
    }
    for (field, path) in [("aDouble", "a_double"), ("aFloatValue", "a_float_value")] {
        assert_rejected(field, path, &["\"nan\"", "\"inf\"", "\"+Infinity\"", "\"infinity\"", "\"-NaN\""]).await;
    }
}

#[tokio::test]
async fn number_beyond_the_range_of_doubles_is_reported_with_its_field() {
    let digits = "9".repeat(400);
    let texts = ["1e999", "-1e999", "1.5E+400", digits.as_str()];
    for (field, path) in [
        ("aDouble", "a_double"),
        ("aFloat", "a_float"),
        ("anInt32", "an_int32"),
        ("anInt64", "an_int64"),
        ("aBool", "a_bool"),
        ("aString", "a_string"),
        ("aDoubleValue", "a_double_value"),
        ("choiceItem", "choice_item"),
    ] {
        assert_rejected(field, path, &texts).await;
    }
    assert_rejected("numbers", "numbers[1]", &["[1,1e999]"]).await;
}
