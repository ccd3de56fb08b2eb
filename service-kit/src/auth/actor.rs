//! The services that act on behalf of a user: the claim `act` (RFC 8693, section 4.1).

use serde_json::{Map, Value};
use uuid::Uuid;

use crate::id;

/// Maximum number of services that act on behalf of a user one after another.
pub const MAX_ACTORS: usize = 3;

/// A service that acts on behalf of a user.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Actor {
    /// The service account: `sub`.
    pub id: Uuid,
    /// The session of the service account: `sid`. The token is refused as soon as it is revoked. `None` if the token was issued
    /// by a version that did not have the claim.
    pub session_id: Option<Uuid>,
}

impl Actor {
    /// Parses the members of the claim. Unknown ones are ignored.
    fn parse(members: &Map<String, Value>) -> Option<Self> {
        let parse = |value: &Value| id::parse(value.as_str()?);
        let session_id = match members.get("sid") {
            Some(session_id) => Some(parse(session_id)?),
            None => None,
        };
        Some(Self { id: parse(members.get("sub")?)?, session_id })
    }
}

/// Creates the claim of actors, the current one first.
pub(super) fn to_act(actors: &[Actor]) -> Option<Map<String, Value>> {
    actors.iter().rev().fold(None, |act, actor| {
        let sub = Some(("sub".to_owned(), Value::from(actor.id.to_string())));
        let sid = actor.session_id.map(|id| ("sid".to_owned(), Value::from(id.to_string())));
        let act = act.map(|act| ("act".to_owned(), Value::Object(act)));
        Some([sub, sid, act].into_iter().flatten().collect())
    })
}

/// Parses the actors in the claim. Returns `None` if it is invalid, or contains too many.
pub(super) fn from_act(act: Option<&Map<String, Value>>) -> Option<Vec<Actor>> {
    let (mut actors, mut next) = (Vec::new(), act);
    while let Some(members) = next {
        actors.push(Actor::parse(members).filter(|_| actors.len() < MAX_ACTORS)?);
        next = match members.get("act") {
            Some(act) => Some(act.as_object()?),
            None => None,
        };
    }
    Some(actors)
}
