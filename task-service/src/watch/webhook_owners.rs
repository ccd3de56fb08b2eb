//! The owners with webhooks, and those of them that have changes.

use std::{
    collections::HashSet,
    sync::{PoisonError, RwLock},
};

use uuid::Uuid;

use super::notification::{ChangedOwners, PendingChanges};

/// Maximum number of owners that are remembered. With more, all owners are assumed to have webhooks.
const MAX_REMEMBERED: usize = 100_000;

/// The owners with webhooks that this replica has read. A mutation of another owner costs one lookup in memory.
#[derive(Debug, Default)]
pub(crate) struct WebhookOwners {
    remembered: RwLock<Remembered>,
    changed: PendingChanges,
}

#[derive(Debug)]
enum Remembered {
    All,
    Named(HashSet<Uuid>),
}

impl Default for Remembered {
    fn default() -> Self {
        Self::Named(HashSet::new())
    }
}

impl WebhookOwners {
    /// Remembers that an owner has webhooks. Owners are not forgotten until the next start.
    pub(crate) fn remember(&self, owner: Uuid) {
        // Locked for a lookup, never across an await.
        let mut remembered = self.remembered.write().unwrap_or_else(PoisonError::into_inner);
        if let Remembered::Named(owners) = &mut *remembered {
            owners.insert(owner);
            if owners.len() > MAX_REMEMBERED {
                *remembered = Remembered::All;
            }
        }
    }

    /// Announces a change of an owner, unless the owner has no webhooks.
    pub(crate) fn notify(&self, owner: Uuid) {
        let has_webhooks = match &*self.remembered.read().unwrap_or_else(PoisonError::into_inner) {
            Remembered::All => true,
            Remembered::Named(owners) => owners.contains(&owner),
        };
        if has_webhooks {
            self.changed.add(owner);
        }
    }

    /// Announces that any owner may have changes.
    pub(crate) fn notify_all(&self) {
        self.changed.add_all();
    }

    /// Waits until there are owners with changes, and removes and returns them.
    pub(crate) async fn changed(&self) -> ChangedOwners {
        self.changed.next().await
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;

    #[test]
    fn only_changes_of_owners_with_webhooks_are_announced() {
        let owners = WebhookOwners::default();
        let (with, without) = (Uuid::from_u128(1), Uuid::from_u128(2));
        owners.remember(with);
        owners.notify(without);
        assert_eq!(owners.changed().now_or_never(), None);
        owners.notify(with);
        assert_eq!(owners.changed().now_or_never(), Some(ChangedOwners::Named(HashSet::from([with]))));
    }

    #[test]
    fn beyond_the_limit_all_owners_are_assumed_to_have_webhooks() {
        let owners = WebhookOwners::default();
        (0..=100_000).for_each(|owner| owners.remember(Uuid::from_u128(owner)));
        let other = Uuid::max();
        owners.notify(other);
        assert_eq!(owners.changed().now_or_never(), Some(ChangedOwners::Named(HashSet::from([other]))));
    }
}
