//! Measures password hashes on this machine and recommends their parameters.

use std::{fmt, time::Duration};

use argon2::{Algorithm, Argon2, Params, PasswordHasher, Version};
use tokio::time::Instant;

/// Parameters from the weakest secure ones (the defaults of the settings) to the strongest useful ones. Memory grows
/// before the number of passes, because an attacker's hardware lacks memory.
const CANDIDATES: [Cost; 9] = [
    Cost { memory_kib: 19_456, passes: 2 },
    Cost { memory_kib: 32_768, passes: 2 },
    Cost { memory_kib: 65_536, passes: 2 },
    Cost { memory_kib: 65_536, passes: 3 },
    Cost { memory_kib: 131_072, passes: 3 },
    Cost { memory_kib: 262_144, passes: 3 },
    Cost { memory_kib: 524_288, passes: 3 },
    Cost { memory_kib: 1_048_576, passes: 3 },
    Cost { memory_kib: 1_048_576, passes: 4 },
];

/// How often each candidate is measured. The median is used.
const RUNS: usize = 5;

/// The cost parameters of a hash (argon2id, p = 1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Cost {
    memory_kib: u32,
    passes: u32,
}

impl Cost {
    fn measure(self) -> anyhow::Result<Duration> {
        let params = Params::new(self.memory_kib, self.passes, 1, None);
        let params = params.map_err(|error| anyhow::anyhow!("argon2 does not accept {self:?}: {error}"))?;
        let argon2 = Argon2::new(Algorithm::Argon2id, Version::V0x13, params);
        let mut times = Vec::with_capacity(RUNS);
        for _ in 0..RUNS {
            let start = Instant::now();
            argon2.hash_password(b"correct horse battery staple").map_err(|error| anyhow::anyhow!("{error}"))?;
            times.push(start.elapsed());
        }
        times.sort_unstable();
        Ok(times[RUNS / 2])
    }
}

impl fmt::Display for Cost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "--password-memory-kib {} --password-passes {}", self.memory_kib, self.passes)
    }
}

/// Measures increasingly expensive hashes until one takes longer than `target`, and prints each. Recommends the most
/// expensive one within the target, but never one that is cheaper than the defaults.
///
/// # Errors
/// If a hash cannot be computed, for lack of memory, or if the output cannot be written.
pub fn recommend(
    target: Duration,
    mut print: impl FnMut(fmt::Arguments<'_>) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let mut best = None;
    for cost in CANDIDATES {
        let time = cost.measure()?;
        print(format_args!("{:>8.1} ms  {cost}", time.as_secs_f64() * 1e3))?;
        if time > target {
            break;
        }
        best = Some(cost);
    }
    let limit = target.as_millis();
    match best {
        Some(best) => print(format_args!("\nrecommended for at most {limit} ms per hash: {best}")),
        None => print(format_args!("\nno secure parameters take at most {limit} ms; the cheapest: {}", CANDIDATES[0])),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn recommendation(target: Duration) -> (usize, String) {
        let mut lines = Vec::new();
        recommend(target, |line| {
            lines.push(line.to_string());
            Ok(())
        })
        .expect("measured");
        (lines.len(), lines.pop().expect("a recommendation"))
    }

    #[test]
    fn parameters_weaker_than_the_defaults_are_not_recommended() {
        let (lines, recommended) = recommendation(Duration::ZERO);
        assert_eq!(lines, 2);
        assert!(recommended.contains("no secure parameters take at most 0 ms"), "{recommended}");
        assert!(recommended.ends_with("--password-memory-kib 19456 --password-passes 2"), "{recommended}");
    }

    #[test]
    fn candidates_are_in_the_order_of_their_cost() {
        let work = |cost: &Cost| u64::from(cost.memory_kib) * u64::from(cost.passes);
        assert!(CANDIDATES.is_sorted_by(|a, b| work(a) < work(b)));
    }
}
