//! Balances calls over the replicas of a service, and over the connections to each.

/// The number of calls on each connection of each replica.
#[derive(Debug)]
pub struct Balancer {
    numbers: Vec<Vec<usize>>,
    /// The replica that gets the next call if several have the fewest calls.
    next_replica: usize,
}

impl Balancer {
    /// Creates a balancer without calls.
    #[must_use]
    pub fn new(replicas: usize, connections: usize) -> Self {
        Self { numbers: vec![vec![0; connections]; replicas], next_replica: 0 }
    }

    /// Counts a call, and returns its replica and its connection. Calls are made to a replica that does not serve only if
    /// none does.
    pub fn begin(&mut self, serves: impl Fn(usize) -> bool) -> (usize, usize) {
        let count = self.numbers.len();
        let from_next = (0..count).map(|offset| (self.next_replica + offset) % count);
        let replica = from_next.min_by_key(|replica| (!serves(*replica), self.numbers[*replica].iter().sum::<usize>()));
        let replica = replica.unwrap_or_default();
        self.next_replica = (replica + 1) % count;
        let calls = &mut self.numbers[replica];
        let fewest = calls.iter().enumerate().min_by_key(|(_, calls)| **calls);
        let connection = fewest.map(|(connection, _)| connection).unwrap_or_default();
        calls[connection] += 1;
        (replica, connection)
    }

    /// Counts the end of a call.
    pub fn end(&mut self, (replica, connection): (usize, usize)) {
        self.numbers[replica][connection] -= 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_are_balanced_over_the_replicas_that_serve() {
        let mut calls = Balancer::new(3, 2);
        let all: Vec<_> = (0..6).map(|_| calls.begin(|_| true)).collect();
        assert_eq!(all, [(0, 0), (1, 0), (2, 0), (0, 1), (1, 1), (2, 1)]);
        calls.numbers[1] = vec![0, 0];
        let to_free: Vec<_> = (0..2).map(|_| calls.begin(|_| true)).collect();
        assert_eq!(to_free, [(1, 0), (1, 1)]);
        assert!((0..9).all(|_| calls.begin(|replica| replica == 2).0 == 2));
        let mut replicas: Vec<_> = (0..9).map(|_| calls.begin(|_| false).0).collect();
        replicas.dedup();
        assert!(replicas.len() > 1, "if none serves, all are tried: {replicas:?}");
    }

    #[test]
    fn an_idle_service_gets_calls_at_all_replicas() {
        let mut calls = Balancer::new(3, 2);
        let replicas = [(); 6].map(|()| {
            let (replica, connection) = calls.begin(|_| true);
            calls.numbers[replica][connection] -= 1;
            replica
        });
        assert_eq!(replicas, [0, 1, 2, 0, 1, 2]);
    }
}
