#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| tidemill_connect::fuzz::part(bytes));
