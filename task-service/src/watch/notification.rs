//! Notifications between replicas: the owners with changes, and the payloads that name them.

use std::{
    collections::HashSet,
    sync::{Mutex, MutexGuard, PoisonError},
};

use tokio::sync::Notify;
use uuid::Uuid;

/// Maximum number of owners that are collected. With more, all owners are assumed to have changes.
const MAX_COLLECTED: usize = 4000;

/// Maximum number of owners in a payload, which must be shorter than 8000 bytes.
const MAX_NAMED: usize = 200;

/// The length of an id in a payload.
const ID_LENGTH: usize = 32;

/// Owners with changes.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum ChangedOwners {
    All,
    Named(HashSet<Uuid>),
}

impl Default for ChangedOwners {
    fn default() -> Self {
        Self::Named(HashSet::new())
    }
}

impl ChangedOwners {
    fn add(&mut self, owner: Uuid) {
        if let Self::Named(owners) = self {
            owners.insert(owner);
            if owners.len() > MAX_COLLECTED {
                *self = Self::All;
            }
        }
    }

    /// Returns the payloads of the notifications with these owners: the id of the sending replica, followed by the ids
    /// of the owners or, if all may have changes, by nothing.
    pub(crate) fn to_payloads(&self, replica: Uuid) -> Vec<String> {
        let join =
            |owners: &[Uuid]| [&[replica][..], owners].concat().iter().map(|id| id.simple().to_string()).collect();
        match self {
            Self::All => vec![join(&[])],
            Self::Named(owners) => {
                let owners: Vec<Uuid> = owners.iter().copied().collect();
                owners.chunks(MAX_NAMED).map(join).collect()
            }
        }
    }

    /// Parses a payload. Returns the sending replica and its owners, or `None` if the payload is not valid.
    pub(crate) fn parse(payload: &str) -> Option<(Uuid, Self)> {
        let ids: Option<Vec<Uuid>> = payload
            .as_bytes()
            .chunks(ID_LENGTH)
            .map(|id| Uuid::try_parse_ascii(id).ok().filter(|_| id.len() == ID_LENGTH))
            .collect();
        let ids = ids?;
        let (replica, owners) = ids.split_first()?;
        let owners = if owners.is_empty() { Self::All } else { Self::Named(owners.iter().copied().collect()) };
        Some((*replica, owners))
    }
}

/// Collects owners with changes until they are read or announced.
#[derive(Debug, Default)]
pub(crate) struct PendingChanges {
    owners: Mutex<ChangedOwners>,
    added: Notify,
}

impl PendingChanges {
    pub(crate) fn add(&self, owner: Uuid) {
        self.lock().add(owner);
        self.added.notify_one();
    }

    pub(crate) fn add_all(&self) {
        *self.lock() = ChangedOwners::All;
        self.added.notify_one();
    }

    /// Waits until there are owners, and removes and returns them.
    pub(crate) async fn next(&self) -> ChangedOwners {
        loop {
            let owners = std::mem::take(&mut *self.lock());
            if owners != ChangedOwners::default() {
                return owners;
            }
            self.added.notified().await;
        }
    }

    // Locked for a lookup, never across an await.
    fn lock(&self) -> MutexGuard<'_, ChangedOwners> {
        self.owners.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;

    const REPLICA: Uuid = Uuid::from_u128(7);

    fn owners(count: u128) -> impl Iterator<Item = Uuid> {
        (0..count).map(Uuid::from_u128)
    }

    #[test]
    fn payloads_name_the_owners_and_are_short_enough_for_postgres() {
        let named: HashSet<Uuid> = owners(450).collect();
        let payloads = ChangedOwners::Named(named.clone()).to_payloads(REPLICA);
        assert_eq!(payloads.len(), 3);
        assert!(payloads.iter().all(|payload| payload.len() < 8000));
        let parsed = payloads.iter().map(|payload| match ChangedOwners::parse(payload) {
            Some((REPLICA, ChangedOwners::Named(owners))) => owners,
            other => panic!("{other:?}"),
        });
        assert_eq!(parsed.flatten().collect::<HashSet<_>>(), named);
        let all = ChangedOwners::All.to_payloads(REPLICA);
        assert_eq!(ChangedOwners::parse(&all[0]), Some((REPLICA, ChangedOwners::All)));
    }

    #[test]
    fn an_invalid_payload_is_not_parsed() {
        for payload in ["", "7", &"g".repeat(32), &"7".repeat(33)] {
            assert_eq!(ChangedOwners::parse(payload), None, "{payload:?}");
        }
    }

    #[test]
    fn too_many_owners_become_all_owners() {
        let pending = PendingChanges::default();
        assert_eq!(pending.next().now_or_never(), None);
        owners(4000).for_each(|owner| pending.add(owner));
        assert_eq!(pending.next().now_or_never(), Some(ChangedOwners::Named(owners(4000).collect())));
        owners(4001).for_each(|owner| pending.add(owner));
        assert_eq!(pending.next().now_or_never(), Some(ChangedOwners::All));
        assert_eq!(pending.next().now_or_never(), None);
    }
}
