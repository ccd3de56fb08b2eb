//! Numbers: their ranges, and the ways to write them.

use serde_json::json;

use super::transcoder::{assert_read, assert_refused};

#[tokio::test]
async fn integers_of_32_bits_are_numbers_and_keep_to_their_range() {
    for field in ["anInt32", "aSint32", "aSfixed32"] {
        assert_read(
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
    for (field, at) in [("anInt32", "an_int32"), ("aSint32", "a_sint32"), ("aSfixed32", "a_sfixed32")] {
        assert_refused(field, at, &["2147483648", "-2147483649", "\"2147483648\"", "1e10"]).await;
    }
    for field in ["aUint32", "aFixed32"] {
        assert_read(field, &[("4294967295", json!(u32::MAX)), ("\"4294967295\"", json!(u32::MAX))]).await;
    }
    for (field, at) in [("aUint32", "a_uint32"), ("aFixed32", "a_fixed32")] {
        assert_refused(field, at, &["4294967296", "-1", "\"-1\""]).await;
    }
}

#[tokio::test]
async fn integers_of_64_bits_are_written_as_strings_and_keep_to_their_range() {
    for field in ["anInt64", "aSint64", "aSfixed64"] {
        assert_read(
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
    for (field, at) in [("anInt64", "an_int64"), ("aSint64", "a_sint64"), ("aSfixed64", "a_sfixed64")] {
        let beyond = ["9223372036854775808", "-9223372036854775809", "\"9223372036854775808\"", "1e19"];
        assert_refused(field, at, &beyond).await;
        assert_refused(field, at, &["\"-9223372036854775809\"", "-1e19"]).await;
    }
    for field in ["aUint64", "aFixed64"] {
        let most = json!("18446744073709551615");
        assert_read(field, &[("18446744073709551615", most.clone()), ("\"18446744073709551615\"", most)]).await;
    }
    for (field, at) in [("aUint64", "a_uint64"), ("aFixed64", "a_fixed64")] {
        assert_refused(field, at, &["18446744073709551616", "-1", "\"18446744073709551616\""]).await;
    }
}

#[tokio::test]
async fn an_integer_may_have_an_exponent_or_zeros_after_the_point() {
    let hundred = ["100", "1e2", "1E2", "1.0e2", "100.000", "\"100\"", "\"1e2\"", "\"100.0\"", "1000e-1"];
    assert_read("anInt32", &hundred.map(|text| (text, json!(100)))).await;
    assert_read("anInt64", &hundred.map(|text| (text, json!("100")))).await;
}

#[tokio::test]
async fn what_is_no_integer_is_refused() {
    let wrong =
        ["0.5", "1e-1", "\"\"", "\" 1\"", "\"1 \"", "\"+1\"", "\"0x1\"", "\"1.\"", "\"01\"", "true", "[1]", "{}"];
    assert_refused("anInt32", "an_int32", &wrong).await;
    assert_refused("aUint64", "a_uint64", &wrong).await;
    assert_refused("anInt64", "an_int64", &["\"NaN\"", "\"Infinity\"", "\"1_000\"", "\"١\""]).await;
}

#[tokio::test]
async fn doubles_keep_every_digit() {
    assert_read(
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
    assert_refused("aDouble", "a_double", &["\"1e999\"", "\"\"", "\" 1\"", "\"1,5\"", "true", "[]"]).await;
}

#[tokio::test]
async fn floats_are_the_nearest_ones_in_their_range() {
    assert_read(
        "aFloat",
        &[
            ("0.1", json!(0.1)),
            ("3.4028235e38", json!(3.402_823_5e38)),
            ("1e-46", json!(0.0)),
            ("\"-2.5\"", json!(-2.5)),
        ],
    )
    .await;
    assert_refused("aFloat", "a_float", &["3.5e38", "-3.5e38", "\"1e39\"", "1e308"]).await;
}

#[tokio::test]
async fn what_is_no_number_has_a_name() {
    for field in ["aDouble", "aFloat", "aDoubleValue", "aFloatValue"] {
        let named = ["\"NaN\"", "\"Infinity\"", "\"-Infinity\""];
        assert_read(field, &named.map(|text| (text, json!(text.trim_matches('"'))))).await;
    }
    for (field, at) in [("aDouble", "a_double"), ("aFloatValue", "a_float_value")] {
        assert_refused(field, at, &["\"nan\"", "\"inf\"", "\"+Infinity\"", "\"infinity\"", "\"-NaN\""]).await;
    }
}
