//! Lists of tasks.

use service_kit::clock::Timestamp;
use uuid::Uuid;

use super::Revision;

/// A row of the table of lists.
#[derive(Clone, Debug)]
pub(crate) struct ListRow {
    pub(crate) owner_id: Uuid,
    pub(crate) id: Uuid,
    pub(crate) title: String,
    pub(crate) create_time: Timestamp,
    pub(crate) update_time: Timestamp,
    pub(crate) revision: Revision,
    /// The sequence number, among the mutations of the owner, of the last one that changed the list.
    pub(crate) change: i64,
}

impl ListRow {
    /// Reports whether this is the default list, which has the id of its owner.
    pub(crate) fn is_default(&self) -> bool {
        self.id == self.owner_id
    }
}
