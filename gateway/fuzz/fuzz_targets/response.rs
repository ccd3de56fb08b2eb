#![no_main]

#[path = "../transcoder.rs"]
mod transcoder;

libfuzzer_sys::fuzz_target!(
    init: std::sync::LazyLock::force(&transcoder::TRANSCODER),
    |data: &[u8]| transcoder::TRANSCODER.response(data)
);
