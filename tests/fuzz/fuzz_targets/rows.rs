#![no_main]

// Panics that are caught are no findings: the hook that ends the program on any is taken away.
libfuzzer_sys::fuzz_target!(
    init: drop(std::panic::take_hook()),
    |bytes: &[u8]| tidemill_plan::fuzz::rows(bytes)
);
