//! Stores new passkeys.

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD as BASE64};
use service_kit::{
    args,
    clock::Timestamp,
    db::{Conn, Db, Error},
};
use uuid::Uuid;

use super::{
    audit,
    factor_accounts::{count_within, lock_account},
    login_challenges, mails, recovery_codes,
    rollback::{self, Rollback},
};
use crate::{
    model::{
        audit::Event,
        factor::{Factor, MAX_FACTORS},
        mail::NewMail,
        passkey_challenge::PasskeyChallenge,
        recovery_code::RecoveryCodeHash,
    },
    webauthn::registration::NewCredential,
};

/// A new passkey.
pub struct NewPasskey {
    /// The primary key.
    pub id: Uuid,
    /// The account.
    pub user_id: Uuid,
    /// The name that the user gave to it.
    pub label: String,
    /// The credential.
    pub credential: NewCredential,
    /// The known ways to reach the authenticator, separated by spaces.
    pub transports: String,
    /// The challenge of the registration.
    pub challenge: PasskeyChallenge,
    /// The id of the site.
    pub site: String,
}

/// What is stored with a new passkey.
pub struct RegistrationRecords {
    /// The recovery codes of the account, if it is the first factor.
    pub recovery_codes: Vec<RecoveryCodeHash>,
    /// The event.
    pub event: Event,
    /// The notice to the owner.
    pub notice: Option<NewMail>,
}

/// The outcome of a registration.
#[derive(Clone, Debug)]
pub enum Registration {
    /// The passkey was stored. True if the recovery codes were stored, because it is the only factor.
    Registered(Factor, bool),
    /// The challenge was used before.
    ChallengeUsed,
    /// A passkey with this credential exists.
    Exists,
    /// The account has too many factors.
    TooMany,
    /// The account was disabled or deleted.
    NoAccount,
    /// The passkeys of this database belong to another site.
    OtherSite,
}

/// Stores a passkey.
///
/// # Errors
/// If the database fails.
pub async fn insert(
    db: &Db,
    now: Timestamp,
    new: NewPasskey,
    records: RegistrationRecords,
) -> Result<Registration, Error> {
    rollback::write(db, move |conn| {
        Box::pin(async move {
            let RegistrationRecords { recovery_codes, event, notice } = records;
            let user_id = new.user_id;
            lock_account(conn, user_id).await?;
            let count = count_within(conn, user_id).await?;
            if count >= MAX_FACTORS {
                return Err(Rollback::Outcome(Registration::TooMany));
            }
            if !login_challenges::complete_within(conn, new.challenge.id, new.challenge.expires_at).await? {
                return Err(Rollback::Outcome(Registration::ChallengeUsed));
            }
            if !pin_site(conn, &new.site).await? {
                return Err(Rollback::Outcome(Registration::OtherSite));
            }
            let factor = insert_within(conn, now, new).await?;
            if count == 0 {
                recovery_codes::replace_within(conn, user_id, &recovery_codes).await?;
            }
            audit::insert(conn, now, user_id, &event).await?;
            mails::insert_optional_within(conn, now, notice.as_ref()).await?;
            Ok(Registration::Registered(factor, count == 0))
        })
    })
    .await
}

/// Stores the id of the site with the first passkey, and replaces it when no passkey is left. Reports whether it is the stored
/// one.
async fn pin_site(conn: &mut Conn, site: &str) -> Result<bool, Error> {
    // The update changes nothing, but returns the row that exists, and locks it, so that registrations wait for each other.
    const UPSERT: &str = "
        insert into passkey_site (id, rp_id) values (1, $1)
        on conflict (id) do update set rp_id = passkey_site.rp_id
        returning rp_id";
    // A statement of its own, so that it sees passkeys that were stored while the first one waited for the lock.
    const REPLACE: &str = "update passkey_site set rp_id = $1 where id = 1 and not exists (select 1 from passkeys)";
    let stored: String = conn.fetch_one(UPSERT, args![site]).await?;
    Ok(stored == site || conn.execute(REPLACE, args![site]).await? > 0)
}

async fn insert_within(conn: &mut Conn, now: Timestamp, new: NewPasskey) -> Result<Factor, Rollback<Registration>> {
    const INSERT: &str = "
        insert into passkeys (id, user_id, credential_id, public_key, algorithm, sign_count, transports, aaguid,
            backup_eligible, backed_up, label, created_at, last_used_at)
        select $1, id, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, null from users where id = $2 and not disabled
        on conflict (credential_id) do nothing
        returning id, 'PASSKEY', label, created_at, last_used_at";
    const EXISTS: &str = "select id from passkeys where credential_id = $1";
    let NewPasskey { id, user_id, label, credential, transports, .. } = new;
    let (credential_id, public_key) = (BASE64.encode(&credential.id), BASE64.encode(&credential.public_key));
    let (algorithm, sign_count) = (credential.algorithm.number(), i64::from(credential.sign_count));
    let (eligible, backed_up) = (credential.backup_eligible, credential.backed_up);
    let values = args![
        id,
        user_id,
        &credential_id,
        public_key,
        algorithm,
        sign_count,
        transports,
        credential.aaguid,
        eligible,
        backed_up,
        label,
        now
    ];
    if let Some(factor) = conn.fetch_optional(INSERT, values).await? {
        return Ok(factor);
    }
    let existing: Option<Uuid> = conn.fetch_optional(EXISTS, args![credential_id]).await?;
    Err(Rollback::Outcome(if existing.is_some() { Registration::Exists } else { Registration::NoAccount }))
}
