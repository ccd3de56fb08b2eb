//! The resident memory of each program over time.

use std::{collections::BTreeMap, time::Duration};

use tokio::time::Instant;

use crate::faults::{report::report_value, service::Service};

/// The memory at the end is compared to the maximum in this time.
const FIRST_MINUTE: Duration = Duration::from_secs(60);

/// The memory at the end is at most this percentage of that of the first minute. Small programs may grow a little more.
const MAX_PERCENT: u64 = 120;
const ALLOWANCE_KIB: u64 = 8 * 1024;

pub struct Memory {
    begun: Instant,
    /// The maximum of the first minute, the maximum, and the last value of each program, in KiB.
    programs: BTreeMap<String, [u64; 3]>,
}

impl Memory {
    pub fn start() -> Self {
        Self { begun: Instant::now(), programs: BTreeMap::new() }
    }

    /// Measures all programs.
    pub fn measure(&mut self, auth: &[Service], task: &[Service], gateway: &Service) {
        let is_first_minute = self.begun.elapsed() < FIRST_MINUTE;
        let named = |name: &'static str, services: &[Service]| -> Vec<_> {
            let measured = services.iter().enumerate();
            measured.map(|(number, service)| (format!("{name} {number}"), service.memory_kib()[1])).collect()
        };
        for (name, kib) in
            [named("auth", auth), named("task", task), named("gateway", std::slice::from_ref(gateway))].concat()
        {
            let [first, max, last] = self.programs.entry(name).or_default();
            if is_first_minute {
                *first = kib.max(*first);
            }
            *max = kib.max(*max);
            *last = kib;
        }
    }

    /// Prints the measurements. Returns a description of each program that has grown, if it ran long enough.
    pub fn report(&self) -> Vec<String> {
        let ran_long_enough = self.begun.elapsed() > 3 * FIRST_MINUTE;
        let mut grown = Vec::new();
        for (name, [first, max, last]) in &self.programs {
            let text = format!("{name}: {first} KiB in the first minute, {last} KiB at the end, at most {max} KiB");
            report_value("memory", &text);
            if ran_long_enough && *last > first * MAX_PERCENT / 100 + ALLOWANCE_KIB {
                grown.push(format!("the memory has grown: {text}"));
            }
        }
        grown
    }
}
