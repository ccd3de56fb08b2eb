//! Finds out what a password hash costs on this machine, and what it could cost.

use std::{fmt, time::Duration};

use argon2::{Algorithm, Argon2, Params, PasswordHasher, Version};
use tokio::time::Instant;

/// Memory and passes from the weakest that is good enough (the defaults of the settings) to the strongest that makes
/// sense: more memory before more passes, since memory is what an attacker's hardware lacks.
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

/// How often each is tried; the median counts.
const TRIES: usize = 5;

/// What a hash costs (argon2id, p = 1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Cost {
    memory_kib: u32,
    passes: u32,
}

impl Cost {
    fn measure(self) -> anyhow::Result<Duration> {
        let params = Params::new(self.memory_kib, self.passes, 1, None);
        let params = params.map_err(|error| anyhow::anyhow!("argon2 does not take {self:?}: {error}"))?;
        let argon2 = Argon2::new(Algorithm::Argon2id, Version::V0x13, params);
        let mut times = Vec::with_capacity(TRIES);
        for _ in 0..TRIES {
            let begun = Instant::now();
            argon2.hash_password(b"correct horse battery staple").map_err(|error| anyhow::anyhow!("{error}"))?;
            times.push(begun.elapsed());
        }
        times.sort_unstable();
        Ok(times[TRIES / 2])
    }
}

impl fmt::Display for Cost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "--password-memory-kib {} --password-passes {}", self.memory_kib, self.passes)
    }
}

/// Measures ever costlier hashes until one takes longer than `target`, tells of each, and proposes the costliest that
/// does not: never one that is cheaper than the defaults.
///
/// # Errors
/// If a hash cannot be computed, for lack of memory, or what it tells cannot be written.
pub fn propose(target: Duration, mut tell: impl FnMut(fmt::Arguments<'_>) -> anyhow::Result<()>) -> anyhow::Result<()> {
    let mut best = None;
    for cost in CANDIDATES {
        let time = cost.measure()?;
        tell(format_args!("{:>8.1} ms  {cost}", time.as_secs_f64() * 1e3))?;
        if time > target {
            break;
        }
        best = Some(cost);
    }
    let limit = target.as_millis();
    match best {
        Some(best) => tell(format_args!("\nfor at most {limit} ms a hash: {best}")),
        None => {
            tell(format_args!("\nnothing that is good enough takes at most {limit} ms; the least: {}", CANDIDATES[0]))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn proposal(target: Duration) -> (usize, String) {
        let mut lines = Vec::new();
        propose(target, |line| {
            lines.push(line.to_string());
            Ok(())
        })
        .expect("measured");
        (lines.len(), lines.pop().expect("a proposal"))
    }

    #[test]
    fn nothing_weaker_than_the_defaults_is_proposed() {
        let (lines, proposed) = proposal(Duration::ZERO);
        assert_eq!(lines, 2);
        assert!(proposed.contains("nothing that is good enough takes at most 0 ms"), "{proposed}");
        assert!(proposed.ends_with("--password-memory-kib 19456 --password-passes 2"), "{proposed}");
    }

    #[test]
    fn candidates_cost_ever_more() {
        let work = |cost: &Cost| u64::from(cost.memory_kib) * u64::from(cost.passes);
        assert!(CANDIDATES.is_sorted_by(|a, b| work(a) < work(b)));
    }
}
